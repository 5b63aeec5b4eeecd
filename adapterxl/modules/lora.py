"""LoRA: a low-rank addition to any of the six Linears of a layer.

Source: Hu et al. 2022, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import CompositionError, UsageError, did_you_mean
from .base import SITES, Part, dropout, linear


class Dimensions(Protocol):
    """What a method needs to know of a backbone."""

    hidden: int
    intermediate: int
    layers: int


@dataclass(frozen=True)
class LoRA:
    """Settings of a LoRA module.

    Attributes:
        rank: Rank of every addition.
        alpha: Additions are scaled by alpha / rank; 2 * rank when not given.
        dropout: On the input of A.
        sites: Where it acts. All six by default: in one epoch on English they learn more than
            query and value alone, at the same speed.
        layers: Which layers; all by default.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    sites: tuple[str, ...] = tuple(SITES)
    layers: tuple[int, ...] | None = None

    method = "lora"
    summary = "low-rank additions to the six Linears of a layer (Hu et al. 2022)"
    # At hidden size 768; scaled by 768 / hidden, see training.settings. Hu et al. used 4e-4 to 5e-4 for
    # RoBERTa-base; the 1e-5 of full fine-tuning leaves a LoRA where it began.
    base_lr = 5e-4

    def __post_init__(self) -> None:
        if type(self.rank) is not int or self.rank < 1:  # True is an int to isinstance
            raise UsageError(f"LoRA rank: found {self.rank!r}, expected a whole number from 1.")
        if self.alpha is not None and not (is_number(self.alpha) and 0 < self.alpha < math.inf):
            raise UsageError(f"LoRA alpha: found {self.alpha!r}, expected a number above 0.")
        if not (is_number(self.dropout) and 0 <= self.dropout < 1):
            raise UsageError(f"LoRA dropout: found {self.dropout!r}, expected 0 <= dropout < 1.")
        if isinstance(self.sites, str):
            raise UsageError(f"LoRA sites: found the text {self.sites!r}, expected a tuple of names.")
        if not self.sites:
            raise UsageError(f"LoRA sites: none given; choose from {', '.join(SITES)}.")
        for site in self.sites:
            if site not in SITES:
                raise UsageError(f"No site '{site}'.{did_you_mean(site, SITES)} Sites: {', '.join(SITES)}.")
        # One spelling for one choice, whatever order the user wrote.
        object.__setattr__(self, "sites", tuple(site for site in SITES if site in self.sites))

    def build(self, name: str, on: Dimensions, generator: torch.Generator, dtype: torch.dtype) -> LoRAPart:
        """A new module: A uniform in +-1/sqrt(inputs) as in Hu et al.'s code, B zero, so it starts as nothing."""
        factors: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
        for layer in choose_layers(self.layers, on.layers):
            for site in self.sites:
                outputs, inputs = site_shape(site, on)
                if self.rank > min(outputs, inputs):
                    raise UsageError(
                        f"LoRA rank {self.rank} is above the width {min(outputs, inputs)} of site '{site}'."
                    )
                a = torch.rand(self.rank, inputs, generator=generator, dtype=torch.float64)
                a = (2 * a - 1) / math.sqrt(inputs)
                factors[layer, site] = a.to(dtype), torch.zeros(outputs, self.rank, dtype=dtype)
        alpha = 2.0 * self.rank if self.alpha is None else float(self.alpha)
        return LoRAPart(name, factors, scale=alpha / self.rank, dropout_p=self.dropout)


