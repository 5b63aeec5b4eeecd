"""svd: a LoRA module, or a composition of them, at a lower rank: the best one for each delta W.

Source: Eckart and Young 1936. The lost share of the energy (squared Frobenius norm) is reported for every site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..artifacts.module import TaskModule
from .base import Combined, Operator
from .delta import RANK, REFUSES, Factors, Key, by_site, check, total_rank, truncated


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    def site(key: Key, found: list[Factors | None]) -> tuple[Factors, float]:
        assert found[0] is not None
        return truncated(found[0], options.get("rank", total_rank(found)))

    return by_site("svd", members, options, site)


OPERATOR = Operator(
    "svd", "one LoRA module or composition at a chosen rank, with the least loss", check, combine,
    options=(RANK,), refuses=REFUSES, most=1,
)  # fmt: skip
