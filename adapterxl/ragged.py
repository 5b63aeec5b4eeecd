"""Ragged batches: the tokens of all rows one after another, without padding, and who owns which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, groupby

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RaggedBatch:
    """Rows of tokens, packed into flat tensors.

    Rows are ordered by group, then by length, so that the rows of one module stack lie together and
    rows of one length can be seen as a rectangle without copying anything.

    Attributes:
        input_ids: Token ids, shape (tokens,).
        token_type_ids: Segment ids, shape (tokens,); all zero for XLM-R.
        lengths: Tokens of each packed row.
        order: Packed row i is row ``order[i]`` of the caller.
        group_rows: Rows in each group; the plan of a forward has one module stack per group.
        first_only: Of the last layer only each row's first token is looked at, as heads do that judge whole rows.
        host: Token and segment ids on the CPU, shape (2, tokens), where `input_ids` lie on another device.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: tuple[int, ...]
    order: tuple[int, ...]
    group_rows: tuple[int, ...]
    first_only: bool = False
    host: Tensor | None = None

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def device(self) -> torch.device:
        return self.input_ids.device

    @cached_property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Neighbouring rows of equal length as (rows, length); their tokens are one rectangle."""
        return tuple((len(list(rows)), length) for length, rows in groupby(self.lengths))

    @cached_property
    def group_tokens(self) -> tuple[int, ...]:
        """Tokens of each group, in packed order."""
        sizes, row = [], 0
        for rows in self.group_rows:
            sizes.append(sum(self.lengths[row : row + rows]))
            row += rows
        return tuple(sizes)

    @cached_property
    def positions(self) -> Tensor:
        """Position of each token in its row, from 0, shape (tokens,)."""
        return self._sent(torch.cat([torch.arange(length) for length in self.lengths]))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Index of the first token of each of the caller's rows (in the caller's order)."""
        starts, at = [0] * self.rows, 0
        for row, length in zip(self.order, self.lengths, strict=True):
            starts[row] = at
            at += length
        return tuple(starts)

    @cached_property
    def first_tokens(self) -> Tensor:
        """`starts` as a tensor, shape (rows,)."""
        return self._sent(torch.tensor(self.starts))

    @cached_property
    def offsets(self) -> Tensor:
        """Cumulative row lengths, shape (rows + 1,), int32: what variable-length kernels ask for."""
        return self._sent(torch.tensor((0, *self.lengths)).cumsum(0).to(torch.int32))

    @cached_property
    def row_numbers(self) -> Tensor:
        """0 to rows, shape (rows + 1,), int32: `offsets` of rows of one token each."""
        return self._sent(torch.arange(self.rows + 1, dtype=torch.int32))

    def places(self, rows: Sequence[int], part: RaggedBatch) -> Tensor:
        """Where the tokens of `part` lie in this batch, shape (its tokens,); row i of its caller is row ``rows[i]``."""
        starts = [self.starts[rows[row]] for row in part.order]
        pairs = zip(starts, part.lengths, strict=True)
        return self._sent(torch.cat([torch.arange(start, start + length) for start, length in pairs]))

    def _sent(self, values: Tensor) -> Tensor:
        """Values made on the CPU, on the batch's device; nobody waits for the copy."""
        if self.device.type == "cuda":
            values = values.pin_memory()
        return values.to(self.device, non_blocking=True)

    def to(self, device: torch.device | str) -> RaggedBatch:
        """The same batch with its tensors on `device`."""
        if self.device == torch.device(device):
            return self
        host = self._on_host()
        ids, types = (host.pin_memory() if torch.device(device).type == "cuda" else host).to(device, non_blocking=True)
        return replace(self, input_ids=ids, token_type_ids=types, host=host)

    def rows_on_host(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token ids and segment ids of each packed row, without waiting for a device."""
        ends = np.cumsum(self.lengths)[:-1]
        ids, types = (np.split(values, ends) for values in self._on_host().numpy())
        return list(zip(ids, types, strict=True))

    def _on_host(self) -> Tensor:
        return torch.stack((self.input_ids, self.token_type_ids)).cpu() if self.host is None else self.host

    def padded(self, pad_id: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The batch as Hugging Face takes it, rows in packed order.

        Returns:
            input_ids, token_type_ids, attention_mask, each (rows, longest row), and the flat index
            (tokens,) that picks the real tokens out of a (rows * longest, ...) view.
        """
        longest = max(self.lengths)
        mask = torch.arange(longest)[None, :] < torch.tensor(self.lengths)[:, None]
        index = mask.flatten().nonzero().squeeze(1).to(self.device)
        mask = mask.to(self.device)
        ids = torch.full(mask.shape, pad_id, dtype=torch.long, device=self.device)
        types = torch.zeros_like(ids)
        ids[mask], types[mask] = self.input_ids, self.token_type_ids
        return ids, types, mask.long(), index


def pack(
    rows: Sequence[Sequence[int]],
    token_types: Sequence[Sequence[int]] | None = None,
    groups: Sequence[int] | None = None,
    *,
    first_only: bool = False,
) -> RaggedBatch:
    """Pack rows of token ids.

    Args:
        rows: Token ids of each row; at least one row, each with at least one token.
        token_types: Segment ids of the same shape; all zero when absent.
        groups: Index into the plan for each row; all zero when absent. Every index from 0 to the
            largest one has a place in `group_rows`, even when no row uses it.
        first_only: As of the batch.

    Raises:
        ValueError: On an empty row or no row at all (a bug of the caller, not of a user).
    """
    if not rows or not all(len(row) for row in rows):
        raise ValueError("a ragged batch needs at least one row and at least one token in each")
    owner = [0] * len(rows) if groups is None else list(groups)
    order = sorted(range(len(rows)), key=lambda i: (owner[i], len(rows[i])))
    ids = torch.tensor([token for i in order for token in rows[i]], dtype=torch.long)
    if token_types is None:
        types = torch.zeros_like(ids)
    else:
        types = torch.tensor([token for i in order for token in token_types[i]], dtype=torch.long)
    counts = tuple(owner.count(group) for group in range(max(owner) + 1))
    return RaggedBatch(ids, types, tuple(len(rows[i]) for i in order), tuple(order), counts, first_only)


def join(batches: Sequence[RaggedBatch]) -> RaggedBatch:
    """Several batches as the groups of one, each a group: its rows and tokens stay together and in their order."""
    before = [0, *accumulate(batch.rows for batch in batches)]
    return RaggedBatch(
        torch.cat([batch.input_ids for batch in batches]),
        torch.cat([batch.token_type_ids for batch in batches]),
        tuple(length for batch in batches for length in batch.lengths),
        tuple(row + first for batch, first in zip(batches, before, strict=False) for row in batch.order),
        tuple(batch.rows for batch in batches),
        all(batch.first_only for batch in batches),
    )
