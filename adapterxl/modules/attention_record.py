"""What a fusion's attention was: shares of the members, summed over the tokens of the forwards inside `recording`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shares:
    """Mean share of each member at one place.

    Attributes:
        fusion: Name of the fusion.
        site: A site ("query") or a place ("ffn").
        members: Names of the members that act there.
        weights: Their mean shares over all tokens; they sum to 1.
        tokens: How many tokens.
    """

    fusion: str
    layer: int
    site: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    tokens: int


class AttentionRecord:
    """Sums over all tokens seen so far, one for each owner, fusion and place, in float64.

    Attributes:
        owners: Whose each token of the next forward is, shape (tokens,), int64; None for all owner 0. Tokens of the
            number after the last owner are nobody's.
        count: Number of owners.
    """

    def __init__(self, count: int = 1) -> None:
        self.owners: Tensor | None = None
        self.count = count
        self._sums: dict[tuple[nn.Module, int, str], tuple[tuple[str, ...], Tensor]] = {}

    def add(self, fusion: nn.Module, key: tuple[int, str], members: tuple[str, ...], shares: Tensor) -> None:
        """Count shares of shape (tokens, members)."""
        counted = nn.functional.pad(shares.detach().double(), (0, 1), value=1.0)  # the last column counts tokens
        owners = self.owners
        if owners is None:
            owners = torch.zeros(len(shares), dtype=torch.long, device=shares.device)
        if (fusion, *key) not in self._sums:
            self._sums[fusion, *key] = members, counted.new_zeros(self.count + 1, counted.shape[1])
        self._sums[fusion, *key][1].index_add_(0, owners, counted)

    def means(self, owner: int = 0) -> list[Shares]:
        """Mean shares of an owner's tokens, by layer as the encoder runs them."""
        found = []
        for (fusion, layer, site), (members, sums) in self._sums.items():
            *weights, tokens = sums[owner].tolist()
            if tokens:
                mean = tuple(weight / tokens for weight in weights)
                found.append(Shares(str(fusion.name), layer, site, members, mean, int(tokens)))
        return sorted(found, key=lambda one: one.layer)


_ACTIVE: ContextVar[AttentionRecord | None] = ContextVar("attention record", default=None)


@contextmanager
def recording(count: int = 1) -> Iterator[AttentionRecord]:
    """Collect the attention of every fusion that the packed engine runs inside the block, for so many owners."""
    found = AttentionRecord(count)
    token = _ACTIVE.set(found)
    try:
        yield found
    finally:
        _ACTIVE.reset(token)


def record(fusion: nn.Module, key: tuple[int, str], members: tuple[str, ...], shares: Tensor) -> None:
    """Tell the record in force, if there is one."""
    active = _ACTIVE.get()
    if active is not None:
        active.add(fusion, key, members, shares)


def is_recording() -> bool:
    """Whether a record is in force."""
    return _ACTIVE.get() is not None
