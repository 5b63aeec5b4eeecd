"""DoRA: LoRA that learns the direction of each row of a weight matrix, and its length apart from it.

Source: Liu et al. 2024, https://arxiv.org/abs/2402.09353, with the norm kept out of the gradient as in their section
4.3. The bias is not scaled, and the norm includes the scale of the addition: as in peft, unlike in adapters 1.3.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .base import Part, dropout, linear
from .ia3 import IA3Part
from .lora import Dimensions, Key, LoRA, LoRAPart, flat_name, rescaled

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
        self._below: dict[Key, list[Part]] = {}
        self._square: dict[Key, Tensor] = {}

    def bind(self, weights: Weights, below: Sequence[Part]) -> None:
        """Take the backbone's weights and the frozen parts below as what is rescaled; magnitudes start at its norms."""
        self._weights = weights
        with torch.no_grad():
            for key in self.keys:
                self._below[key] = [part for part in below if isinstance(part, LoRAPart | IA3Part)]
                device = self.m[flat_name(key)].device
                changed = _rows_through(self._below[key], key, weights(*key).double())
                square = (changed**2).sum(1).to(device)
                self._square[key] = square.to(self.m[flat_name(key)].dtype)
                self.m[flat_name(key)].copy_(square.sqrt())

    def norms(self, layer: int, site: str) -> Tensor:
        """Length of each row of the weights with the addition, shape (outputs,), without a gradient.

        ||W + s B A||^2 = ||W||^2 + 2 s (W A') . B + s^2 (B A A') . B: no outputs x inputs matrix is made.
        """
        assert self._weights is not None, "bind was not called"
        key = layer, site
        with torch.no_grad():
            a, b = self.a[flat_name(key)], self.b[flat_name(key)] * self.scales[key]
            crossed = _columns_through(self._below[key], key, self._weights(layer, site).to(a.dtype) @ a.t(), a)
            square = self._square[key] + 2 * (crossed * b).sum(1) + ((b @ (a @ a.t())) * b).sum(1)
            return square.clamp(min=torch.finfo(square.dtype).tiny).sqrt()  # a row of zeros stays zero, not NaN

    def add(self, layer: int, site: str, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
        found = self.factors(layer, site)
        if found is None:
            return y
        a, b = found
        low = linear(dropout(x, self.dropout_p, self.training), a)
        y = torch.addmm(y, low, b.to(y.dtype).t(), alpha=self.scales[layer, site])
        return rescaled(y, self.m[flat_name((layer, site))] / self.norms(layer, site), bias)

    def folded(self) -> LoRAPart:
        part = super().folded()
        rows = {key: (self.m[flat_name(key)] / self.norms(*key)).detach().clone() for key in self.keys}
        factors = {key: pair for key in part.keys if (pair := part.factors(*key)) is not None}
        return LoRAPart(
            self.name,
            {key: (a.detach(), b.detach()) for key, (a, b) in factors.items()},
            rows=rows,
            task=self.task,
            trained_on=self.trained_on,
        )


def _rows_through(below: Sequence[Part], key: Key, weight: Tensor) -> Tensor:
    """The weight matrix after the frozen parts below."""
    for part in below:
        if isinstance(part, LoRAPart) and (pair := part.factors(*key)) is not None:
            weight = weight + (pair[1] @ pair[0]).to(weight)
        weight = _scaled(part, key, weight)
    return weight


def _columns_through(below: Sequence[Part], key: Key, crossed: Tensor, a: Tensor) -> Tensor:
    """The same for its product with A', shape (outputs, rank)."""
    for part in below:
        if isinstance(part, LoRAPart) and (pair := part.factors(*key)) is not None:
            crossed = crossed + pair[1] @ (pair[0] @ a.t())
        crossed = _scaled(part, key, crossed)
    return crossed


def _scaled(part: Part, key: Key, matrix: Tensor) -> Tensor:
    rows = part.row_scale(*key) if isinstance(part, LoRAPart | IA3Part) else None
    return matrix if rows is None else matrix * rows[:, None].to(matrix)
