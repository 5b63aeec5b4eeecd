"""What an operator is: a name, its options, what its members may be, and how their parts become one list of parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ..artifacts.module import TaskModule
from ..errors import CompositionError, did_you_mean
from ..modules import Part
from ..modules.lora import is_number as is_plain_number

Value = bool | int | float | str | tuple[float, ...]


@dataclass(frozen=True)
class Option:
    """A setting of an operator, as `density=0.2` in an expression.

    Attributes:
        expected: What `fits` takes, in words.
        fits: Whether a value, for so many members, makes sense.
        default: The value when none is given; None means that the operator chooses, as its summary says.
        summary: One line.
    """

    name: str
    expected: str
    fits: Callable[[Any, int], bool]
    default: Value | None
    summary: str


@dataclass(frozen=True)
class Combined:
    """What an operator makes: parts in order of execution, and what a user should know.

    Attributes:
        order: Sentences about members that meet in other company than in their training; `strict` refuses them.
        notes: Other sentences.
    """

    parts: tuple[Part, ...]
    order: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operator:
    """One way to combine modules.

    Attributes:
        name: As written in expressions.
        summary: One line for `adapterxl list operators`.
        check: Raises CompositionError when a member cannot take part; called with each known member.
        combine: Members in order and the options -> what becomes of them.
        options: The settings it takes.
        refuses: Operators whose results cannot be its members -> why, and what to write instead.
        most: Most members it takes; no limit when None.
        keeps_parts: Whether the members' parts are in the result as they are.
        least: Fewest members it takes.
        together: Raises CompositionError when members (those that are known) and options do not fit together.
    """

    name: str
    summary: str
    check: Callable[[TaskModule], None]
    combine: Callable[[Sequence[TaskModule], Mapping[str, Any]], Combined]
    options: tuple[Option, ...] = ()
    refuses: Mapping[str, str] = field(default_factory=dict)
    most: int | None = None
    keeps_parts: bool = False
    least: int = 1
    together: Callable[[Sequence[TaskModule], Mapping[str, Any]], None] | None = None

    def settle(self, given: Mapping[str, Value], members: int) -> tuple[tuple[str, Value], ...]:
        """The given options checked, in the operator's order, without those that say the default.

        Raises:
            CompositionError: For an option that it does not have, or a value that does not fit.
        """
        known = {option.name: option for option in self.options}
        for name, value in given.items():
            if name not in known:
                has = f"Its options: {', '.join(known)}." if known else "It has none."
                raise CompositionError(f"{self.name} has no option '{name}'.{did_you_mean(name, known)} {has}")
            if not known[name].fits(value, members):
                raise CompositionError(f"{self.name}, {name}: found {show(value)}, expected {known[name].expected}.")
        return tuple(
            (option.name, given[option.name])
            for option in self.options
            if option.name in given and given[option.name] != option.default
        )


def show(value: object) -> str:
    """An option's value as expressions write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, float):
        return repr(value + 0.0).removesuffix(".0")  # 1.0 and 1, -0.0 and 0 are equal, so they read the same
    return value if isinstance(value, str) else repr(value)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a finite number; whole ones beyond the range of float64 are not."""
    return is_plain_number(value) and abs(value) <= sys.float_info.max


def refuse_empty(member: TaskModule) -> None:
    """A head alone has nothing to combine."""
    if not member.parts:
        raise CompositionError(f"'{member.name}' has nothing to combine: it is a head alone. Leave it out.")


def told_apart(members: Sequence[TaskModule]) -> list[tuple[str, ...]]:
    """The digests of each member's parts; to be taken once, as they read all weights.

    Raises:
        CompositionError: If a member is named twice, or has no parts.
    """
    found: list[tuple[str, ...]] = []
    for member in members:
        refuse_empty(member)
        digests = tuple(part.digest() for part in member.parts)
        if digests in found:
            raise CompositionError(f"'{member.name}' is there twice. Name each module once.")
        found.append(digests)
    return found


def sequence(members: Sequence[TaskModule], options: Mapping[str, Any]) -> Combined:
    """All parts of all members, each once, in order of first appearance: merge and stack. There are no `options`.

    A module that was trained on top of others brings them along, so what two members share is not counted
    twice: merge(nli, ner) is nli and ner, also when ner was trained on nli and holds it.
    """
    digests = told_apart(members)
    parts: dict[str, Part] = {}
    for member, own in zip(members, digests, strict=True):
        for digest, part in zip(own, member.parts, strict=True):
            parts.setdefault(digest, part)
    found = tuple(parts.values())
    return Combined(found, (*_inside_notes(members, digests), *order_notes(found, tuple(parts))))


def _inside_notes(members: Sequence[TaskModule], digests: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """One sentence for each member that an earlier one already holds whole, as merge(ner, nli) with ner on nli."""
    notes: list[str] = []
    held: dict[str, str] = {}
    for member, own in zip(members, digests, strict=True):
        if all(digest in held for digest in own):
            notes.append(f"'{member.name}' is already inside '{held[own[-1]]}', and is counted once.")
        for digest in own:
            held.setdefault(digest, member.name)
    return tuple(notes)


def order_notes(parts: Sequence[Part], digests: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """One sentence for each part that was trained in other company than it now has before it.

    Args:
        digests: Those of the parts, if they are known already.
    """
    notes = []
    digests = tuple(part.digest() for part in parts) if digests is None else digests
    names = {digest: part.name for digest, part in zip(digests, parts, strict=True)}
    for position, part in enumerate(parts):
        before = digests[:position]
        if part.made_of is None and before != part.trained_on:  # what operators made was trained on nothing
            was = ", ".join(names.get(digest, digest[:12]) for digest in part.trained_on) or "the plain backbone"
            now = ", ".join(names[digest] for digest in before) or "the plain backbone"
            notes.append(f"'{part.name}' was trained on {was} and here follows {now}.")
    return tuple(notes)
