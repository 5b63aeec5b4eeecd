"""From items to a ragged batch with targets, and how items are drawn into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..ragged import RaggedBatch, pack
from .prepare import Item


@dataclass(frozen=True)
class Batch:
    """Items on a device, ready for an engine and a head.

    Attributes:
        ragged: Their rows.
        select: tag, mask: flat indices of the labelled or masked tokens, item by item; else None.
        targets: As `modules.heads.row_losses` takes them.
        items: The items, in their order.
    """

    ragged: RaggedBatch
    select: Tensor | None
    targets: Any
    items: tuple[Item, ...]


def collate(kind: str, items: Sequence[Item], device: torch.device) -> Batch:
    """Pack the rows of all items."""
    rows = [row for item in items for row in item.rows]
    types = [row for item in items for row in item.types]
    ragged = pack(rows, types, first_only=kind in ("classify", "choice")).to(device)
    select: Tensor | None = None
    targets: Any
    if kind in ("tag", "mask"):
        flat = [
            start + position
            for start, item in zip(ragged.starts, items, strict=True)
            for position in item.positions or ()
        ]
        select = torch.tensor(flat, dtype=torch.long, device=device)
        targets = torch.tensor([tag for item in items for tag in item.target], dtype=torch.long, device=device)
    else:
        targets = torch.tensor([item.target for item in items], dtype=torch.long, device=device)
    if kind == "choice":
        counts = {len(item.rows) for item in items}
        if len(counts) > 1:
            raise DataError(
                f"Items of one batch have {sorted(counts)} choices; a task needs the same number in each row."
            )
        targets = (counts.pop(), targets)
    return Batch(ragged, select, targets, tuple(items))


def count_targets(kind: str, items: Sequence[Item]) -> int:
    """What a loss over these items is the mean of: words of tag items, masked tokens, else items."""
    return sum(len(item.positions or ()) for item in items) if kind in ("tag", "mask") else len(items)


def epoch_batches(
    lengths: Sequence[int],
    *,
    batch_size: int | None,
    tokens_per_batch: int | None,
    seed: int,
    epoch: int,
    pool: int = 50,
) -> list[list[int]]:
    """Indices of all items, drawn into batches of similar length in an order that seed and epoch fix.

    Items are shuffled, cut into pools of about `pool` batches, sorted by length inside a pool, cut into batches,
    and the batches are shuffled: little padding for engines that pad, and still a random order.

    Args:
        lengths: Tokens of each item.
        batch_size: Items per batch; or else
        tokens_per_batch: Most tokens per batch (one longer item is a batch of its own).
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    sizes = np.asarray(lengths)
    per_batch = batch_size or max(1, int((tokens_per_batch or 0) / max(sizes.mean(), 1)))
    batches: list[list[int]] = []
    for start in range(0, len(order), pool * per_batch):
        members = order[start : start + pool * per_batch]
        members = members[np.argsort(sizes[members], kind="stable")]
        batches += cut_batches(members.tolist(), sizes, batch_size, tokens_per_batch)
    return [batches[i] for i in generator.permutation(len(batches))]


def cut_batches(
    members: Sequence[int], lengths: Any, batch_size: int | None, tokens_per_batch: int | None
) -> list[list[int]]:
    """Cut an order of items into batches by number of items or by tokens."""
    batches: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for index in members:
        size = int(lengths[index])
        full = len(current) == batch_size if batch_size else tokens + size > (tokens_per_batch or 0)
        if current and full:
            batches.append(current)
            current, tokens = [], 0
        current.append(index)
        tokens += size
    if current:
        batches.append(current)
    return batches
