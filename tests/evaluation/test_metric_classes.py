"""QQP's score, macro and weighted F1 agree with scikit-learn and with counting by hand."""

from __future__ import annotations

import random

import pytest

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import get_metric

qqp, macro_f1, weighted_f1 = (get_metric(name).compute for name in ("qqp", "macro_f1", "weighted_f1"))
NAMES = ("negative", "neutral", "positive", "مختلط", "混合", "")


def f1_of(label, predictions, golds) -> float:
    right = sum(a == b == label for a, b in zip(predictions, golds, strict=True))
    return 2 * right / (predictions.count(label) + golds.count(label)) if right else 0.0


def random_case(draw: random.Random, names):
    some = [draw.sample(names, draw.randint(1, len(names))) for _ in "ab"]  # either side may lack classes
    length = draw.randint(1, 25)
    return [draw.choice(some[0]) for _ in range(length)], [draw.choice(some[1]) for _ in range(length)]


def test_macro_and_weighted_f1_equal_scikit_learn_and_a_count_by_hand():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a development dependency")
    draw = random.Random(0)
    for _ in range(60):
        predictions, golds = random_case(draw, NAMES)
        classes = {*predictions, *golds}
        macro = sum(f1_of(label, predictions, golds) for label in classes) / len(classes)
        weighted = sum(f1_of(label, predictions, golds) for label in golds) / len(golds)
        assert macro_f1(predictions, golds) == pytest.approx(macro, abs=1e-12)
        assert weighted_f1(predictions, golds) == pytest.approx(weighted, abs=1e-12)
        for average, value in (("macro", macro), ("weighted", weighted)):
            theirs = sklearn.f1_score(golds, predictions, average=average, zero_division=0)
            assert float(theirs) == pytest.approx(value, abs=1e-12)


def test_qqp_is_the_mean_of_accuracy_and_the_f1_of_duplicate():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is a development dependency")
    draw = random.Random(1)
    for _ in range(60):
        predictions, golds = random_case(draw, ("different", "duplicate"))
        accuracy = sum(a == b for a, b in zip(predictions, golds, strict=True)) / len(golds)
        f1 = f1_of("duplicate", predictions, golds)
        assert qqp(predictions, golds) == pytest.approx((accuracy + f1) / 2, abs=1e-12)
        theirs = sklearn.f1_score(
            [g == "duplicate" for g in golds], [p == "duplicate" for p in predictions], zero_division=0
        )
        assert float(theirs) == pytest.approx(f1, abs=1e-12)


def test_qqp_without_a_duplicate_has_half_its_score():
    assert qqp(["different"] * 4, ["different"] * 4) == 0.5


def test_labels_of_another_form_are_refused():
    with pytest.raises(DataError, match="qqp: the gold of row 1 .* is '1'; expected different or duplicate"):
        qqp(["duplicate", "duplicate"], ["duplicate", "1"])
    with pytest.raises(DataError, match="weighted_f1: the prediction of row 0 .* is 2, of type int; expected a string"):
        weighted_f1([2], ["2"])
