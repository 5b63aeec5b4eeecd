"""Mean pooling and nearest neighbours give what a plain float64 computation gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapterxl.errors import DataError, UsageError
from adapterxl.evaluation.retrieval import mean_pool, nearest


def rows(count: int, width: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def cosines(queries: Tensor, index: Tensor, center: bool) -> Tensor:
    """All cosines in float64, pair by pair."""
    queries, index = queries.double(), index.double()
    if center:
        queries, index = queries - queries.mean(0), index - index.mean(0)
    return torch.nn.functional.cosine_similarity(queries[:, None], index[None], dim=2)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 50, 4096])
def test_nearest_is_the_highest_cosine(center, chunk):
    queries, index = rows(50, seed=1) + 0.7, rows(83, seed=2) - 0.4
    found = nearest(queries, index, center=center, chunk=chunk)
    scores = cosines(queries, index, center)
    assert found.dtype == torch.int64 and found.shape == (50,)
    torch.testing.assert_close(scores[torch.arange(50), found], scores.max(dim=1).values, rtol=0, atol=1e-6)
    assert torch.equal(found, scores.argmax(dim=1))


def test_centring_changes_the_answer_where_a_side_has_a_common_direction():
    queries, index = rows(40, seed=3), rows(40, seed=3) + 0.1 * rows(40, seed=4)
    shifted = index + 30.0 * torch.eye(16)[0]
    assert torch.equal(nearest(queries, shifted, center=True), torch.arange(40))
    assert not torch.equal(nearest(queries, shifted), torch.arange(40))


def test_length_does_not_matter():
    queries, index = rows(20, seed=5), rows(30, seed=6)
    scale = torch.linspace(0.01, 100.0, 30)[:, None]
    assert torch.equal(nearest(queries, index), nearest(queries * 1000, index * scale))


@pytest.mark.parametrize("order", range(5))
def test_permuting_the_index_permutes_the_answer(order):
    queries, index = rows(30, seed=7), rows(60, seed=8)
    permutation = torch.randperm(60, generator=torch.Generator().manual_seed(order))
    assert torch.equal(permutation[nearest(queries, index[permutation])], nearest(queries, index))
    order_of_queries = permutation % 30
    assert torch.equal(nearest(queries[order_of_queries], index), nearest(queries, index)[order_of_queries])


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("chunk", [1, 4096])
@pytest.mark.parametrize("copies", [2, 3, 37])
def test_of_equal_rows_the_lowest_is_returned(copies, chunk, center):
    # A product with one query sums equal columns in different orders: unmended, some ties break upwards.
    queries, once = rows(200, width=192, seed=9), rows(3, width=192, seed=10)
    found = nearest(queries, once.repeat(copies, 1), center=center, chunk=chunk)
    assert torch.equal(found, cosines(queries, once, center).argmax(dim=1))


def test_rows_that_differ_beyond_float32_count_as_equal():
    once = rows(3, width=192, seed=10)
    index = torch.cat([once.double() * (1 + copy * 1e-12) for copy in range(37)])
    assert torch.equal(index.float(), once.repeat(37, 1))
    assert nearest(rows(200, width=192, seed=9), index, chunk=1).max() < 3


def test_all_rows_equal_gives_row_zero():
    assert nearest(rows(9), torch.ones(13, 16)).tolist() == [0] * 9


def test_parallel_unequal_rows_that_tie_exactly_give_the_lowest():
    index = torch.tensor([[0.0, 1.0], [2.0, 0.0], [4.0, 0.0]])
    assert nearest(torch.tensor([[1.0, 0.0]]), index).tolist() == [1]


def test_lower_precision_rows_and_autocast_are_searched_in_float32():
    queries, noise = rows(64, width=64, seed=11), rows(128, width=64, seed=12)
    crowded = queries.repeat(2, 1) + 0.02 * noise  # two neighbours each, that bf16 cannot tell apart
    expected = nearest(queries, crowded)
    assert torch.equal(expected, cosines(queries, crowded, False).argmax(dim=1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest(queries, crowded), expected)
    half = queries.bfloat16(), crowded.bfloat16()
    assert torch.equal(nearest(*half), nearest(half[0].float(), half[1].float()))


def test_no_block_is_kept_for_gradients():
    kept: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved) or saved, lambda saved: saved)
    with hooks:
        nearest(rows(3).requires_grad_(), rows(4).requires_grad_())
    assert not kept


@pytest.mark.parametrize(
    ("queries", "index", "message"),
    [
        (rows(0), rows(3), r"found queries \(0, 16\)"),
        (rows(3), rows(0), r"index \(0, 16\)"),
        (rows(3)[0], rows(3), r"found queries \(16,\)"),
        (rows(3), rows(3, width=8), "queries are 16 wide, index 8 wide"),
        (rows(3), torch.cat([rows(1), torch.zeros(1, 16)]), r"row 1 of the index .* has length 0"),
        (torch.full((2, 16), float("nan")), rows(3), "row 0 of the queries .* has length nan"),
        (rows(3), torch.full((2, 16), float("inf")), "row 0 of the index .* has length inf"),
    ],
)
def test_sides_without_a_direction_or_a_match_are_refused(queries, index, message):
    with pytest.raises(DataError, match=message):
        nearest(queries, index)


def test_one_sentence_cannot_be_centred():
    with pytest.raises(DataError, match="row 0 of the queries .* has length 0 after centring"):
        nearest(rows(1), rows(3), center=True)


def test_a_chunk_below_one_is_refused():
    with pytest.raises(UsageError, match="chunk is 0; expected 1 or more"):
        nearest(rows(3), rows(3), chunk=0)


def test_mean_pool_is_the_mean_of_each_row_with_its_special_tokens():
    lengths = [3, 1, 20, 2]
    hidden = rows(26, seed=14)
    pooled = mean_pool(hidden, lengths)
    ends = [3, 4, 24, 26]
    for row, (length, end) in enumerate(zip(lengths, ends, strict=True)):
        expected = sum(hidden[token].double() for token in range(end - length, end)) / length
        torch.testing.assert_close(pooled[row].double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(mean_pool(hidden, torch.tensor(lengths)), pooled, rtol=0, atol=0)


def test_a_row_pools_alike_in_any_batch():
    first, second = rows(5, seed=15), rows(9, seed=16)
    together = mean_pool(torch.cat([first, second]), [5, 9])
    swapped = mean_pool(torch.cat([second, first]), [9, 5])
    assert torch.equal(together, swapped.flip(0))


def test_mean_pool_of_bfloat16_is_computed_in_float32():
    hidden = rows(200, seed=17).bfloat16()
    pooled = mean_pool(hidden, [200])
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled[0].double(), hidden.double().mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("lengths", [[3, 2], [3, 4], [6, 0], [7, -1], []])
def test_lengths_that_do_not_fit_are_refused(lengths):
    with pytest.raises(DataError, match=r"do not fit hidden states of shape \(6, 16\)"):
        mean_pool(rows(6), lengths)
