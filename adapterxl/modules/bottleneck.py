"""Bottleneck adapters: a small network after a block, in the three published placements.

Sources: seq_bn: Pfeiffer et al. 2020, https://arxiv.org/abs/2005.00247; double_seq_bn: Houlsby et al. 2019,
https://arxiv.org/abs/1902.00751; par_bn: He et al. 2022, https://arxiv.org/abs/2110.04366. Formulas and
initial values are those of the adapters library, so that its folders and ours mean the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError, did_you_mean
from .base import Part, dropout, linear
from .lora import Dimensions, choose_layers, is_number


@dataclass(frozen=True)
class Variant:
    """Where a variant sits and what it computes."""

    places: tuple[str, ...]
    activation: str
    reduction: int
    scaling: float
    summary: str


VARIANTS: dict[str, Variant] = {
    "seq_bn": Variant(("ffn",), "relu", 16, 1.0, "after the feed-forward block (Pfeiffer et al. 2020)"),
    "double_seq_bn": Variant(("attention", "ffn"), "swish", 16, 1.0, "after both blocks (Houlsby et al. 2019)"),
    "par_bn": Variant(("ffn",), "relu", 2, 4.0, "beside the feed-forward block (He et al. 2022)"),
}
_ACTIVATIONS = {"relu": nn.functional.relu, "swish": nn.functional.silu}
_WEIGHTS = ("down.weight", "down.bias", "up.weight", "up.bias")


@dataclass(frozen=True)
class Bottleneck:
    """Settings of a bottleneck module.

    Attributes:
        reduction: Hidden size / width of the bottleneck; the variant's published value when not given
            (16; par_bn: 2).
        variant: seq_bn, double_seq_bn or par_bn.
        dropout: On the output of the up-projection.
        layers: Which layers; all by default.
    """

    reduction: int | None = None
    variant: str = "seq_bn"
    dropout: float = 0.0
    layers: tuple[int, ...] | None = None

    method = "bottleneck"
    summary = "small networks after (or beside) the blocks of a layer: seq_bn, double_seq_bn, par_bn"
    # At hidden size 768; scaled by 768 / hidden. Pfeiffer et al. 2020 train with 1e-4 for many epochs;
    # we default to few, and Houlsby et al. 2019 found 3e-4 to 3e-3 best on GLUE.
    base_lr = 5e-4

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(
                f"No bottleneck variant '{self.variant}'.{did_you_mean(self.variant, VARIANTS)} "
                f"Variants: {', '.join(VARIANTS)}."
            )
        if self.reduction is not None and (type(self.reduction) is not int or self.reduction < 1):
            raise UsageError(f"Bottleneck reduction: found {self.reduction!r}, expected a whole number from 1.")
        if not (is_number(self.dropout) and 0 <= self.dropout < 1):
            raise UsageError(f"Bottleneck dropout: found {self.dropout!r}, expected 0 <= dropout < 1.")

    def build(self, name: str, on: Dimensions, generator: torch.Generator, dtype: torch.dtype) -> BottleneckPart:
        """A new module, near the identity: normal(0, 0.02) weights, or for par_bn a zero up-projection."""
        variant = VARIANTS[self.variant]
        width = max(on.hidden // (self.reduction or variant.reduction), 1)
        weights: dict[tuple[int, str], dict[str, Tensor]] = {}
        for layer in choose_layers(self.layers, on.layers):
            for place in variant.places:
                if self.variant == "par_bn":
                    down = (2 * torch.rand(width, on.hidden, generator=generator, dtype=torch.float64) - 1) / math.sqrt(
                        on.hidden
                    )
                    up = torch.zeros(on.hidden, width, dtype=torch.float64)
                else:
                    down = 0.02 * torch.randn(width, on.hidden, generator=generator, dtype=torch.float64)
                    up = 0.02 * torch.randn(on.hidden, width, generator=generator, dtype=torch.float64)
                values = (down, torch.zeros(width), up, torch.zeros(on.hidden))
                weights[layer, place] = {key: value.to(dtype) for key, value in zip(_WEIGHTS, values, strict=True)}
        return BottleneckPart(name, self.variant, weights, dropout_p=self.dropout)


class BottleneckPart(Part):
    """Bottleneck weights. With z the block's output, h its input, f(u) = up(act(down(u))):

    seq_bn: z + f(LN(z + h)); double_seq_bn: z + f(z); par_bn: z + 4 f(h). The block then ends as always,
    in LN(z + h). A stack applies one after another.

    Args:
        weights: (layer, place) -> down.weight (width, hidden), down.bias, up.weight (hidden, width), up.bias.
    """

    kind = "bottleneck"

    def __init__(
        self,
        name: str,
        variant: str,
        weights: Mapping[tuple[int, str], Mapping[str, Tensor]],
        *,
        dropout_p: float = 0.0,
        task: str = "",
        trained_on: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, task, trained_on)
        self.variant, self.dropout_p = variant, dropout_p
        self.keys = tuple(sorted(weights))
        self.weights = nn.ParameterDict(
            {_flat(key, weight): nn.Parameter(weights[key][weight]) for key in self.keys for weight in _WEIGHTS}
        )

    def adapt(self, layer: int, place: str, z: Tensor, residual: Tensor, norm: nn.Module) -> Tensor:
        if (layer, place) not in self.keys:
            return z
        up = self.up(layer, place, self.source(z, residual, norm))
        return z + dropout(up, self.dropout_p, self.training)

    def source(self, z: Tensor, residual: Tensor, norm: nn.Module) -> Tensor:
        """What the variant's small network takes as its input, shape (tokens, hidden)."""
        if self.variant == "seq_bn":
            normalised: Tensor = norm(z + residual)
            return normalised
        return residual if self.variant == "par_bn" else z

    def up(self, layer: int, place: str, u: Tensor) -> Tensor:
        """The small network alone, f(u), without residual and dropout; only where it acts."""
        down_w, down_b, up_w, up_b = (self.weights[_flat((layer, place), weight)] for weight in _WEIGHTS)
        variant = VARIANTS[self.variant]
        up = linear(_ACTIVATIONS[variant.activation](linear(u, down_w, down_b)), up_w, up_b)
        return up if variant.scaling == 1.0 else up * variant.scaling

    @property
    def width(self) -> int:
        """Width of the bottleneck."""
        return self.weights[_flat(self.keys[0], "down.weight")].shape[0]

    def settings(self) -> dict[str, Any]:
        return {"variant": self.variant}

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{layer}.{place}.{weight}": self.weights[_flat((layer, place), weight)].detach()
            for layer, place in self.keys
            for weight in _WEIGHTS
        }


def from_tensors(name: str, variant: str, tensors: Mapping[str, Tensor]) -> BottleneckPart:
    """Build a part from canonical names, as `Part.tensors` gives them."""
    weights: dict[tuple[int, str], dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, place, weight = key.split(".", 2)
        weights.setdefault((int(layer), place), {})[weight] = tensor
    return BottleneckPart(name, variant, weights)


def _flat(key: tuple[int, str], weight: str) -> str:
    return f"{key[0]}_{key[1]}_{weight.replace('.', '_')}"
