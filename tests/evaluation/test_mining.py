"""Mining in stripes finds what the whole table of cosines gives; thresholds come from dev and stay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from adapterxl.errors import DataError, UsageError
from adapterxl.evaluation import mining
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.mining import Side, by_source, freeze_threshold, margin_pairs, mine, neighbours


def sides(m: int, n: int, noise: float = 0.5, width: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit rows; the first of both sides are translations of each other."""
    draw = torch.Generator().manual_seed(seed)
    x, y = 0.3 + torch.randn(m, width, generator=draw), 0.3 + torch.randn(n, width, generator=draw)
    both = min(m, n) // 2
    y[:both] = x[:both] + noise * torch.randn(both, width, generator=draw)
    return torch.nn.functional.normalize(x, dim=1), torch.nn.functional.normalize(y, dim=1)


def naive(x: Tensor, y: Tensor, k: int) -> list[tuple[int, int, float]]:
    """Margins of all pairs in float64, then the definition step by step."""
    cosines = x.double() @ y.double().T
    cosines /= x.double().norm(dim=1)[:, None] * y.double().norm(dim=1)
    near_x = cosines.topk(min(k, len(y)), dim=1)
    near_y = cosines.topk(min(k, len(x)), dim=0)
    margins = cosines / ((near_x.values.mean(dim=1)[:, None] + near_y.values.mean(dim=0)) / 2)
    proposals = []
    for i, row in enumerate(near_x.indices.tolist()):
        best = max(row, key=lambda j: float(margins[i, j]))
        proposals.append((float(margins[i, best]), i, best))
    for j, column in enumerate(near_y.indices.T.tolist()):
        best = max(column, key=lambda i: float(margins[i, j]))
        proposals.append((float(margins[best, j]), best, j))
    found, used_x, used_y = [], set(), set()
    for score, i, j in sorted(proposals, key=lambda each: -each[0]):
        if score > 0 and i not in used_x and j not in used_y:
            found.append((i, j, score))
            used_x.add(i)
            used_y.add(j)
    return found


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (130, 70), (257, 300)])
@pytest.mark.parametrize("k", [1, 4, 9])
@pytest.mark.parametrize("height", [1, 7, 512])
def test_equals_the_naive_form_whatever_the_stripes(monkeypatch, size, k, height):
    if height == 1 and size[0] > 3:
        height = 40
    monkeypatch.setattr(mining, "_HEIGHT", height)
    x, y = sides(*size)
    cosines = x @ y.T
    forward, backward = neighbours(x, y, k)
    for found, table in ((forward, cosines), (backward, cosines.T)):
        torch.testing.assert_close(found.cosines, table.topk(min(k, table.shape[1])).values, rtol=0, atol=1e-6)
        torch.testing.assert_close(table.gather(1, found.rows), found.cosines, rtol=0, atol=1e-6)
    pairs, scores = margin_pairs(x, y, k)
    expected = naive(x, y, k)
    assert pairs.tolist() == [[i, j] for i, j, _ in expected]
    assert scores.tolist() == pytest.approx([score for *_, score in expected], abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_swapping_the_sides_swaps_the_pairs_and_permuting_permutes_them(seed):
    x, y = sides(90, 60, seed=seed)
    pairs = {tuple(pair) for pair in margin_pairs(x, y)[0].tolist()}
    assert {(i, j) for j, i in margin_pairs(y, x)[0].tolist()} == pairs
    order = torch.randperm(90, generator=torch.Generator().manual_seed(seed))
    assert {(int(order[i]), j) for i, j in margin_pairs(x[order], y)[0].tolist()} == pairs


def test_length_does_not_matter_and_centring_is_that_of_each_side():
    x, y = sides(50, 40)
    assert torch.equal(margin_pairs(7 * x, y / 9)[0], margin_pairs(x, y)[0])
    centred = margin_pairs(x - x.mean(dim=0), y - y.mean(dim=0))
    assert torch.equal(margin_pairs(x + 5.0, y, center=True)[0], centred[0])


def test_no_more_than_a_stripe_of_products_is_held(monkeypatch):
    monkeypatch.setattr(mining, "_STRIPE", 1 << 12)
    sizes = []
    real = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: sizes.append(out.numel()) or real(a, b, out=out))
    neighbours(*sides(300, 200))
    assert max(sizes) <= 1 << 12 and sum(sizes) == 300 * 256  # each product once, for both ways


def texts(count: int, name: str, vectors: Tensor, *, copies: dict[int, int] | None = None) -> Side:
    lines = [f"{name} sentence {i}" for i in range(count)]
    vectors = vectors.clone()
    for copy, of in (copies or {}).items():
        lines[copy], vectors[copy] = lines[of], vectors[of]
    return Side([f"{name}-{i}" for i in range(count)], lines, vectors)


