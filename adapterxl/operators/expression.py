"""Compositions as values: `merge(nli, ner)` in Python, on the command line and in YAML is the same text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..artifacts.module import TaskModule
from ..errors import CompositionError, did_you_mean
from .base import Operator
from .merge import OPERATOR as MERGE
from .stack import OPERATOR as STACK

OPERATORS: dict[str, Operator] = {operator.name: operator for operator in (MERGE, STACK)}

_TOKEN = re.compile(r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<word>[^\s(),"'=]+)|(?P<sign>[(),]))""")
_DEEPEST = 50  # brackets; far above any use, far below Python's own limit


@dataclass(frozen=True)
class Leaf:
    """A module by name or folder, or a module at hand."""

    reference: str
    module: TaskModule | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if '"' in self.reference and "'" in self.reference:
            raise CompositionError(f"Module {self.reference}: a name cannot hold both kinds of quotes. Rename it.")

    def __str__(self) -> str:
        if re.fullmatch(r"[\w.-]+", self.reference):
            return self.reference
        quote = "'" if '"' in self.reference else '"'
        return f"{quote}{self.reference}{quote}"


@dataclass(frozen=True)
class Expression:
    """An operator over members, in order. Frozen, with text, equality and hash."""

    operator: str
    members: tuple[Expression | Leaf, ...]

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise CompositionError(
                f"No operator '{self.operator}'.{did_you_mean(self.operator, OPERATORS)} "
                f"Operators: {', '.join(OPERATORS)}."
            )
        if not self.members:
            raise CompositionError(f"{self.operator}() has no members; name at least one module.")
        for leaf in leaves(self):
            if leaf.module is not None:
                OPERATORS[self.operator].check(leaf.module)

    def __str__(self) -> str:
        return f"{self.operator}({', '.join(str(member) for member in self.members)})"


Member = TaskModule | Expression | Leaf | str | Path


def merge(*members: Member) -> Expression:
    """LoRA modules in sequence, exactly; see operators/merge.py."""
    return Expression("merge", tuple(as_member(member) for member in members))


def stack(*members: Member) -> Expression:
    """Modules on top of each other; see operators/stack.py."""
    return Expression("stack", tuple(as_member(member) for member in members))


def as_member(member: Member) -> Expression | Leaf:
    """A module, a folder, a name or an expression as a member; text with brackets or quotes is parsed."""
    if isinstance(member, Expression | Leaf):
        return member
    if isinstance(member, TaskModule):
        return Leaf(member.name, member)
    # os.path.exists, because Path.exists fails on a text that is too long for a file name
    if isinstance(member, str) and ("(" in member or member[:1] in ("'", '"')) and not os.path.exists(member):
        return parse(member)
    return Leaf(str(member))


def leaves(expression: Expression | Leaf) -> Iterator[Leaf]:
    """All leaves, left to right."""
    if isinstance(expression, Leaf):
        yield expression
    else:
        for member in expression.members:
            yield from leaves(member)


def parse(text: str) -> Expression | Leaf:
    """Read an expression: ``merge(nli, ner)``, ``stack("out/nli", merge(a, b))``, or one name or folder.

    Raises:
        CompositionError: With the place where it stops making sense.
    """
    tokens: list[tuple[str, str, int]] = []
    at = 0
    stripped = text.rstrip()
    while at < len(stripped):
        found = _TOKEN.match(stripped, at)
        if found is None:
            raise CompositionError(f"Expression '{text}': unexpected {stripped[at:].lstrip()[:1]!r} at {at + 1}.")
        tokens.append((found.lastgroup or "", found.group(found.lastgroup or 0), found.start(found.lastgroup or 0)))
        at = found.end()

    def fail(position: int, expected: str) -> CompositionError:
        if position < len(tokens):
            return CompositionError(
                f"Expression '{text}': found {tokens[position][1]!r} at character {tokens[position][2] + 1}, "
                f"expected {expected}."
            )
        return CompositionError(f"Expression '{text}': it ends where {expected} was expected.")

    def read(position: int, depth: int = 0) -> tuple[Expression | Leaf, int]:
        if depth > _DEEPEST:
            raise CompositionError(f"Expression '{text[:60]}...': more than {_DEEPEST} brackets deep.")
        if position >= len(tokens) or tokens[position][0] == "sign":
            raise fail(position, "a module or an operator")
        group, value, _ = tokens[position]
        if group == "quoted":
            return Leaf(value[1:-1]), position + 1
        if position + 1 >= len(tokens) or tokens[position + 1][1] != "(":
            return Leaf(value), position + 1
        members, position = [], position + 2
        while True:
            member, position = read(position, depth + 1)
            members.append(member)
            if position < len(tokens) and tokens[position][1] == ",":
                position += 1
            elif position < len(tokens) and tokens[position][1] == ")":
                return Expression(value, tuple(members)), position + 1
            else:
                raise fail(position, "',' or ')'")

    expression, end = read(0)
    if end != len(tokens):
        raise fail(end, "the end")
    return expression
