"""Rows of several trainings in one forward pass over their backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..ragged import RaggedBatch, join
from .base import Engine
from .encoder import encode
from .packed import PackedEngine


def hidden_together(engines: Sequence[Engine], batches: Sequence[RaggedBatch]) -> list[Tensor]:
    """Hidden states of each engine's own batch, in training mode, each (tokens, hidden) in the order of that batch.

    Several engines, all of them packed and on one backbone, run as one: their rows are the groups of a joint batch.
    Everything in an encoder works row by row, so that no row of one has part in what another one learns. Together go
    those that begin at the same layer, 0 but for trunk caches, and learn from the same layer on: in one batch with
    others, their rows would be sent back through layers in which they learn nothing.
    """
    if len(engines) == 1:
        return [engines[0].hidden(batches[0], training=True)]
    found: list[Tensor | None] = [None] * len(engines)
    packed = [cast(PackedEngine, engine) for engine in engines]
    keys = [(engine.trunk_layer, engine.learns_from) for engine in packed]
    for key in dict.fromkeys(keys):
        layer, places = key[0], [i for i, other in enumerate(keys) if other == key]
        own, plan = [batches[i] for i in places], [packed[i].plan[0] for i in places]
        trunks = [trunk.hidden(batches[i]) for i in places if (trunk := packed[i].trunk) is not None]
        after = (layer, torch.cat(trunks)) if trunks else None
        states = encode(packed[0].backbone, join(own), plan, training=True, after=after)
        assert isinstance(states, Tensor)
        for i, piece in zip(places, states.split([batch.tokens for batch in own]), strict=True):
            found[i] = piece
    return [one for one in found if one is not None]
