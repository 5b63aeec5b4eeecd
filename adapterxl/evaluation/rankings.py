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
    unit_queries, unit_pool = unit_rows("queries", queries, center), unit_rows("pool", pool, center)
    found = []
    with torch.autocast(queries.device.type, enabled=False):
        for block in unit_queries.split(chunk):
            values, rows = (block @ unit_pool.T).topk(min(top, len(pool)))
            rows, by_row = rows.sort(dim=1)
            order = values.gather(1, by_row).argsort(dim=1, descending=True, stable=True)
            found.append(rows.gather(1, order))
    return torch.cat(found)


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
