"""What an operator is: a name, what its members may be, and how their parts become one list of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..artifacts.module import TaskModule
from ..errors import CompositionError
from ..modules import Part


@dataclass(frozen=True)
class Operator:
    """One way to combine modules.

    Attributes:
        name: As written in expressions.
        summary: One line for `adapterxl list operators`.
        check: Raises CompositionError when a member cannot take part; called with each known member.
        combine: Members in order -> parts in order of execution.
    """

    name: str
    summary: str
    check: Callable[[TaskModule], None]
    combine: Callable[[Sequence[TaskModule]], tuple[Part, ...]]


def in_order(members: Sequence[TaskModule]) -> tuple[Part, ...]:
    """All parts of all members, each once, in order of first appearance.

    A module that was trained on top of others brings them along, so what two members share is not counted
    twice: merge(nli, ner) is nli and ner, also when ner was trained on nli and holds it.

    Raises:
        CompositionError: If a member is named twice, or has no parts.
    """
    parts: dict[str, Part] = {}
    seen: set[tuple[str, ...]] = set()
    for member in members:
        if not member.parts:
            raise CompositionError(f"'{member.name}' has nothing to combine: it is a head alone. Leave it out.")
        digests = tuple(part.digest() for part in member.parts)
        if digests in seen:
            raise CompositionError(f"'{member.name}' is there twice. Name each module once.")
        seen.add(digests)
        for digest, part in zip(digests, member.parts, strict=True):
            parts.setdefault(digest, part)
    return tuple(parts.values())


def inside_notes(members: Sequence[TaskModule]) -> tuple[str, ...]:
    """One sentence for each member that an earlier one already holds whole, as merge(ner, nli) with ner on nli."""
    notes: list[str] = []
    held: dict[str, str] = {}
    for member in members:
        digests = [part.digest() for part in member.parts]
        if all(digest in held for digest in digests):
            notes.append(f"'{member.name}' is already inside '{held[digests[-1]]}', and is counted once.")
        for digest in digests:
            held.setdefault(digest, member.name)
    return tuple(notes)


def order_notes(parts: Sequence[Part]) -> tuple[str, ...]:
    """One sentence for each part that was trained in other company than it now has before it."""
    notes = []
    names = {part.digest(): part.name for part in parts}
    for position, part in enumerate(parts):
        before = tuple(earlier.digest() for earlier in parts[:position])
        if before != part.trained_on:
            was = ", ".join(names.get(digest, digest[:12]) for digest in part.trained_on) or "the plain backbone"
            now = ", ".join(names[digest] for digest in before) or "the plain backbone"
            notes.append(f"'{part.name}' was trained on {was} and here follows {now}.")
    return tuple(notes)
