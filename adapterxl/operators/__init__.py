"""How modules combine: expressions, their operators, and `compose`."""

from __future__ import annotations

from .base import Operator
from .compose import compose
from .expression import OPERATORS, Expression, Leaf, Member, merge, parse, stack

__all__ = ["OPERATORS", "Expression", "Leaf", "Member", "Operator", "compose", "merge", "parse", "stack"]
