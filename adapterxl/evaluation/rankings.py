"""The first k of a pool for every query, by cosine (LAReQA, Mewsli-X, retrieval by questions)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapterxl.errors import DataError, UsageError

from .retrieval import check_sides, unit_rows


@torch.no_grad()
def ranked(queries: Tensor, pool: Tensor, top: int, *, center: bool = False, chunk: int = 1024) -> Tensor:
    """Return for each query the rows of `pool` with the highest cosines, the highest first.

    Equal cosines stand in the order of their rows; which of them are left out at the end is not defined.

    Args:
        queries: Shape (m, hidden).
        pool: Shape (n, hidden), on the same device; for LAReQA the sentences of all languages together.
        top: How many, at most n are returned.
        center: Subtract each side's own mean vector first.
        chunk: Queries per block.

    Returns:
        Row numbers, shape (m, min(top, n)), int64.

    Raises:
        UsageError: If `top` or `chunk` is below 1.
        DataError: If a side is empty, if the widths differ, or if a row has no direction.

    Source: Roy et al. 2020 (LAReQA); Ruder et al. 2021 (XTREME-R).
    """
    if top < 1 or chunk < 1:
        raise UsageError(f"top is {top}, chunk is {chunk}; expected 1 or more of both.")
    check_sides(queries, pool, "queries", "pool")
    best = Best(unit_rows("queries", queries, center), top, chunk)
    best.add(unit_rows("pool", pool, center))
    return best.rows


class Best:
    """The rows of a pool with the highest cosines, while the pool comes piece by piece.

    Equal cosines stand in the order in which their rows came.

    Args:
        queries: Unit rows, float32, shape (m, hidden).
        top: How many rows are kept for each query.
        chunk: Queries per block.
    """

    def __init__(self, queries: Tensor, top: int, chunk: int = 1024) -> None:
        self.queries, self.top, self.chunk, self.count = queries, top, chunk, 0
        self.cosines = queries.new_empty(len(queries), 0)
        self.rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)

    @torch.no_grad()
    def add(self, pool: Tensor) -> None:
        """Take the next rows, unit ones, shape (n, hidden), on the same device."""
        cosines, rows = [], []
        with torch.autocast(pool.device.type, enabled=False):
            sides = (each.split(self.chunk) for each in (self.queries, self.cosines, self.rows))
            for block, *before in zip(*sides, strict=True):
                values, places = (block @ pool.T).topk(min(self.top, len(pool)))
                places, by_row = places.sort(dim=1)
                values = torch.cat([before[0], values.gather(1, by_row)], dim=1)
                places = torch.cat([before[1], places + self.count], dim=1)
                order = values.argsort(dim=1, descending=True, stable=True)[:, : self.top]
                cosines.append(values.gather(1, order))
                rows.append(places.gather(1, order))
        self.cosines, self.rows, self.count = torch.cat(cosines), torch.cat(rows), self.count + len(pool)


def ranked_ids(rows: Tensor, ids: Sequence[str]) -> list[tuple[str, ...]]:
    """Return rankings as the metrics take them: the ids of the rows that `ranked` found.

    Raises:
        DataError: If there are fewer ids than a row number needs.
    """
    if int(rows.max()) >= len(ids):
        raise DataError(
            f"Rankings: row {int(rows.max())} has no id among {len(ids)}; expected one id a row of the pool."
        )
    return [tuple(ids[row] for row in each) for each in rows.tolist()]
