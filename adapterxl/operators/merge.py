"""merge: LoRA modules in sequence, as one exact LoRA with their ranks side by side.

W + s1 B1 A1 + s2 B2 A2 + ... = W + [s1 B1 | s2 B2 | ...] [A1; A2; ...]: nothing is rounded away or truncated,
and each module's ranks can be cut out again. Source: Hu et al. 2022, section 4.1, applied once per module.
A DoRA rescales what was there before it, so the family is closed: see `modules.lora.concatenate`.
"""

from __future__ import annotations

from ..artifacts.module import TaskModule
from ..errors import CompositionError
from ..modules import FusionPart, IA3Part, LoRAPart
from .base import Operator, sequence

NO_FUSION = "the attention of a fusion has no place in a weight matrix. Put the fusion last: stack(..., fuse(...))"


def check(member: TaskModule) -> None:
    """Refuse what has no place in a weight matrix."""
    for part in member.parts:
        if isinstance(part, FusionPart):
            raise CompositionError(f"'{member.name}' holds a fusion, which cannot be merged: {NO_FUSION}.")
        if not isinstance(part, LoRAPart | IA3Part):
            raise CompositionError(
                f"A {part.kind} module cannot be merged: its nonlinearity has no place in a weight matrix. "
                f"Use stack for '{member.name}'."
            )


OPERATOR = Operator(
    "merge",
    "LoRA modules in sequence, exactly, as one LoRA (ranks side by side)",
    check,
    sequence,
    refuses={"fuse": NO_FUSION},
    keeps_parts=True,
)
