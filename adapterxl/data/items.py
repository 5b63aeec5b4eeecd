"""What is drawn into a batch, and many of it in a mapped Arrow file, from which each is made when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, overload

import numpy as np
import pyarrow as pa


@dataclass(slots=True)
class Item:
    """What is drawn into a batch as one: a row of tokens, or one row per choice.

    Attributes:
        example: Index of its example; long examples have several items (windows).
        rows: Token ids.
        types: Segment ids, shaped as `rows`.
        target: classify, choice: label id. span: (start, end) token positions; (0, 0) where the window does not
            hold the answer. tag: tag ids of `positions`. mask: the tokens that were there.
        positions: tag: token position of each labelled word's first sub-word. mask: the masked places.
        words: tag: index of each labelled word in its example.
        offsets: span: (tokens, 2) character offsets into the context, (-1, -1) outside of it.
    """

    example: int
    rows: list[list[int]]
    types: list[list[int]]
    target: Any
    positions: list[int] | None = None
    words: list[int] | None = None
    offsets: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        return sum(len(row) for row in self.rows)


# What the items of a kind have beside rows, types and target.
_MORE = {"classify": (), "choice": (), "tag": ("positions", "words"), "span": ("offsets",), "mask": ("positions",)}


def schema(kind: str) -> pa.Schema:
    """Columns of the items of a kind: numbers as lists, one list for each item; of rows, a list for each row."""
    numbers = pa.list_(pa.int32())
    return pa.schema(
        [
            ("example", pa.int32()), ("rows", pa.list_(numbers)), ("types", pa.list_(pa.list_(pa.int8()))),
            ("target", numbers), *((name, numbers) for name in _MORE[kind]),
        ]
    )  # fmt: skip


def to_batch(kind: str, items: Sequence[Item]) -> pa.RecordBatch:
    """Items as columns."""
    columns: dict[str, list[Any]] = {
        name: [getattr(item, name) for item in items] for name in ("example", "rows", "types", *_MORE[kind])
    }
    one = kind in ("classify", "choice")
    columns["target"] = [[item.target] if one else list(item.target) for item in items]
    if "offsets" in columns:
        columns["offsets"] = [offsets.ravel() for offsets in columns["offsets"]]
    return pa.RecordBatch.from_pydict(columns, schema(kind))


class MappedItems(Sequence[Item]):
    """Items of record batches, such as those of a mapped file. Each is made when it is asked for; none is kept."""

    def __init__(self, kind: str, batches: Sequence[pa.RecordBatch]) -> None:
        self._batches = [_Columns(kind, batch) for batch in batches]
        self._starts = list(accumulate((batch.num_rows for batch in batches), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(index)
        batch = bisect_right(self._starts, at) - 1
        return self._batches[batch].item(at - self._starts[batch])

    def __iter__(self) -> Iterator[Item]:
        return (batch.item(i) for batch in self._batches for i in range(batch.count))

    def lengths(self) -> list[int]:
        """Tokens of each item."""
        return [length for batch in self._batches for length in batch.lengths()]


def lengths_of(items: Sequence[Item]) -> list[int]:
    """Tokens of each item, without making those that lie in a file."""
    return items.lengths() if isinstance(items, MappedItems) else [item.tokens for item in items]


class _Columns:
    """The columns of one record batch as views of its buffers."""

    def __init__(self, kind: str, batch: pa.RecordBatch) -> None:
        self.kind, self.count = kind, batch.num_rows
        self._example = batch["example"].to_numpy()
        # An item's rows lie between two of the outer places, a row's tokens between two of the inner ones.
        self._outer, inner = _places(batch["rows"])
        self._inner, tokens = _places(inner)
        self._tokens, self._types = tokens.to_numpy(), _places(_places(batch["types"])[1])[1].to_numpy()
        lists = {name: _places(batch[name]) for name in ("target", *_MORE[kind])}
        self._lists = {name: (places, values.to_numpy()) for name, (places, values) in lists.items()}

    def item(self, index: int) -> Item:
        first, last = self._outer[index : index + 2].tolist()
        ends = self._inner[first : last + 1].tolist()
        spans = list(zip(ends, ends[1:], strict=False))
        found = {name: values[slice(*places[index : index + 2])] for name, (places, values) in self._lists.items()}
        offsets = found.pop("offsets", None)
        lists = {name: values.tolist() for name, values in found.items()}
        target = lists.pop("target")
        if self.kind in ("classify", "choice"):
            (target,) = target
        return Item(
            int(self._example[index]),
            [self._tokens[begin:end].tolist() for begin, end in spans],
            [self._types[begin:end].tolist() for begin, end in spans],
            tuple(target) if self.kind == "span" else target,
            **lists,
            offsets=None if offsets is None else offsets.reshape(-1, 2).astype(np.int64),
        )

    def lengths(self) -> list[int]:
        found: list[int] = np.diff(self._inner[self._outer]).tolist()
        return found


def _places(array: pa.ListArray) -> tuple[np.ndarray, pa.Array]:
    """Where each list begins and the last one ends, and the values of all."""
    return array.offsets.to_numpy(), array.values
