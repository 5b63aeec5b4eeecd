"""What a training step takes of a device's memory: the step itself, run on shapes without numbers.

The encoder's own code runs on PyTorch's meta device, forward and backward, on the lengths of a real batch. So the
model of the cost has every method, option and early stop that the code has. Attention alone is a stand-in, for what its
fused kernels keep: queries, keys, values, outputs and one number per row and head.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..backbone import DTYPES, Backbone
from ..data.collate import collate
from ..data.prepare import Item
from ..engines.packed import PackedEngine
from ..evaluation.predict import head_scores
from ..frozen import quantize_linears
from ..modules import Head, Part
from ..modules.heads import row_losses

# CUDA's context and kernels, outside of what PyTorch allocates; by others' reports, not measured by us.
CONTEXT = {"cuda": 500 * 10**6, "cpu": 0}
META = torch.device("meta")


@dataclass(frozen=True)
class Options:
    """What a plan chooses of.

    Attributes:
        accumulation: Into how many batches the one of the settings is cut.
    """

    dtype: str = "fp32"
    bits: int | None = None
    embeddings: str = "device"
    checkpointing: bool = False
    accumulation: int = 1


@dataclass(frozen=True)
class Cost:
    """Bytes on the device at the peak of a step.

    Attributes:
        matrices: The encoder's frozen Linears.
        embeddings: The table of token embeddings; 0 where it is kept on the CPU.
        rest: All other frozen weights, modules below and a frozen head included.
        trained: What learns in fp32, with Adam's two moments, and gradients that wait for the next batch.
        kept: What the forward pass keeps for the backward pass.
        temporary: What else there is at the peak, gradients of this batch included.
        context: What the device takes for itself.
        host: Bytes on the CPU instead.
    """

    matrices: int
    embeddings: int
    rest: int
    trained: int
    kept: int
    temporary: int
    context: int
    host: int

    @property
    def total(self) -> int:
        return sum(vars(self).values()) - self.host


def step_cost(
    on: Backbone, options: Options, frozen: Sequence[Part], new: Part | None,
    batches: Sequence[tuple[Head, Sequence[Item]]], *, copies: int = 0,
) -> Cost:  # fmt: skip
    """The cost of a step of the packed engine. Takes a moment, and no memory.

    Args:
        batches: Each task's head, and its costliest batch: the one of them that takes most tells what a run needs.
        copies: Copies of what learns that are kept beside, such as the best state.
    """
    shadow = _shadow(on, options)
    engine = PackedEngine(shadow, frozen, new)
    heads = {head: head.shaped(shadow) for head, _ in batches}
    learns = [*engine.parameters().values(), *(p for head in heads.values() for p in head.parameters())]
    numbers = sum(p.numel() * p.element_size() for p in learns)
    table = _bytes(shadow.model.embeddings.word_embeddings)
    matrices = sum(_bytes(module, recurse=False) for module in shadow.model.encoder.modules() if _is_linear(module))
    below = sum(_bytes(part) for part in engine.frozen)
    below += sum(t.numel() * t.element_size() for head in heads.values() for t in head.buffers())
    if options.accumulation > 1:
        for parameter in learns:
            parameter.grad = torch.zeros_like(parameter)
    steps = [_run(engine, heads[head], items, learns, shadow) for head, items in batches]
    kept, peak = max(steps, key=lambda step: step[1])
    own = sum(p.numel() * p.element_size() for part in engine.learning.values() for p in part.learnable().values())
    stays = options.embeddings == "device" or on.device.type == "cpu"
    return Cost(
        matrices=matrices,
        embeddings=table if stays else 0,
        rest=_bytes(shadow.model) - matrices - table + below - own,
        trained=numbers * (3 + copies + (options.accumulation > 1)),
        kept=kept,
        temporary=peak - kept,
        context=CONTEXT[on.device.type],
        host=0 if stays else table,
    )


def _shadow(on: Backbone, options: Options) -> Backbone:
    """The backbone in other options, as shapes."""
    import transformers

    shadow = copy.copy(on)
    shadow.__dict__.pop("model", None)
    shadow.config = copy.deepcopy(on.config)
    if on.device.type == "cuda":  # there the kernels draw their dropout masks again instead of keeping them
        shadow.config.attention_probs_dropout_prob = 0.0
    shadow.device, shadow.dtype_name, shadow.bits = META, options.dtype, options.bits
    shadow.checkpointing = options.checkpointing
    kind = {"bert": "BertModel", "xlm-roberta": "XLMRobertaModel"}[on.model_type]
    with META:
        model = getattr(transformers, kind)(shadow.config, add_pooling_layer=False)
        if options.bits:
            quantize_linears(model.encoder, options.bits)
    shadow.__dict__["model"] = model.to(DTYPES[options.dtype]).eval().requires_grad_(False)
    return shadow


def _run(
    engine: PackedEngine, head: Head, items: Sequence[Item], learns: Sequence[nn.Parameter], on: Backbone
) -> tuple[int, int]:
    """Bytes that are kept after the forward pass, and the most that there are in the step."""
    weights = {t.untyped_storage()._cdata for t in (*on.model.parameters(), *on.model.buffers(), *learns)}
    weights |= {t.untyped_storage()._cdata for part in engine.frozen for t in part.parameters()}
    weights |= {t.untyped_storage()._cdata for t in head.buffers()}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = tensor
        return tensor.detach()

    with _Stored() as stored, _shapes_of_attention():
        batch = collate(head.kind, items, META)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = row_losses(head.kind, head_scores(engine, head, batch, training=True), batch.ragged, batch.targets)
            penalty = engine.penalty()
            loss = loss if penalty is None else loss + penalty
        kept = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
        saved.clear()
        loss.backward()
    return kept, stored.peak


class _Stored(TorchDispatchMode):
    """Counts the bytes of storages that are made while it is open, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in inputs:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        def gone(_: object) -> None:
            del self._seen[key]
            self.held -= size

        self._seen[key] = weakref.ref(storage, gone)
        self.held += size
        self.peak = max(self.peak, self.held)


@contextmanager
def _shapes_of_attention() -> Iterator[None]:
    """While open, the stand-in is in the place of fused attention. A mode would miss layers that run again."""
    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = lambda query, key, value, **_: _Fused.apply(query, key, value)
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused


class _Fused(torch.autograd.Function):
    """The shapes of fused attention, for tensors of shape (rows, heads, length, width)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, heads, length, width = query.shape
        out = query.new_empty(rows, length, heads, width).transpose(1, 2)
        ctx.save_for_backward(query, key, value, out, query.new_empty(rows, heads, length, dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _bytes(module: nn.Module, recurse: bool = True) -> int:
    tensors = (*module.parameters(recurse), *module.buffers(recurse))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
