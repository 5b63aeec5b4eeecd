"""What an engine is: a backbone with a stack of parts on it that gives hidden states and can be trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from ..backbone import Backbone
from ..modules import FusionPart, Part
from ..ragged import RaggedBatch


class Engine(Protocol):
    """Runs one stack of parts. Heads, losses and the loop are the same for all engines.

    Built by ``build(backbone, frozen, new)``: `frozen` parts stay as they are, but for the own weights of a fusion that
    is not trained yet; they learn, as does `new` (may be None), from the values that they have.
    """

    name: str

    def hidden(self, batch: RaggedBatch, *, training: bool = False, upto: int | None = None) -> Tensor:
        """Hidden states after `upto` layers (all by default), shape (tokens, hidden), in packed order."""
        ...

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns, by name; the same names every time."""
        ...

    def export(self) -> Part | None:
        """The new part in canonical form, on the CPU and apart from the engine; None if there is none."""
        ...

    def fusions(self) -> dict[int, FusionPart]:
        """The fusions that learned, finished, by their position among the frozen parts."""
        ...

    def penalty(self) -> Tensor | None:
        """What is added to the loss; None for nothing."""
        ...


class Build(Protocol):
    """How an engine is made."""

    def __call__(self, backbone: Backbone, frozen: Sequence[Part], new: Part | None) -> Engine: ...
