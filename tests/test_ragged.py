"""Packing rows without padding: every token stays with its row, its group and its position."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.ragged import pack

ROWS = [[7, 8, 9], [5], [4, 6], [1, 2, 3]]


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], list[int]]:
    rows = draw(st.lists(st.lists(st.integers(2, 99), min_size=1, max_size=9), min_size=1, max_size=8))
    groups = draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    return rows, groups


def test_rows_are_packed_by_length_and_equal_lengths_keep_their_order():
    batch = pack(ROWS)
    assert batch.order == (1, 2, 0, 3)
    assert batch.lengths == (1, 2, 3, 3)
    assert batch.input_ids.tolist() == [5, 4, 6, 7, 8, 9, 1, 2, 3]
    assert batch.runs == ((1, 1), (1, 2), (2, 3))


def test_rows_of_one_group_lie_together():
    batch = pack(ROWS, groups=[1, 0, 1, 0])
    assert batch.order == (1, 3, 2, 0)
    assert batch.group_rows == (2, 2)
    assert batch.group_tokens == (4, 5)


def test_a_group_without_rows_keeps_its_place():
    batch = pack(ROWS, groups=[2, 2, 0, 2])
    assert batch.group_rows == (1, 0, 3)
    assert batch.group_tokens == (2, 0, 7)


def test_rows_of_equal_length_in_two_groups_are_still_one_rectangle():
    assert pack([[1, 2], [3, 4]], groups=[0, 1]).runs == ((2, 2),)


@settings(max_examples=60, deadline=None)
@given(batches())
def test_every_row_is_found_again_where_its_start_says(case: tuple[list[list[int]], list[int]]):
    rows, groups = case
    batch = pack(rows, groups=groups)
    for row, start in zip(rows, batch.starts, strict=True):
        assert batch.input_ids[start : start + len(row)].tolist() == row
        assert batch.positions[start : start + len(row)].tolist() == list(range(len(row)))
    assert batch.first_tokens.tolist() == list(batch.starts)
    assert (batch.rows, batch.tokens) == (len(rows), sum(map(len, rows)))


@settings(max_examples=60, deadline=None)
@given(batches())
def test_counts_of_rows_and_tokens_add_up(case: tuple[list[list[int]], list[int]]):
    rows, groups = case
    batch = pack(rows, groups=groups)
    assert sum(batch.group_rows) == batch.rows
    assert sum(batch.group_tokens) == batch.tokens
    assert sum(count * length for count, length in batch.runs) == batch.tokens
    assert len(batch.group_rows) == max(groups) + 1
    assert batch.offsets.dtype == torch.int32
    assert batch.offsets.diff().tolist() == list(batch.lengths)


@settings(max_examples=40, deadline=None)
@given(batches())
def test_the_padded_form_holds_the_same_tokens(case: tuple[list[list[int]], list[int]]):
    rows, groups = case
    types = [[i % 2 for i in range(len(row))] for row in rows]
    batch = pack(rows, types, groups)
    ids, token_types, mask, index = batch.padded(pad_id=1)
    assert ids.shape == token_types.shape == mask.shape == (len(rows), max(map(len, rows)))
    assert mask.sum(1).tolist() == list(batch.lengths)
    assert (ids[mask == 0] == 1).all() and (token_types[mask == 0] == 0).all()
    for packed_row, original in enumerate(batch.order):
        length = batch.lengths[packed_row]
        assert ids[packed_row, :length].tolist() == rows[original]
        assert token_types[packed_row, :length].tolist() == types[original]
    assert torch.equal(ids.flatten()[index], batch.input_ids)
    assert torch.equal(token_types.flatten()[index], batch.token_type_ids)


def test_token_types_are_zero_when_not_given():
    assert pack(ROWS).token_type_ids.tolist() == [0] * 9


def test_moving_a_batch_keeps_everything():
    batch = pack(ROWS, groups=[1, 0, 1, 0])
    moved = batch.to("cpu")
    assert torch.equal(moved.input_ids, batch.input_ids)
    assert (moved.lengths, moved.order, moved.group_rows) == (batch.lengths, batch.order, batch.group_rows)


@pytest.mark.parametrize("rows", [[], [[]], [[1, 2], []]])
def test_an_empty_row_or_batch_is_refused(rows: list[list[int]]):
    with pytest.raises(ValueError, match="at least one row and at least one token"):
        pack(rows)
