"""What the vanilla engines share: run a Hugging Face encoder, with a library's modules in it, on a ragged batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..attention import installed
from ..backbone import Backbone
from ..ragged import RaggedBatch


def run_vanilla(
    model: Any,
    backbone: Backbone,
    batch: RaggedBatch,
    *,
    training: bool,
    upto: int | None,
    padded: bool,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Tensor:
    """Hidden states (tokens, hidden) in packed order, from the library's own forward.

    Packed, it sees one row of all tokens, with our attention installed; padded, it is the stock model on a
    stock batch.

    Args:
        context: Gives, inside a forward, what has to be open again where checkpointing runs a layer again.
    """
    model.train(training)

    def kept(function: Callable[..., Any], *inputs: Any) -> Any:
        opened = [context()] if padded else [context(), installed(model.encoder, batch)]
        return checkpoint(function, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _all(opened)))

    for layer in model.encoder.layer:
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = backbone.checkpointing, kept
    wants = {"output_hidden_states": upto is not None}
    if padded:
        ids, types, mask, index = batch.padded(backbone.config.pad_token_id)
        output = model(input_ids=ids, token_type_ids=types, attention_mask=mask, **wants)
    else:
        positions = batch.positions + backbone.position_offset
        with installed(model.encoder, batch):
            output = model(
                input_ids=batch.input_ids[None],
                token_type_ids=batch.token_type_ids[None],
                position_ids=positions[None],
                attention_mask=torch.ones_like(batch.input_ids)[None],
                **wants,
            )
    hidden = output.last_hidden_state if upto is None else output.hidden_states[upto]
    return hidden.flatten(0, 1)[index] if padded else hidden.squeeze(0)


@contextmanager
def _all(contexts: list[AbstractContextManager[Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in contexts:
            stack.enter_context(one)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors of the libraries are shown while they build a model.

    They warn of fresh head weights that are replaced at once, and of adapters that are not active yet.
    """
    levels = {name: logging.getLogger(name).level for name in ("transformers", "adapters")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
