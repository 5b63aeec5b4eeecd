"""How frozen weights are kept in little memory: Linears in 8 or 4 bits, the table of token embeddings on the CPU.

Sources: NF4 with doubly quantised scales: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314; int8 by rows:
Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, of the weights alone. Of bitsandbytes the kernels are used, not
the modules: its int8 Linear keeps its inputs for the backward pass, and its 4-bit one packs weights anew in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import UsageError

BITS = (8, 4)
BLOCK, OUTER_BLOCK = 64, 256  # weights that share a scale in NF4, and scales that share one
INSTALL = 'pip install "adapterxl[quant]"'


def bits_note(bits: int | None) -> tuple[str, ...]:
    """What a user should know of modules that were trained on a backbone in these bits; nothing for None."""
    if bits is None:
        return ()
    kind = {8: "int8", 4: "NF4"}[bits]
    return (f"Trained on a backbone in {bits} bits ({kind}): on other weights it gives other numbers.",)


class QuantizedLinear(nn.Linear):
    """A frozen Linear whose weight matrix is kept in 8 or 4 bits, quantised on the CPU so that every device has the
    same. Products are taken in the dtype of the inputs; the backward pass keeps nothing of them.

    Args:
        linear: What it replaces.
        bits: 8 or 4.

    Attributes:
        weight: int8 of the shape (outputs, inputs), or uint8 with two weights each. `dense` gives the numbers.
    """

    def __init__(self, linear: nn.Linear, bits: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bits = linear.in_features, linear.out_features, bits
        held, scales = _shapes(linear, bits) if linear.weight.is_meta else _quantised(linear, bits)
        self.weight = nn.Parameter(held, requires_grad=False)
        self.bias = linear.bias
        for name, tensor in scales.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = _Product.apply(x, self)
        return product if self.bias is None else product + self.bias.to(x.dtype)

    @torch.no_grad()
    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight matrix that it computes with, shape (outputs, inputs)."""
        from bitsandbytes import functional as bnb

        held: Any = self._buffers
        if self.weight.is_meta:  # of a plan, which has shapes alone
            wide = torch.float32 if self.bits == 8 else dtype
            return torch.empty(self.out_features, self.in_features, dtype=wide, device="meta").to(dtype)
        if self.bits == 8:
            return bnb.int8_vectorwise_dequant(self.weight, held["scales"]).to(dtype)
        outer = bnb.QuantState(held["outer"], code=held["levels"], blocksize=OUTER_BLOCK, dtype=torch.float32)
        state = bnb.QuantState(
            held["scales"], shape=torch.Size((self.out_features, self.in_features)), blocksize=BLOCK, quant_type="nf4",
            dtype=dtype if dtype != torch.float64 else torch.float32, offset=held["offset"], state2=outer,
        )  # fmt: skip
        found: Tensor = bnb.dequantize_4bit(self.weight, state)
        return found.to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        """Weights and scales move between devices, and keep their dtype."""

        def moved(tensor: Tensor) -> Tensor:
            return fn(tensor) if tensor is self.bias else tensor.to(fn(tensor[:0]).device)

        super()._apply(moved, recurse)
        return self


def _quantised(linear: nn.Linear, bits: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The weights in few bits, and what gives their scale."""
    from bitsandbytes import functional as bnb

    dense = linear.weight.detach().float().cpu()
    if bits == 8:
        held, scales, _ = bnb.int8_vectorwise_quant(dense)
        return held, {"scales": scales}
    held, state = bnb.quantize_4bit(dense, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
    outer = {"outer": state.state2.absmax, "levels": state.state2.code, "offset": state.offset.reshape(1)}
    return held, {"scales": state.absmax} | outer


def _shapes(linear: nn.Linear, bits: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The same without numbers."""
    count, meta = linear.weight.numel(), torch.device("meta")
    if bits == 8:
        return torch.empty_like(linear.weight, dtype=torch.int8), {
            "scales": torch.empty(len(linear.weight), device=meta)
        }
    blocks = -(count // -BLOCK)
    sizes = {"outer": -(blocks // -OUTER_BLOCK), "levels": 256, "offset": 1}
    outer = {name: torch.empty(size, device=meta) for name, size in sizes.items()}
    scales = torch.empty(blocks, dtype=torch.uint8, device=meta)
    return torch.empty(-(count // -2), 1, dtype=torch.uint8, device=meta), {"scales": scales} | outer


class _Product(torch.autograd.Function):
    """x W', with W made dense for the forward and again for the backward pass, and kept in neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear = linear
        return F.linear(x, linear.dense(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.linear.dense(gradient.dtype), None


class CpuEmbedding(nn.Embedding):
    """A frozen table of embeddings that stays on the CPU wherever its model goes, and gives rows to other devices."""

    def __init__(self, table: nn.Embedding) -> None:
        count, width = table.weight.shape
        super().__init__(count, width, padding_idx=table.padding_idx, _weight=table.weight, _freeze=True)

    def forward(self, input: Tensor) -> Tensor:
        """Rows of the token ids `input`, of any shape, on their device: each distinct one is sent once."""
        distinct, places = input.unique(return_inverse=True)
        return self.rows(distinct.cpu()).to(input.device)[places]

    def rows(self, ids: Tensor) -> Tensor:
        """Rows of distinct token ids, shape (ids, hidden), on the CPU."""
        return self.weight[ids]

    def plain(self) -> nn.Embedding:
        """The same as a table that goes where its model goes."""
        count, width = self.weight.shape
        return nn.Embedding(count, width, padding_idx=self.padding_idx, _weight=self.weight, _freeze=True)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CpuEmbedding:
        return self


def available() -> bool:
    """Whether the extra is installed."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        return False
    return True


def check_available() -> None:
    """Refuse in one line what cannot run without the extra."""
    if not available():
        raise UsageError(f"8 and 4 bits need the package bitsandbytes, which is not installed: {INSTALL}.")


def quantize_linears(model: nn.Module, bits: int) -> None:
    """Put a `QuantizedLinear` in the place of every Linear."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, QuantizedLinear(child, bits))


def dense_weight(linear: nn.Linear) -> Tensor:
    """A Linear's weight matrix in floating point, shape (outputs, inputs)."""
    return linear.dense(torch.float32) if isinstance(linear, QuantizedLinear) else linear.weight
