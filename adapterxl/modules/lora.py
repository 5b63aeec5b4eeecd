"""LoRA: a low-rank addition to any of the six Linears of a layer.

Source: Hu et al. 2022, https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from ..errors import CompositionError, UsageError, did_you_mean
from .base import SITES, Part, dropout, linear

Key = tuple[int, str]
"""Layer and site."""

_ANY_SITE = "|".join(SITES)


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
        rank_pattern: Other ranks by site ("ffn_up"), layer ("3") or both ("3.ffn_up"); the closest one counts.
        alpha_pattern: Other alphas, likewise.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    sites: tuple[str, ...] = tuple(SITES)
    layers: tuple[int, ...] | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict, hash=False)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict, hash=False)

    method = "lora"
    summary = "low-rank additions to the six Linears of a layer (Hu et al. 2022)"
    # At hidden size 768; scaled by 768 / hidden, see training.settings. Hu et al. used 4e-4 to 5e-4 for
    # RoBERTa-base; the 1e-5 of full fine-tuning leaves a LoRA where it began.
    base_lr = 5e-4

    def __post_init__(self) -> None:
        for where, rank in (("", self.rank), *((f" of {key}", rank) for key, rank in self.rank_pattern.items())):
            if type(rank) is not int or rank < 1:  # True is an int to isinstance
                raise UsageError(f"LoRA rank{where}: found {rank!r}, expected a whole number from 1.")
        for where, alpha in (("", self.alpha), *((f" of {key}", a) for key, a in self.alpha_pattern.items())):
            if alpha is not None and not (is_number(alpha) and 0 < alpha < math.inf):
                raise UsageError(f"LoRA alpha{where}: found {alpha!r}, expected a number above 0.")
        for key in (*self.rank_pattern, *self.alpha_pattern):
            if not (isinstance(key, str) and re.fullmatch(rf"[0-9]+(\.({_ANY_SITE}))?|{_ANY_SITE}", key)):
                raise UsageError(
                    f'LoRA pattern {key!r}: expected a site ("ffn_up"), a layer ("3") or both ("3.ffn_up"). '
                    f"Sites: {', '.join(SITES)}."
                )
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
        factors, scales = self._start(on, generator, dtype)
        return LoRAPart(name, factors, scale=scales, dropout_p=self.dropout)

    def _start(
        self, on: Dimensions, generator: torch.Generator, dtype: torch.dtype
    ) -> tuple[dict[Key, tuple[Tensor, Tensor]], dict[Key, float]]:
        """Factors and scale of every site."""
        factors: dict[Key, tuple[Tensor, Tensor]] = {}
        scales: dict[Key, float] = {}
        for layer in choose_layers(self.layers, on.layers):
            for site in self.sites:
                outputs, inputs = site_shape(site, on)
                rank = self._closest(self.rank_pattern, layer, site, self.rank)
                if rank > min(outputs, inputs):
                    raise UsageError(f"LoRA rank {rank} is above the width {min(outputs, inputs)} of site '{site}'.")
                a = torch.rand(rank, inputs, generator=generator, dtype=torch.float64)
                a = (2 * a - 1) / math.sqrt(inputs)
                factors[layer, site] = a.to(dtype), torch.zeros(outputs, rank, dtype=dtype)
                alpha = self._closest(self.alpha_pattern, layer, site, self.alpha)
                scales[layer, site] = self.scaling(self.usual_alpha(rank) if alpha is None else float(alpha), rank)
        for key in (*self.rank_pattern, *self.alpha_pattern):
            if not any(key in (str(layer), site, f"{layer}.{site}") for layer, site in factors):
                raise UsageError(f"LoRA pattern {key!r}: this module does not act there.")
        return factors, scales

    @staticmethod
    def usual_alpha(rank: int) -> float:
        """The alpha when none is given."""
        return 2.0 * rank

    @staticmethod
    def scaling(alpha: float, rank: int) -> float:
        """What B A is multiplied by."""
        return alpha / rank

    @staticmethod
    def _closest(pattern: Mapping[str, Any], layer: int, site: str, otherwise: Any) -> Any:
        keys = (f"{layer}.{site}", site, str(layer))
        return next((pattern[key] for key in keys if key in pattern), otherwise)


class LoRAPart(Part):
    """LoRA weights, in the closed form of the whole family: with W x + bias the Linear as it is so far, a site gives

        rows * (W x + scale * B A dropout(x)) + bias

    `rows` (one factor per output) is 1 but for DoRA. So W becomes diag(rows) (W + scale B A), and the next part of a
    sequence acts on that: the family is closed under sequences.

    Args:
        factors: (layer, site) -> A of shape (rank, inputs), B of shape (outputs, rank). Ranks may differ.
        scale: alpha / rank while it is trained, for all sites or each; 1 afterwards, when it is folded into B.
        rows: (layer, site) -> shape (outputs,); sites without are not rescaled.
        dropout_p: Used in training only.
    """

    kind = "lora"

    def __init__(
        self,
        name: str,
        factors: Mapping[Key, tuple[Tensor, Tensor]],
        *,
        scale: float | Mapping[Key, float] = 1.0,
        rows: Mapping[Key, Tensor] | None = None,
        dropout_p: float = 0.0,
        task: str = "",
        trained_on: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, task, trained_on)
        self.dropout_p = dropout_p
        self.keys = tuple(sorted(factors, key=lambda key: (key[0], list(SITES).index(key[1]))))
        self.scales = {key: float(scale[key] if isinstance(scale, Mapping) else scale) for key in self.keys}
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        for key in self.keys:
            a, b = factors[key]
            if a.shape[0] != b.shape[1]:
                raise CompositionError(f"'{name}', {key}: A has rank {a.shape[0]}, but B has rank {b.shape[1]}.")
            self.a[flat_name(key)], self.b[flat_name(key)] = nn.Parameter(a), nn.Parameter(b)
        self.rows = nn.ParameterDict(
            {flat_name(key): nn.Parameter(row, requires_grad=False) for key, row in sorted((rows or {}).items())}
        )

    def factors(self, layer: int, site: str) -> tuple[Tensor, Tensor] | None:
        """A and B at one site, or None where this part does not act."""
        flat = flat_name((layer, site))
        return (self.a[flat], self.b[flat]) if flat in self.a else None

    def row_scale(self, layer: int, site: str) -> Tensor | None:
        flat = flat_name((layer, site))
        return self.rows[flat] if flat in self.rows else None

    def add(self, layer: int, site: str, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
        found = self.factors(layer, site)
        if found is None:
            return y
        return self._raised(layer, site, linear(dropout(x, self.dropout_p, self.training), found[0]), y, bias)

    def add_sites(
        self, layer: int, sites: Sequence[str], x: Tensor, ys: Sequence[Tensor], biases: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """One product with all A where dropout does not tell the sites' inputs apart."""
        pairs = [self.factors(layer, site) for site in sites]
        acting = [pair[0] for pair in pairs if pair is not None]
        if len(acting) < 2 or (self.training and self.dropout_p):
            return super().add_sites(layer, sites, x, ys, biases)
        lows = iter(linear(x, torch.cat(acting)).split([len(a) for a in acting], dim=-1))
        return [
            y if pair is None else self._raised(layer, site, next(lows), y, bias)
            for site, pair, y, bias in zip(sites, pairs, ys, biases, strict=True)
        ]

    def _raised(self, layer: int, site: str, low: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
        """y with the addition whose A x is `low`, and its rows rescaled."""
        y = torch.addmm(y, low, self.b[flat_name((layer, site))].to(y.dtype).t(), alpha=self.scales[layer, site])
        rows = self.row_scale(layer, site)
        return y if rows is None else rescaled(y, rows, bias)

    @property
    def scale(self) -> float:
        """The one scale of all sites.

        Raises:
            CompositionError: If sites differ.
        """
        if len(set(self.scales.values())) != 1:
            raise CompositionError(f"'{self.name}' has a scale of its own for each site.")
        return next(iter(self.scales.values()))

    @property
    def rescales(self) -> bool:
        """Whether it rescales the rows of the weights themselves, as DoRA does."""
        return bool(self.rows)

    def rank(self, layer: int, site: str) -> int:
        """Rank at one site; 0 where this part does not act."""
        found = self.factors(layer, site)
        return 0 if found is None else found[0].shape[0]

    def settings(self) -> dict[str, Any]:
        if len(set(self.scales.values())) == 1:
            return {"scale": self.scale}
        return {"scale": {f"{layer}.{site}": scale for (layer, site), scale in self.scales.items()}}

    def tensors(self) -> dict[str, Tensor]:
        named = {}
        for layer, site in self.keys:
            flat = flat_name((layer, site))
            named[f"{layer}.{site}.A"], named[f"{layer}.{site}.B"] = self.a[flat].detach(), self.b[flat].detach()
            if flat in self.rows:
                named[f"{layer}.{site}.rows"] = self.rows[flat].detach()
        return named

    def folded(self) -> LoRAPart:
        """The same with the scale inside B (computed in the dtype of B) and without dropout."""
        factors, rows = {}, {}
        for layer, site in self.keys:
            flat, scale = flat_name((layer, site)), self.row_scale(layer, site)
            factors[layer, site] = self.a[flat].detach().clone(), self.b[flat].detach() * self.scales[layer, site]
            if scale is not None:
                rows[layer, site] = scale.detach().clone()
        return LoRAPart(self.name, factors, rows=rows, task=self.task, trained_on=self.trained_on)


def rescaled(y: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """The outputs of a Linear (tokens, outputs) with its weights' rows scaled, and its bias as it was."""
    rows = rows.to(y.dtype)
    return y * rows if bias is None else torch.addcmul(bias, y - bias, rows)


def concatenate(parts: Sequence[LoRAPart], name: str) -> LoRAPart:
    """One LoRA that does what all `parts` do one after another: ranks side by side at each site.

    Without rows, B1 A1 + B2 A2 = [B1 | B2] [A1; A2], exactly. With them, d2 (d1 (W + B1 A1) + B2 A2) =
    d2 d1 (W + [B1 | B2 / d1] [A1; A2]): what follows a rescaled part is divided by it, in float64.

    Raises:
        CompositionError: If a part is not folded (scale 1), or rescales by 0 what another follows.
    """
    if any(scale != 1.0 for part in parts for scale in part.scales.values()):
        raise CompositionError(f"'{name}': parts must be folded before their ranks are joined.")
    keys = sorted({key for part in parts for key in part.keys})
    factors, rows = {}, {}
    for key in keys:
        left, right = [], []
        scale: Tensor | None = None
        for part in parts:
            pair, own = part.factors(*key), part.row_scale(*key)
            if pair is not None:
                a, b = pair[0].detach(), pair[1].detach()
                if scale is not None:
                    if (scale == 0).any():
                        raise CompositionError(
                            f"'{name}', {key}: a row is scaled by 0, so '{part.name}' cannot follow."
                        )
                    b = (b.double() / scale[:, None]).to(b.dtype)
                left.append(a)
                right.append(b)
            if own is not None:
                scale = own.detach().double() if scale is None else scale * own.detach().double()
        factors[key] = torch.cat(left, dim=0), torch.cat(right, dim=1)
        if scale is not None:
            rows[key] = scale.to(right[0].dtype)
    return LoRAPart(name, factors, rows=rows)


def cut(whole: LoRAPart, ranks: Mapping[str, Sequence[int]], name: str) -> LoRAPart:
    """Take the ranks of one part out of a concatenation again, bit for bit; `rows` are not taken along.

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


def is_number(value: object) -> TypeGuard[int | float]:
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


def flat_name(key: Key) -> str:
    """A place as a key of a ParameterDict."""
    return f"{key[0]}_{key[1]}"  # ParameterDict keys may not contain a dot
