"""What autograd keeps for the backward pass, for tests of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from adapterxl.backbone import Backbone


@contextmanager
def saved() -> Iterator[list[Tensor]]:
    """The tensors that autograd keeps for the backward pass while this is open."""
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def saved_bytes(kept: list[Tensor], on: Backbone) -> int:
    """Bytes of the distinct storages among them, without the backbone's own weights."""
    weights = {p.untyped_storage().data_ptr() for p in on.model.parameters()}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for pointer, size in storages.items() if pointer not in weights)
