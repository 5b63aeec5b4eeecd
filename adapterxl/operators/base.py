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
        CompositionError: If a member adds nothing that earlier ones do not hold.
    """
    parts: dict[str, Part] = {}
    for member in members:
        if not member.parts:
            raise CompositionError(f"'{member.name}' has nothing to combine: it is a head alone. Leave it out.")
        fresh = {digest: part for part in member.parts if (digest := part.digest()) not in parts}
        if not fresh:
            raise CompositionError(
                f"'{member.name}' adds nothing: its parts are already there "
                f"({', '.join(part.name for part in parts.values())}). Name each module once."
            )
        parts |= fresh
    return tuple(parts.values())


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
