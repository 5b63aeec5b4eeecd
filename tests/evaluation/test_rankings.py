"""Rankings equal a full stable sort of float64 cosines."""

from __future__ import annotations

import pytest
import torch

from adapterxl.errors import DataError, UsageError
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.rankings import ranked, ranked_ids
from adapterxl.evaluation.retrieval import nearest


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)) + 0.3


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("chunk", "top"), [(1, 5), (7, 20), (1024, 90)])
def test_the_first_k_are_those_of_a_full_sort(center, chunk, top):
    queries, pool = rows(30, 1), rows(83, 2)
    found = ranked(queries, pool, top, center=center, chunk=chunk)
    a, b = queries.double(), pool.double()
    if center:
        a, b = a - a.mean(0), b - b.mean(0)
    cosines = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    assert torch.equal(found, cosines.argsort(dim=1, descending=True)[:, :top])
    assert torch.equal(found[:, 0], nearest(queries, pool, center=center))


def test_equal_cosines_stand_in_the_order_of_their_rows():
    basis = torch.eye(4)
    pool = basis[[2, 0, 1, 0, 2]]
    assert ranked(basis[:3], pool, 5).tolist() == [[1, 3, 0, 2, 4], [2, 0, 1, 3, 4], [0, 4, 1, 2, 3]]


def test_rankings_become_the_ids_that_metrics_take():
    pool = torch.eye(3)
    rankings = ranked_ids(ranked(pool, pool, 2), ("en:1", "th:1", "zh:1"))
    assert rankings == [("en:1", "th:1"), ("th:1", "en:1"), ("zh:1", "en:1")]
    assert get_metric("mrr_at_20").compute(rankings, [("en:1",), ("en:1",), ("th:1",)]) == pytest.approx(0.5)


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="top is 0, chunk is 1024; expected 1 or more"):
        ranked(rows(2, 1), rows(2, 2), 0)
    with pytest.raises(DataError, match=r"found queries \(2, 16\) and pool \(0, 16\)"):
        ranked(rows(2, 1), rows(2, 2)[:0], 1)
    with pytest.raises(DataError, match="row 2 has no id among 2; expected one id a row of the pool"):
        ranked_ids(torch.tensor([[0, 2]]), ("a", "b"))
