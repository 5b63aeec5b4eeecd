"""IA3: a factor for each output of a Linear, bias included. It is imported and run; we do not train it.

Source: Liu et al. 2022, https://arxiv.org/abs/2205.05638, for keys, values and the first Linear of the feed-forward
block. The form that scales a Linear's inputs instead has no place here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .base import SITES, Part
from .lora import Key, flat_name


class IA3Part(Part):
    """IA3 weights: l * (W x + bias).

    Args:
        scales: (layer, site) -> shape (outputs,).
    """

    kind = "ia3"

    def __init__(self, name: str, scales: Mapping[Key, Tensor], *, task: str = "", trained_on: tuple[str, ...] = ()):
        super().__init__(name, task, trained_on)
        self.keys = tuple(sorted(scales, key=lambda key: (key[0], list(SITES).index(key[1]))))
        self.l = nn.ParameterDict({flat_name(key): nn.Parameter(scales[key]) for key in self.keys})

    def row_scale(self, layer: int, site: str) -> Tensor | None:
        flat = flat_name((layer, site))
        return self.l[flat] if flat in self.l else None

    def add(self, layer: int, site: str, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
        rows = self.row_scale(layer, site)
        return y if rows is None else y * rows.to(y.dtype)

    def moved_bias(self, layer: int, site: str, bias: Tensor | None) -> Tensor | None:
        rows = self.row_scale(layer, site)
        return bias if bias is None or rows is None else bias * rows.to(bias.dtype)

    def settings(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {f"{layer}.{site}.l": self.l[flat_name((layer, site))].detach() for layer, site in self.keys}
