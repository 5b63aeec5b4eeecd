"""average: the weighted mean of delta W, exactly.

Source: the mean of fine-tuned weights of Wortsman et al. 2022 (https://arxiv.org/abs/2203.05482), for what modules
change. The mean is of the products B A; a module that does not act at a site counts as zero there. Ranks stand side by
side, so nothing is lost; `svd(average(...), rank=N)` shortens them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..artifacts.module import TaskModule
from .base import Combined, Operator
from .delta import REFUSES, WEIGHTS, added, by_site, check

SHARES = replace(
    WEIGHTS,
    expected="a number from 0 for each member, not all 0 (add takes negative ones)",
    fits=lambda value, members: WEIGHTS.fits(value, members) and min(value) >= 0,
    summary="how much each member counts; they are divided by their sum",
)


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    weights = options.get("weights", (1.0,) * len(members))
    shares = [weight / sum(weights) for weight in weights]
    return by_site("average", members, options, lambda key, found: (added(found, shares), 0.0))


OPERATOR = Operator(
    "average", "the weighted mean of LoRA modules' delta W, exactly", check, combine,
    options=(SHARES,), refuses=REFUSES,
)  # fmt: skip
