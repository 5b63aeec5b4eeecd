"""DoRA: LoRA that learns the direction of each row of a weight matrix, and its length apart from it.

Source: Liu et al. 2024, https://arxiv.org/abs/2402.09353, with the norm kept out of the gradient as in their section
4.3. The bias is not scaled, and the norm includes the scale of the addition: as in peft, unlike in adapters 1.3.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Part
from .lora import Dimensions, Key, LoRA, LoRAPart, flat_name

Weights = Callable[[int, str], Tensor]
"""Layer and site -> the backbone's weight matrix, shape (outputs, inputs)."""


@dataclass(frozen=True)
class DoRA(LoRA):
    """Settings of a DoRA module: those of LoRA. Dropout is on the input of A alone."""

    method = "dora"
    summary = "LoRA that learns direction and length of each weight row apart (Liu et al. 2024)"

    def build(self, name: str, on: Dimensions, generator: torch.Generator, dtype: torch.dtype) -> DoRAPart:
        factors, scales = self._start(on, generator, dtype)
        return DoRAPart(name, factors, scale=scales, dropout_p=self.dropout)


class DoRAPart(LoRAPart):
    """A DoRA while it is trained: y = m / ||W + s B A|| (W x + s B A x) + bias, with the norm of each row.

    An engine calls `bind` before anything runs. Afterwards it is a LoRAPart with rows (`folded`).
    """

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.m = nn.ParameterDict(
            {
                flat_name(key): nn.Parameter(torch.ones(b.shape[0], dtype=b.dtype))
                for key in self.keys
                for b in [self.b[flat_name(key)]]
            }
        )
        self._weights: Weights | None = None
        self._below: Sequence[Part] = ()
        self._square: dict[Key, Tensor] = {}

    def bind(self, weights: Weights, below: Sequence[Part]) -> None:
        """Take the backbone's weights and the frozen parts below as what is rescaled; magnitudes start at its norms."""
        self._weights, self._below = weights, below
        with torch.no_grad():
            for key in self.keys:
                m = self.m[flat_name(key)]
                square = (self._through(key, weights(*key).double()) ** 2).sum(1).to(m.device)
                self._square[key] = square.to(m.dtype)
                m.copy_(square.sqrt())

    def norms(self, layer: int, site: str) -> Tensor:
        """Length of each row of the weights with the addition, shape (outputs,), without a gradient.

        ||W + s B A||^2 = ||W||^2 + 2 s (W A') . B + s^2 (B A A') . B: no outputs x inputs matrix is made.
        """
        assert self._weights is not None, "bind was not called"
        key = layer, site
        with torch.no_grad():
            a, b = self.a[flat_name(key)], self.b[flat_name(key)] * self.scales[key]
            crossed = self._through(key, self._weights(layer, site).to(a.dtype) @ a.t(), a.t())
            square = self._square[key] + 2 * (crossed * b).sum(1) + ((b @ (a @ a.t())) * b).sum(1)
            return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()  # a row of zeros stays zero, not NaN

    @property
    def rescales(self) -> bool:
        return True

    def row_scale(self, layer: int, site: str) -> Tensor | None:
        flat = flat_name((layer, site))
        return self.m[flat] / self.norms(layer, site) if flat in self.m else None

    def _through(self, key: Key, product: Tensor, right: Tensor | None = None) -> Tensor:
        """W, or W times `right`, for the weights that the frozen parts below make of the backbone's."""
        for part in self._below:
            if isinstance(part, LoRAPart) and (pair := part.factors(*key)) is not None:
                product = product + (pair[1] @ (pair[0] if right is None else pair[0] @ right)).to(product)
            if (rows := part.row_scale(*key)) is not None:
                product = product * rows[:, None].to(product)
        return product
