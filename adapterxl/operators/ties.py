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
    by_dense_site,
    check,
    dense,
    least_kept,
    row_blocks,
    trimmed,
)


def elected_mean(found: Sequence[Factors | None], weights: Sequence[float], density: float) -> Tensor:
    """The dense delta W of one site, before any truncation."""
    there = [
        (pair, weight, least_kept(dense(pair).abs_(), density))
        for pair, weight in zip(found, weights, strict=True)
        if pair is not None
    ]
    pieces = []
    for rows in row_blocks(found):
        values = [trimmed(b[rows] @ a, least).mul_(weight) for (a, b), weight, least in there]
        total = torch.stack(values).sum(0)
        agreed, count = torch.zeros_like(total), torch.zeros_like(total)
        for value in values:
            agrees = (value * total > 0).to(value.dtype)
            agreed.addcmul_(value, agrees)
            count.add_(agrees)
        pieces.append(agreed.div_(count.clamp_(min=1)))
    return torch.cat(pieces)


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    weights = options.get("weights", (1.0,) * len(members))
    density = options.get("density", DENSITY.default)
    return by_dense_site("ties", members, options, lambda key, found: elected_mean(found, weights, density))


OPERATOR = Operator(
    "ties", "LoRA modules' delta W trimmed, a sign elected for each entry, and the mean of those that agree", check,
    combine, options=(DENSITY, WEIGHTS, RANK), refuses=REFUSES,
)  # fmt: skip
