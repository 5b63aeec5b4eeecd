"""The packed encoder: Hugging Face's layers run on flat tokens, with module parts chosen per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..attention import packed_attention
from ..backbone import Backbone
from ..modules.attention_record import is_recording
from ..modules.base import Part, dropout, through_place, through_sites
from ..ragged import RaggedBatch
from .fused import compiled
from .linears import QKV, Merged, products

Plan = Sequence[Sequence[Part]]
"""One stack of parts for each group of rows of a batch; an empty stack is the plain backbone."""


def encode(
    backbone: Backbone,
    batch: RaggedBatch,
    plan: Plan,
    *,
    training: bool = False,
    upto: int | None = None,
    keep_all: bool = False,
    after: tuple[int, Tensor] | None = None,
    merged: Merged = MappingProxyType({}),
) -> Tensor | list[Tensor]:
    """Hidden states of a ragged batch, each group of rows with its own stack of parts.

    The Hugging Face submodules hold the weights and do the work; only attention is ours. Layers below the
    lowest trainable part run under no_grad: nothing of them is kept for the backward pass. With the backbone's
    checkpointing, the layers above keep their inputs alone, and run again in the backward pass.

    Args:
        plan: As many stacks as the batch has groups.
        training: Dropout as the backbone's config says, and as each part's own setting says.
        upto: Stop after this many layers (0: the embeddings); all by default.
        keep_all: Return the embeddings and the output of every layer.
        after: Go on from here: a number of layers, and the hidden states after them.
        merged: Weights in place of the backbone's, as `merged_weights` makes them.

    Returns:
        Shape (tokens, hidden), in packed order; or a list of layers + 1 of them (of those after `after`, with it).
        If the batch is `first_only`, the last layer computes no more than keys and values for other tokens than the
        rows' first ones, and theirs are zeros; not while the attention of a fusion is recorded.

    Raises:
        ValueError: If the plan does not fit the batch's groups (a bug of the caller).
    """
    if len(plan) != len(batch.group_rows):
        raise ValueError(f"the batch has {len(batch.group_rows)} groups, the plan {len(plan)}")
    model, config = backbone.model, backbone.config
    for stack in plan:
        for part in stack:
            part.train(training)
    learning = [part for stack in plan for part in stack if any(p.requires_grad for p in part.parameters())]
    lowest = min((part.learns_from for part in learning), default=backbone.layers)

    # Weights and states have the backbone's dtype; autocast would widen what norms give, and keep it twice.
    device = backbone.device.type
    with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
        begin, hidden = after or (0, dropout(embed(backbone, batch), config.hidden_dropout_prob, training))
        states = [hidden]
        recorded = is_recording() and any(part.kind == "fusion" for stack in plan for part in stack)
        firsts = batch.offsets[:-1] if batch.first_only and upto is None and not keep_all and not recorded else None
        for index, layer in list(enumerate(model.encoder.layer[:upto]))[begin:]:
            only = firsts if index == backbone.layers - 1 else None
            run = partial(
                _layer, backbone, layer, index, batch=batch, plan=plan, training=training, merged=merged, firsts=only
            )
            if backbone.checkpointing and index >= lowest and torch.is_grad_enabled():
                run = partial(checkpoint, run, use_reentrant=False)
            with torch.no_grad() if index < lowest else nullcontext():
                hidden = run(hidden)
            if keep_all:
                states.append(hidden)
        if firsts is not None and begin < backbone.layers:
            hidden = hidden.new_zeros(batch.tokens, backbone.hidden).index_copy(0, firsts.long(), hidden)
        return states if keep_all else hidden


def embed(backbone: Backbone, batch: RaggedBatch) -> Tensor:
    """Embeddings of a batch without dropout, shape (tokens, hidden), by the backbone's own embedding module."""
    positions = batch.positions + backbone.position_offset
    with torch.no_grad():
        return backbone.model.embeddings(
            input_ids=batch.input_ids[None],
            token_type_ids=batch.token_type_ids[None],
            position_ids=positions[None],
        ).squeeze(0)


def _layer(
    backbone: Backbone,
    layer: Any,
    index: int,
    x: Tensor,
    batch: RaggedBatch,
    plan: Plan,
    training: bool,
    merged: Merged,
    firsts: Tensor | None,
) -> Tensor:
    """One layer; with `firsts`, the first token of each row, only for these: shape (rows, hidden)."""
    config = backbone.config
    rate, attention_rate = (config.hidden_dropout_prob, config.attention_probs_dropout_prob) if training else (0.0, 0.0)

    def at(names: Sequence[str], inputs: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        acting = {name for stack in plan for part in stack for name in names if (index, name) in part.keys}
        # With a graph, views of one product would keep all of it for the backward pass for the sake of one of them.
        as_one = not torch.is_grad_enabled() or len(acting) in (0, len(names))
        outputs, biases = products(layer, index, names, inputs, merged, as_one=as_one)

        def step(stack: Sequence[Part], i: Tensor, o: list[Tensor]) -> list[Tensor]:
            return through_sites(stack, index, names, i, o, biases)

        return _by_group(plan, sizes, step, inputs, outputs)

    def close(name: str, z: Tensor, residual: Tensor, norm: Any) -> Tensor:
        """What ends each half of a layer, with the parts whose place is there."""

        def step(stack: Sequence[Part], r: Tensor, o: list[Tensor]) -> list[Tensor]:
            return [through_place(stack, index, name, o[0], r, norm)]

        if backbone.compile and z.device.type != "meta" and not any((index, name) in p.keys for s in plan for p in s):
            return compiled()(z, residual, norm.weight, norm.bias, norm.eps, rate)
        z = dropout(z, rate, training)
        return norm(_by_group(plan, sizes, step, residual, [z])[0] + residual)

    sizes = batch.group_tokens
    if firsts is None:
        query, key, value = at(QKV, x, sizes)
    else:
        key, value = at(QKV[1:], x, sizes)
        x, sizes = x.index_select(0, firsts), batch.group_rows
        (query,) = at(QKV[:1], x, sizes)
    attended = packed_attention(query, key, value, batch, backbone.heads, attention_rate)
    x = close("attention", at(("attention_output",), attended, sizes)[0], x, layer.attention.output.LayerNorm)
    wide = layer.intermediate.intermediate_act_fn(at(("ffn_up",), x, sizes)[0])
    return close("ffn", at(("ffn_down",), wide, sizes)[0], x, layer.output.LayerNorm)


def _by_group(
    plan: Plan,
    sizes: Sequence[int],
    step: Callable[[Sequence[Part], Tensor, list[Tensor]], list[Tensor]],
    inputs: Tensor,
    outputs: list[Tensor],
) -> list[Tensor]:
    """Let each group's stack of parts work on that group's tokens only; `sizes` is their number in each group."""
    if len(plan) == 1:
        return step(plan[0], inputs, outputs)
    tokens = list(sizes)
    before = [list(group) for group in zip(*(output.split(tokens) for output in outputs), strict=True)]
    after = [
        step(stack, i, o) if i.shape[0] else o for stack, i, o in zip(plan, inputs.split(tokens), before, strict=True)
    ]
    changed = [any(b[n] is not a[n] for b, a in zip(before, after, strict=True)) for n in range(len(outputs))]
    return [torch.cat([group[n] for group in after]) if changed[n] else output for n, output in enumerate(outputs)]
