"""Find translations: sentence vectors by mean pooling, nearest neighbours by cosine (Tatoeba)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapterxl.errors import DataError, UsageError


def mean_pool(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the mean vector of each row of a packed batch, special tokens included.

    Args:
        hidden: Hidden states of all rows one after the other, without padding, shape (tokens, hidden).
        lengths: Tokens of each row with its special ones, at least 1 each; they sum to `tokens`.

    Returns:
        Shape (rows, hidden), float32 (a mean in bf16 would lose what tells near sentences apart).

    Raises:
        DataError: If the lengths do not fit `hidden`.

    Source: XTREME and jiant average over all of a row's tokens, ``<s>`` and ``</s>`` too (Hu et al. 2020).
    """
    sizes = [int(length) for length in lengths]
    if hidden.dim() != 2 or not sizes or min(sizes) < 1 or sum(sizes) != hidden.shape[0]:
        raise DataError(
            f"Mean pooling: {len(sizes)} rows of {sum(sizes)} tokens in all, the shortest of "
            f"{min(sizes, default=0)}, do not fit hidden states of shape {tuple(hidden.shape)}; "
            "expected (tokens, hidden) and rows of 1 token or more that sum to tokens."
        )
    return torch.segment_reduce(hidden.float(), "mean", lengths=torch.tensor(sizes, device=hidden.device), axis=0)


def first_tokens(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the vector of each row's first token (``<s>``, [CLS]); shapes and dtype as of `mean_pool`."""
    sizes = torch.tensor([int(length) for length in lengths], device=hidden.device)
    return hidden.index_select(0, sizes.cumsum(0) - sizes).float()


@torch.no_grad()
def nearest(queries: Tensor, index: Tensor, *, center: bool = False, chunk: int = 4096) -> Tensor:
    """Return for each query the row of `index` with the highest cosine.

    Computes in float32, under autocast too. Of rows that are equal in every number the lowest is returned,
    as FAISS does. Besides normalised copies of the two sides, a (chunk, n) block of scores is held at a time.

    Args:
        queries: Shape (m, hidden).
        index: Shape (n, hidden), on the same device.
        center: Subtract each side's own mean vector before normalising, which takes away what all
            sentences of a language share.
        chunk: Queries per block.

    Returns:
        Row numbers in `index`, shape (m,), int64, on the device of `queries`.

    Raises:
        UsageError: If `chunk` is below 1.
        DataError: If a side is empty, if the widths differ, or if a row is zero or not finite and so has
            no direction.

    Source: Artetxe and Schwenk 2019 (cosine 1-NN on Tatoeba); Hu et al. 2020.
    """
    if chunk < 1:
        raise UsageError(f"chunk is {chunk}; expected 1 or more queries per block.")
    check_sides(queries, index, "queries", "index")
    unit_queries = unit_rows("queries", queries, center)
    unit_index = unit_rows("index", index, center)
    with torch.autocast(queries.device.type, enabled=False):
        winners = torch.cat([(block @ unit_index.T).argmax(dim=1) for block in unit_queries.split(chunk)])
    return _first_equal_row(index.float())[winners]


def check_sides(first: Tensor, second: Tensor, *names: str) -> None:
    """Refuse two sides that cannot be compared.

    Raises:
        DataError: If a side is empty, or if the widths differ.
    """
    if first.dim() != 2 or second.dim() != 2 or 0 in (*first.shape, *second.shape):
        raise DataError(
            f"Retrieval needs sentences on both sides: found {names[0]} {tuple(first.shape)} and {names[1]} "
            f"{tuple(second.shape)}, expected (m, hidden) and (n, hidden) with no dimension 0."
        )
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"Retrieval: {names[0]} are {first.shape[1]} wide, {names[1]} {second.shape[1]} wide; "
            "expected vectors of one backbone and one layer on both sides."
        )


def unit_rows(side: str, rows: Tensor, center: bool) -> Tensor:
    """Return the rows in float32, centred if asked, each of length 1.

    Raises:
        DataError: If a row is zero or not finite.
    """
    rows = rows.float()
    if center:
        rows = rows - rows.mean(dim=0)
    norms = rows.norm(dim=1, keepdim=True)
    bad = ~(torch.isfinite(norms) & (norms > 0)).squeeze(1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise DataError(
            f"Retrieval: row {row} of the {side} (counted from 0) has length {float(norms[row]):g}"
            f"{' after centring' if center else ''}, so no direction; expected a finite vector other than 0."
        )
    return rows / norms


def _first_equal_row(rows: Tensor) -> Tensor:
    """Return for each row the number of the first row equal to it, shape (n,).

    A matrix product may sum two equal columns in another order and so break their tie either way.
    """
    groups, group = torch.unique(rows, dim=0, return_inverse=True)
    numbers = torch.arange(len(rows), device=rows.device)
    first = torch.full((len(groups),), len(rows), device=rows.device)
    return first.scatter_reduce(0, group, numbers, "amin")[group]
