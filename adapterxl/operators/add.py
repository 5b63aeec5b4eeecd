"""add: the weighted sum of delta W, exactly; a negative weight takes a task away.

Source: Ilharco et al. 2023 (task arithmetic), https://arxiv.org/abs/2212.04089. Ranks stand side by side, so nothing
is lost; `svd(add(...), rank=N)` shortens them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..artifacts.module import TaskModule
from .base import Combined, Operator
from .delta import REFUSES, WEIGHTS, added, by_site, check


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    weights = options.get("weights", (1.0,) * len(members))
    return by_site("add", members, options, lambda key, found: (added(found, weights), 0.0))


OPERATOR = Operator(
    "add", "the weighted sum of LoRA modules' delta W, exactly; weights may be negative", check, combine,
    options=(WEIGHTS,), refuses=REFUSES,
)  # fmt: skip
