"""Compositions as values: `merge(nli, ner)` in Python, on the command line and in YAML is the same text."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..artifacts.module import TaskModule
from ..errors import CompositionError, did_you_mean
from . import add as _add
from . import average as _average
from . import dare as _dare
from . import fuse as _fuse
from . import merge as _merge
from . import prune as _prune
from . import stack as _stack
from . import svd as _svd
from . import ties as _ties
from .base import Operator, Value, show

OPERATORS: dict[str, Operator] = {
    module.OPERATOR.name: module.OPERATOR
    for module in (_merge, _stack, _fuse, _average, _add, _svd, _ties, _dare, _prune)
}

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<option>[a-z_]+\s*=\s*(?:\[[^\]]*\]|[^\s(),="'\[\]]+))"""
    r"""|(?P<word>[^\s(),"'=]+)|(?P<sign>[(),]))"""
)
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
    """An operator over members, in order, with its options. Frozen, with text, equality and hash.

    Options that say the default are left out, so that one composition has one text.
    """

    operator: str
    members: tuple[Expression | Leaf, ...]
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise CompositionError(
                f"No operator '{self.operator}'.{did_you_mean(self.operator, OPERATORS)} "
                f"Operators: {', '.join(OPERATORS)}."
            )
        if not self.members:
            raise CompositionError(f"{self.operator}() has no members; name at least one module.")
        operator = OPERATORS[self.operator]
        if operator.most is not None and len(self.members) > operator.most:
            raise CompositionError(
                f"{self.operator} takes {operator.most} member, found {len(self.members)}. Combine them first, such as "
                f"{self.operator}(merge({', '.join(map(str, self.members))}))."
            )
        if len(self.members) < operator.least:
            raise CompositionError(
                f"{self.operator} takes at least {operator.least} members, found {len(self.members)}. Use a single "
                "module as it is."
            )
        for inner in (member.operator for member in self.members if isinstance(member, Expression)):
            if inner in operator.refuses:
                raise CompositionError(f"{inner} cannot be a member of {self.operator}: {operator.refuses[inner]}.")
        object.__setattr__(self, "options", operator.settle(dict(self.options), len(self.members)))
        for module in _modules(self.members):
            operator.check(module)
        if operator.together is not None:
            known = [m.module for m in self.members if isinstance(m, Leaf) and m.module is not None]
            operator.together(known, dict(self.options))

    def __str__(self) -> str:
        return self.text(str(member) for member in self.members)

    def text(self, members: Iterable[str]) -> str:
        """The expression with these texts for its members."""
        return f"{self.operator}({', '.join([*members, *(f'{name}={show(value)}' for name, value in self.options)])})"


def _modules(members: Iterable[Expression | Leaf]) -> Iterator[TaskModule]:
    """The modules at hand whose parts these members hold as they are."""
    for member in members:
        if isinstance(member, Expression):
            if OPERATORS[member.operator].keeps_parts:
                yield from _modules(member.members)
        elif member.module is not None:
            yield member.module


Member = TaskModule | Expression | Leaf | str | Path


def merge(*members: Member) -> Expression:
    """LoRA modules in sequence, exactly; see operators/merge.py."""
    return _made("merge", members)


def stack(*members: Member) -> Expression:
    """Modules on top of each other; see operators/stack.py."""
    return _made("stack", members)


def fuse(*members: Member, kind: str | None = None, rank: int | None = None) -> Expression:
    """A trained attention over modules; see operators/fuse.py."""
    return _made("fuse", members, kind=kind, rank=rank)


def average(*members: Member, weights: Sequence[float] | None = None) -> Expression:
    """The weighted mean of delta W; see operators/average.py."""
    return _made("average", members, weights=weights)


def add(*members: Member, weights: Sequence[float] | None = None) -> Expression:
    """The weighted sum of delta W, negative weights too; see operators/add.py."""
    return _made("add", members, weights=weights)


def svd(member: Member, *, rank: int | None = None) -> Expression:
    """A module at a lower rank; see operators/svd.py."""
    return _made("svd", [member], rank=rank)


def ties(
    *members: Member, density: float | None = None, weights: Sequence[float] | None = None, rank: int | None = None
) -> Expression:
    """Trimmed delta W, elected signs; see operators/ties.py."""
    return _made("ties", members, density=density, weights=weights, rank=rank)


def dare(
    *members: Member,
    density: float | None = None,
    seed: int | None = None,
    weights: Sequence[float] | None = None,
    rank: int | None = None,
) -> Expression:
    """Entries of delta W dropped at random, the others scaled up; see operators/dare.py."""
    return _made("dare", members, density=density, seed=seed, weights=weights, rank=rank)


def prune(member: Member, *, density: float | None = None, rank: int | None = None) -> Expression:
    """The largest entries of delta W only; see operators/prune.py."""
    return _made("prune", [member], density=density, rank=rank)


def _made(operator: str, members: Sequence[Member], **options: Value | Sequence[float] | None) -> Expression:
    given = {
        name: tuple(value) if isinstance(value, list | tuple) else value
        for name, value in options.items()
        if value is not None
    }
    return Expression(operator, tuple(as_member(member) for member in members), tuple(given.items()))  # type: ignore[arg-type]


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
    """Read an expression: ``merge(nli, ner)``, ``ties("out/nli", merge(a, b), density=0.2)``, or one name or folder.

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

    def option(token: str) -> tuple[str, Value]:
        name, _, written = (side.strip() for side in token.partition("="))
        try:
            found = json.loads(written)
        except (ValueError, RecursionError):  # a word, a number of thousands of digits, brackets without end
            found = written
        return name, tuple(found) if isinstance(found, list) else found

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
        if position >= len(tokens) or tokens[position][0] in ("sign", "option"):
            raise fail(position, "a module or an operator")
        group, value, _ = tokens[position]
        if group == "quoted":
            return Leaf(value[1:-1]), position + 1
        if position + 1 >= len(tokens) or tokens[position + 1][1] != "(":
            return Leaf(value), position + 1
        members: list[Expression | Leaf] = []
        options: dict[str, Value] = {}
        position += 2
        while True:
            if position < len(tokens) and tokens[position][0] == "option":
                name, found = option(tokens[position][1])
                if name in options:
                    raise CompositionError(f"Expression '{text}': {name} is given twice.")
                options[name] = found
                position += 1
            elif options:
                raise fail(position, "an option; members stand before them")
            else:
                member, position = read(position, depth + 1)
                members.append(member)
            if position < len(tokens) and tokens[position][1] == ",":
                position += 1
            elif position < len(tokens) and tokens[position][1] == ")":
                return Expression(value, tuple(members), tuple(options.items())), position + 1
            else:
                raise fail(position, "',' or ')'")

    expression, end = read(0)
    if end != len(tokens):
        raise fail(end, "the end")
    return expression
