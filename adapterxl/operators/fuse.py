"""fuse: an attention that a training learns weighs what several frozen modules do, anew for every token.

Sources: Pfeiffer et al. 2021, https://arxiv.org/abs/2005.00247, for `kind=adapterfusion` and the idea; see
modules/fusion.py for both formulas. A member brings all its parts, so what two members share acts inside both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..artifacts.module import TaskModule
from ..errors import CompositionError
from ..modules.fusion import FUSIONS, RANK, FusionPart, check_members
from . import delta
from .base import Combined, Operator, Option, order_notes, refuse_empty, told_apart

KIND = Option(
    "kind",
    f"one of {', '.join(FUSIONS)}",
    lambda value, members: value in FUSIONS,
    "lowrank",
    "; ".join(f"{name}: {variant.summary}" for name, variant in FUSIONS.items()),
)
WIDTH = replace(delta.RANK, default=RANK, summary="kind=lowrank: width of queries and keys")


def check(member: TaskModule) -> None:
    """Refuse a fusion as a member, and a head alone."""
    refuse_empty(member)
    if any(isinstance(part, FusionPart) for part in member.parts):
        raise CompositionError(
            f"'{member.name}' holds a fusion, which cannot be a member of fuse. Fuse all members at once, as in "
            "fuse(a, b, c), or train on top of it: stack."
        )


def together(members: Sequence[TaskModule], options: Mapping[str, Any]) -> None:
    """Refuse what the chosen kind cannot fuse."""
    kind = options.get("kind", "lowrank")
    if kind != "lowrank" and "rank" in options:
        raise CompositionError(f"fuse, rank: kind={kind} has full matrices and no rank. Leave rank out.")
    told_apart(members)
    if len(members) > 1:
        check_members([member.parts for member in members], kind)


def combine(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    """One part that holds all members, without weights until it is trained."""
    kind = options.get("kind", "lowrank")
    part = FusionPart(
        "fuse",
        [member.parts for member in members],
        [member.text for member in members],
        kind,
        rank=options.get("rank", RANK),
    )
    part.made_of = {"operator": "fuse", "options": dict(options), "members": part.settings()["members"]}
    notes = [note for member in members for note in order_notes(member.parts)]
    return Combined((part,), order=tuple(dict.fromkeys(notes)))


OPERATOR = Operator(
    "fuse",
    "an attention over modules that is trained on the target task (lowrank, or AdapterFusion of bottlenecks)",
    check,
    combine,
    options=(KIND, WIDTH),
    refuses={"fuse": "a fusion is not fused again. Fuse all members at once: fuse(a, b, c)"},
    least=2,
    together=together,
)
