"""How modules combine: expressions, their operators, and `compose`."""

from __future__ import annotations

from .base import Operator
from .compose import compose
from .expression import (
    OPERATORS,
    Expression,
    Leaf,
    Member,
    add,
    average,
    dare,
    fuse,
    merge,
    parse,
    prune,
    stack,
    svd,
    ties,
)  # fmt: skip

__all__ = [
    "OPERATORS", "Expression", "Leaf", "Member", "Operator", "add", "average", "compose", "dare", "fuse", "merge",
    "parse", "prune", "stack", "svd", "ties",
]  # fmt: skip
