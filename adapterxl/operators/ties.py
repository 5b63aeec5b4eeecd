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
from .delta import DENSITY, RANK, REFUSES, WEIGHTS, Factors, by_dense_site, check, dense, least_kept, trimmed


def elected_mean(found: Sequence[Factors | None], weights: Sequence[float], density: float) -> Tensor:
    """The dense delta W of one site, before any truncation. One member's matrix at a time is kept."""
    sums: list[Tensor] = []  # of all values, of the positive ones; how many are not zero, how many are positive
    for pair, weight in zip(found, weights, strict=True):
        if pair is None:
            continue
        value = dense(pair)
        value = trimmed(value, least_kept(value, density))
        value = value if weight == 1 else value.mul_(weight)
        sums = sums or [torch.zeros_like(value, dtype=dtype) for dtype in (None, None, torch.int16, torch.int16)]
        for total, term in zip(sums, (value, value.clamp(min=0), value != 0, value > 0), strict=True):
            total.add_(term)
    both, positive, count, count_positive = sums
    negative, count_negative = both - positive, count - count_positive
    up = positive.div_(count_positive.clamp_(min=1)).mul_(both > 0)
    return up.add_(negative.div_(count_negative.clamp_(min=1)).mul_(both < 0))


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    weights = options.get("weights", (1.0,) * len(members))
    density = options.get("density", DENSITY.default)
    return by_dense_site("ties", members, options, lambda key, found: elected_mean(found, weights, density))


OPERATOR = Operator(
    "ties", "LoRA modules' delta W trimmed, a sign elected for each entry, and the mean of those that agree", check,
    combine, options=(DENSITY, WEIGHTS, RANK), refuses=REFUSES,
)  # fmt: skip
