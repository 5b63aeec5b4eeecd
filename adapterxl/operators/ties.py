"""ties: LoRA modules' delta W trimmed, one sign elected for each entry, and the mean of those that agree.

Source: Yadav et al. 2023, https://arxiv.org/abs/2306.01708, with each weight matrix trimmed by itself. What is left has
full rank; it is kept at a chosen one, and the loss of that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..artifacts.module import TaskModule
from .base import Combined, Operator
from .delta import (
    DENSITY,
    RANK,
    REFUSES,
    WEIGHTS,
    Factors,
    Key,
    by_site,
    check,
    dense,
    total_rank,
    trimmed,
    truncated_dense,
)  # fmt: skip


def elected_mean(found: Sequence[Factors | None], weights: Sequence[float], density: float) -> Tensor:
    """The dense delta W of one site, before any truncation. Two passes, so that one matrix at a time is kept."""

    def each() -> list[tuple[Factors, float]]:
        return [(pair, weight) for pair, weight in zip(found, weights, strict=True) if pair is not None]

    mass: Tensor | None = None
    for pair, weight in each():
        value = trimmed(dense(pair), density).mul_(weight)
        mass = value if mass is None else mass.add_(value)
    assert mass is not None
    sign = mass.sign_()
    total, count = torch.zeros_like(sign), torch.zeros_like(sign)
    for pair, weight in each():
        value = trimmed(dense(pair), density).mul_(weight)
        agrees = (value * sign) > 0
        total.add_(value.mul_(agrees))
        count.add_(agrees)
    return total.div_(count.clamp_(min=1))


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    weights = options.get("weights", (1.0,) * len(members))

    def site(key: Key, found: list[Factors | None]) -> tuple[Factors, float]:
        result = elected_mean(found, weights, options.get("density", DENSITY.default))
        return truncated_dense(result, options.get("rank", total_rank(found)))

    return by_site("ties", members, options, site)


OPERATOR = Operator(
    "ties", "LoRA modules' delta W trimmed, a sign elected for each entry, and the mean of those that agree", check,
    combine, options=(DENSITY, WEIGHTS, RANK), refuses=REFUSES,
)  # fmt: skip