class LoRAPart(Part):
    """LoRA weights: y + scale * B A dropout(x) at each site it has.

    Args:
        factors: (layer, site) -> A of shape (rank, inputs), B of shape (outputs, rank). Ranks may differ.
        scale: alpha / rank while it is trained; 1 afterwards, when it has been folded into B.
        dropout_p: Used in training only.
    """

    kind = "lora"

    def __init__(
        self,
        name: str,
        factors: Mapping[tuple[int, str], tuple[Tensor, Tensor]],
        *,
        scale: float = 1.0,
        dropout_p: float = 0.0,
        task: str = "",
        trained_on: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, task, trained_on)
        self.scale, self.dropout_p = scale, dropout_p
        self.keys = tuple(sorted(factors, key=lambda key: (key[0], list(SITES).index(key[1]))))
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        for key in self.keys:
            a, b = factors[key]
            if a.shape[0] != b.shape[1]:
                raise CompositionError(f"'{name}', {key}: A has rank {a.shape[0]}, but B has rank {b.shape[1]}.")
            self.a[_flat(key)], self.b[_flat(key)] = nn.Parameter(a), nn.Parameter(b)

    def factors(self, layer: int, site: str) -> tuple[Tensor, Tensor] | None:
        """A and B at one site, or None where this part does not act."""
        flat = _flat((layer, site))
        return (self.a[flat], self.b[flat]) if flat in self.a else None

    def add(self, layer: int, site: str, x: Tensor, y: Tensor) -> Tensor:
        found = self.factors(layer, site)
        if found is None:
            return y
        a, b = found
        low = linear(dropout(x, self.dropout_p, self.training), a)
        return torch.addmm(y, low, b.to(y.dtype).t(), alpha=self.scale)

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({layer for layer, _ in self.keys}))

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(site for site in SITES if any(site == key[1] for key in self.keys))

    @property
    def rescales(self) -> bool:
        """Whether it rescales the rows of the weights themselves, as DoRA does."""
        return False

    def rank(self, layer: int, site: str) -> int:
        """Rank at one site; 0 where this part does not act."""
        found = self.factors(layer, site)
        return 0 if found is None else found[0].shape[0]

    def settings(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def tensors(self) -> dict[str, Tensor]:
        named = {}
        for layer, site in self.keys:
            flat = _flat((layer, site))
            named[f"{layer}.{site}.A"], named[f"{layer}.{site}.B"] = self.a[flat].detach(), self.b[flat].detach()
        return named

    def folded(self) -> LoRAPart:
        """The same addition with the scale inside B (computed in the dtype of B) and without dropout."""
        factors = {}
        for layer, site in self.keys:
            a, b = self.a[_flat((layer, site))].detach(), self.b[_flat((layer, site))].detach()
            factors[layer, site] = a.clone(), b * self.scale
        return LoRAPart(self.name, factors, task=self.task, trained_on=self.trained_on)


def concatenate(parts: Sequence[LoRAPart], name: str) -> LoRAPart:
    """One LoRA that adds what all `parts` add: ranks one after another at each site.

    B1 A1 + B2 A2 = [B1 | B2] [A1; A2], exactly. Parts must be folded (scale 1).
    """
    keys = sorted({key for part in parts for key in part.keys})
    factors = {}
    for key in keys:
        found = [pair for part in parts if (pair := part.factors(*key)) is not None]
        factors[key] = (
            torch.cat([a.detach() for a, _ in found], dim=0),
            torch.cat([b.detach() for _, b in found], dim=1),
        )
    if any(part.scale != 1.0 for part in parts):
        raise CompositionError(f"'{name}': parts must be folded before their ranks are joined.")
    return LoRAPart(name, factors)


def cut(whole: LoRAPart, ranks: Mapping[str, Sequence[int]], name: str) -> LoRAPart:
    """Take the ranks of one part out of a concatenation again, bit for bit.

    Args:
        ranks: ``<layer>.<site>`` -> (first rank, past the last rank).
    """
    factors = {}
    for key, (begin, end) in ranks.items():
        layer, site = key.split(".")
        found = whole.factors(int(layer), site)
        if found is None or not 0 <= begin < end <= found[0].shape[0]:
            raise CompositionError(f"'{name}': ranks {begin} to {end} at {key} are not in the weights.")
        factors[int(layer), site] = found[0][begin:end].detach().clone(), found[1][:, begin:end].detach().clone()
    return LoRAPart(name, factors)


def is_number(value: object) -> bool:
    """Whether a setting is a plain number; a recipe may hold anything."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def site_shape(site: str, on: Dimensions) -> tuple[int, int]:
    """(outputs, inputs) of a site's Linear."""
    outputs = on.intermediate if site == "ffn_up" else on.hidden
    inputs = on.intermediate if site == "ffn_down" else on.hidden
    return outputs, inputs


def choose_layers(layers: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """The chosen layers, ascending; all when None. Refuses layers that the backbone does not have."""
    chosen = tuple(sorted(set(range(count) if layers is None else layers)))
    if not chosen or chosen[0] < 0 or chosen[-1] >= count:
        raise UsageError(f"Layers {list(chosen)}: this backbone has layers 0 to {count - 1}.")
    return chosen


def _flat(key: tuple[int, str]) -> str:
    return f"{key[0]}_{key[1]}"  # ParameterDict keys may not contain a dot
