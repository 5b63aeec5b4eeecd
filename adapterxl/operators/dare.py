"""dare: entries of LoRA modules' delta W dropped at random and the others scaled up, then the weighted sum.

Source: Yu et al. 2024, https://arxiv.org/abs/2311.03099. What is left has full rank; it is kept at a chosen one, and
the loss of that is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..artifacts.module import TaskModule
from .base import Combined, Operator, Option
from .delta import DENSITY, RANK, REFUSES, WEIGHTS, Factors, Key, by_dense_site, check, row_blocks

SEED = Option(
    "seed",
    "a whole number from 0",
    lambda value, members: type(value) is int and value >= 0,
    0,
    "which entries are dropped",
)
KEPT = replace(DENSITY, default=0.5, summary="chance of an entry to be kept")
SHARES = replace(WEIGHTS, summary="a factor for each member's delta W; by default 1 / members")


def chances(seed: int, member: int, key: Key) -> torch.Generator:
    """What an entry's chance is drawn from, row after row; the same for the same seed, place and member."""
    number = hashlib.sha256(f"{seed} {member} {key[0]}.{key[1]}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(number[:7], "big"))


def dropped(matrix: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Each entry kept with chance `density` and divided by it."""
    kept = torch.rand(matrix.shape, generator=generator, dtype=torch.float32) < density
    return matrix.mul(kept).div_(density)


def dropped_sum(
    key: Key, found: Sequence[Factors | None], weights: Sequence[float], density: float, seed: int
) -> Tensor:
    """The dense delta W of one site, before any truncation."""
    there = [
        (pair, weight, chances(seed, member, key))
        for member, (pair, weight) in enumerate(zip(found, weights, strict=True))
        if pair is not None
    ]
    pieces = []
    for rows in row_blocks(found):
        values = [dropped(b[rows] @ a, density, generator).mul_(weight) for (a, b), weight, generator in there]
        pieces.append(torch.stack(values).sum(0))
    return torch.cat(pieces)


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    weights = options.get("weights", (1 / len(members),) * len(members))
    density, seed = options.get("density", KEPT.default), options.get("seed", SEED.default)
    return by_dense_site("dare", members, options, lambda key, found: dropped_sum(key, found, weights, density, seed))


OPERATOR = Operator(
    "dare", "LoRA modules' delta W with entries dropped at random and the others scaled up, and their sum", check,
    combine, options=(KEPT, SEED, SHARES, RANK), refuses=REFUSES,
)  # fmt: skip