def test_a_sentence_that_comes_again_is_searched_once_and_has_no_pair():
    x, y = sides(40, 40, noise=0.1)
    plain = mine(texts(40, "de", x), texts(40, "en", y))
    assert {("de-3", "en-3"), ("de-4", "en-4")} <= {pair[:2] for pair in plain}
    again = mine(texts(40, "de", x, copies={30: 3}), texts(40, "en", y, copies={35: 4}))
    named = {name for pair in again for name in pair[:2]}
    assert named.isdisjoint({"de-3", "de-30", "en-4", "en-35"}) and {"de-5", "en-5"} <= named
    kept = [i for i in range(40) if i != 30]
    alone = mine(Side([f"de-{i}" for i in kept], [f"de sentence {i}" for i in kept], x[kept]), texts(40, "en", y))
    twice = mine(texts(40, "de", x, copies={30: 3}), texts(40, "en", y))
    assert twice == [pair for pair in alone if pair[0] != "de-3"]


def f1_at(pairs, gold, threshold: float) -> float:
    _, predictions, golds = by_source(pairs, gold, threshold)
    return get_metric("bucc").compute(predictions, golds)


def test_the_threshold_is_the_best_of_all_on_dev():
    draw = torch.Generator().manual_seed(0)
    for case in range(200):
        scores = sorted((torch.rand(12, generator=draw) * 4 + 0.5).tolist(), reverse=True)
        pairs = [(f"s{i}", f"t{i}", score) for i, score in enumerate(scores)]
        chosen = torch.rand(14, generator=draw) < (0.1, 0.5, 0.95)[case % 3]
        gold = {(f"s{i}", f"t{i}") for i in range(14) if chosen[i]} or {("s0", "t0")}
        best = max(f1_at(pairs, gold, score) for score in scores)
        threshold = freeze_threshold(pairs, gold)
        assert f1_at(pairs, gold, threshold) == pytest.approx(best, abs=1e-12)


def test_the_threshold_lies_between_the_last_pair_kept_and_the_next():
    pairs = [("a", "1", 1.5), ("b", "2", 1.25), ("c", "3", 0.75)]
    assert freeze_threshold(pairs, {("a", "1"), ("b", "2")}) == 1.0
    assert freeze_threshold(pairs, {("a", "1"), ("c", "3")}) == 0.75  # all are kept: the official search fails here
    assert freeze_threshold(pairs, {("x", "9")}) == math.inf
    assert by_source(pairs, {("x", "9"), ("a", "1")}, 1.25) == (
        ["a", "b", "x"], [("1",), ("2",), ()], [("1",), (), ("9",)],
    )  # fmt: skip


def test_a_threshold_of_dev_scores_test_without_its_gold():
    dev, test = (sides(80, 80, noise=0.4, seed=seed) for seed in (1, 2))
    gold = {(f"de-{i}", f"en-{i}") for i in range(40)}
    found = [mine(texts(80, "de", x), texts(80, "en", y)) for x, y in (dev, test)]
    threshold = freeze_threshold(found[0], gold)
    assert 0.5 < f1_at(found[1], gold, threshold) <= max(f1_at(found[1], gold, pair[2]) for pair in found[1])


def test_bad_input_is_refused():
    x, y = sides(3, 3)
    with pytest.raises(UsageError, match="neighbours is 0; expected 1 or more"):
        neighbours(x, y, 0)
    with pytest.raises(DataError, match=r"found sources \(3, 16\) and targets \(0, 16\)"):
        margin_pairs(x, y[:0])
    with pytest.raises(DataError, match=r"row 1 of the targets \(counted from 0\) has length 0"):
        margin_pairs(x, y * torch.tensor([[1.0], [0.0], [1.0]]))
    with pytest.raises(DataError, match="the id 'a' stands more than once among the targets"):
        mine(texts(3, "de", x), Side(["a", "b", "a"], ["1", "2", "3"], y))
    with pytest.raises(DataError, match="the sources have 2 ids, 3 texts and 3 vectors; expected one of each"):
        mine(Side(["a", "b"], ["1", "2", "3"], x), texts(3, "en", y))
    with pytest.raises(DataError, match="no gold pair to choose a threshold on; expected those of a dev set"):
        freeze_threshold([("a", "1", 1.0)], set())
    with pytest.raises(DataError, match="pair 1 scores higher than the one before; expected the best first"):
        freeze_threshold([("a", "1", 1.0), ("b", "2", 2.0)], {("a", "1")})
