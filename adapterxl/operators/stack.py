"""stack: modules on top of each other at run time. LoRA additions add up, bottlenecks nest, kinds may mix.

Sources: Pfeiffer et al. 2020 (MAD-X), https://arxiv.org/abs/2005.00052, for nested bottlenecks.
"""

from __future__ import annotations

from ..artifacts.module import TaskModule
from .base import Operator, sequence


def check(member: TaskModule) -> None:
    """Every kind of module can be stacked."""


OPERATOR = Operator("stack", "modules on top of each other; bottlenecks nest, LoRA additions add up", check, sequence)
