"""mAP@20, MRR@20, recall@k and the F1 of mined pairs agree with their definitions, written a second time here."""

from __future__ import annotations

import random

import pytest

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import get_metric

IDS = tuple(str(number) for number in range(35))


def random_case(draw: random.Random):
    """Rankings of 0 to 45 ids, mostly with repetitions, and 1 to 25 right ones."""
    rows = range(draw.randint(1, 5))
    ranked = [draw.sample(IDS, 35) if draw.random() < 0.5 else draw.choices(IDS, k=draw.randint(0, 45)) for _ in rows]
    return ranked, [tuple(draw.sample(IDS, draw.choice((1, 1, 3, 25)))) for _ in rows]


def average_precision(ranking, gold) -> float:
    """Precision at the place of each right id, from the places of all."""
    places = sorted(ranking.index(each) + 1 for each in gold if each in ranking[:20])
    return sum(number / place for number, place in enumerate(places, 1)) / min(20, len(gold))


def reciprocal_rank(ranking, gold) -> float:
    return max([1 / (ranking.index(each) + 1) for each in gold if each in ranking[:20]], default=0.0)


def test_rankings_are_scored_as_defined():
    draw = random.Random(0)
    seconds = {"map_at_20": average_precision, "mrr_at_20": reciprocal_rank}
    for top in (1, 5, 10, 20, 100):
        seconds[f"recall_at_{top}"] = lambda ranking, gold, top=top: sum(g in ranking[:top] for g in gold) / len(gold)
    for _ in range(500):
        ranked, golds = random_case(draw)
        for name, second in seconds.items():
            expected = sum(second(list(a), b) for a, b in zip(ranked, golds, strict=True)) / len(golds)
            assert get_metric(name).compute(ranked, golds) == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize(
    ("name", "ranking", "gold", "value"),
    [
        ("map_at_20", ["x", "a", "y", "b"], ["a", "b"], (1 / 2 + 2 / 4) / 2),
        ("map_at_20", ["a", "a", "b"], ["a", "b"], (1 + 2 / 3) / 2),  # the second "a" only takes a place
        ("map_at_20", IDS, IDS[:30], 1.0),  # 20 places cannot hold 30 right ones
        ("map_at_20", IDS, [IDS[20]], 0.0),
        ("mrr_at_20", IDS, [IDS[19]], 1 / 20),
        ("mrr_at_20", IDS, [IDS[20]], 0.0),
        ("recall_at_10", IDS, [IDS[9], IDS[10]], 0.5),
        ("recall_at_5", [], ["a"], 0.0),
    ],
)
def test_rankings_worked_out_by_hand(name, ranking, gold, value):
    assert get_metric(name).compute([ranking], [gold]) == pytest.approx(value, abs=1e-12)


def test_f1_of_mined_pairs_is_that_of_two_sets():
    draw = random.Random(1)
    for _ in range(500):
        sides = [{(draw.choice("abcde"), draw.choice("vwxyz")) for _ in range(draw.randint(0, 9))} for _ in range(2)]
        rows = [[tuple(t for s, t in sorted(side) if s == source) for source in "abcde"] for side in sides]
        mined, gold = sides
        precision, recall = (len(mined & gold) / len(side) if side else 0.0 for side in sides)
        expected = 2 * precision * recall / (precision + recall) if mined & gold else 0.0
        assert get_metric("bucc").compute(*rows) == pytest.approx(expected, abs=1e-12)


def test_queries_without_a_right_id_and_bare_strings_are_refused():
    with pytest.raises(DataError, match="recall_at_10: row 1 .* has no right id; leave such queries out"):
        get_metric("recall_at_10").compute([["a"], ["a"]], [["a"], []])
    with pytest.raises(
        DataError, match="map_at_20: the ranking of row 0 .* is of type str; expected a tuple of strings"
    ):
        get_metric("map_at_20").compute(["a"], [["a"]])
    with pytest.raises(DataError, match="bucc: the gold entry of row 0 .* is 3, of type int"):
        get_metric("bucc").compute([["a"]], [[3]])
