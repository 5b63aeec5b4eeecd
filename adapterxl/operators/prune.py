"""prune: a LoRA module's delta W with its largest entries only.

Source: magnitude pruning (Han et al. 2015, https://arxiv.org/abs/1506.02626) of the change, site by site. What is left
has full rank; it is kept at a chosen one, and the loss of that is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..artifacts.module import TaskModule
from .base import Combined, Operator
from .delta import DENSITY, RANK, REFUSES, Factors, Key, by_dense_site, check, dense, least_kept, trimmed


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    def site(key: Key, found: list[Factors | None]) -> Tensor:
        assert found[0] is not None
        whole = dense(found[0])
        return trimmed(whole, least_kept(whole.abs(), options.get("density", DENSITY.default)))

    return by_dense_site("prune", members, options, site)


OPERATOR = Operator(
    "prune", "one LoRA module or composition with the largest entries of its delta W only", check, combine,
    options=(DENSITY, RANK), refuses=REFUSES, most=1,
)  # fmt: skip
