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
    """Sums over all tokens seen so far, one for each fusion and place, in float64."""

    def __init__(self) -> None:
        self._sums: dict[tuple[nn.Module, int, str], tuple[tuple[str, ...], Tensor, int]] = {}

    def add(self, fusion: nn.Module, key: tuple[int, str], members: tuple[str, ...], shares: Tensor) -> None:
        """Count shares of shape (tokens, members)."""
        found = shares.detach().double().sum(0)
        _, before, tokens = self._sums.get((fusion, *key), (members, torch.zeros_like(found), 0))
        self._sums[fusion, *key] = members, before + found, tokens + shares.shape[0]

    def means(self) -> list[Shares]:
        """Mean shares, by layer as the encoder runs them."""
        found = [
            Shares(str(fusion.name), layer, site, members, tuple((sums / tokens).tolist()), tokens)
            for (fusion, layer, site), (members, sums, tokens) in self._sums.items()
            if tokens
        ]
        return sorted(found, key=lambda one: one.layer)


_ACTIVE: ContextVar[AttentionRecord | None] = ContextVar("attention record", default=None)


@contextmanager
def recording() -> Iterator[AttentionRecord]:
    """Collect the attention of every fusion that the packed engine runs inside the block."""
    found = AttentionRecord()
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
