"""Rows of several trainings in one forward pass over their backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from ..ragged import RaggedBatch, join
from .base import Engine
from .encoder import encode
from .packed import PackedEngine


def hidden_together(engines: Sequence[Engine], batches: Sequence[RaggedBatch]) -> list[Tensor]:
    """Hidden states of each engine's own batch, in training mode, each (tokens, hidden) in the order of that batch.

    Several engines, all of them packed and on one backbone, run as one: their rows are the groups of a joint batch.
    Everything in an encoder works row by row, so that no row of one has part in what another one learns.
    """
    if len(engines) == 1:
        return [engines[0].hidden(batches[0], training=True)]
    packed = [cast(PackedEngine, engine) for engine in engines]
    states = encode(packed[0].backbone, join(batches), [engine.plan[0] for engine in packed], training=True)
    assert isinstance(states, Tensor)
    return list(states.split([batch.tokens for batch in batches]))
