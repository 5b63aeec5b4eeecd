"""SQuAD v2.0 at its best threshold: every number of answers is tried here, and the published functions agree."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import pytest

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.base import Answer
from adapterxl.evaluation.metrics.squad import normalised_words
from adapterxl.evaluation.metrics.squad_v2 import best_threshold

TEXTS = ("", ".", "the", "Paris", "the Paris", "in Paris", "กรุงเทพ", "中国 北京", "القاهرة؟", "…")


def random_case(draw: random.Random):
    golds = [tuple(draw.choices(TEXTS, k=draw.choice((0, 0, 1, 2)))) for _ in range(draw.randint(1, 8))]
    beliefs = (-2.0, 0.0, 0.5, draw.uniform(-3, 3))  # mostly tied
    return [Answer(draw.choice((*gold, *TEXTS)), draw.choice(beliefs)) for gold in golds], golds


def credit(text: str, answers: tuple[str, ...], exact: bool) -> float:
    if not answers:
        return float(text == "")
    found, best = normalised_words(text), 0.0
    for wanted in [words for answer in answers if (words := normalised_words(answer))] or [[]]:
        if exact or not found or not wanted:
            best = max(best, float(found == wanted))
        else:
            best = max(best, 2 * (Counter(found) & Counter(wanted)).total() / (len(found) + len(wanted)))
    return best


def by_trial(predictions, golds, exact: bool) -> float:
    """The best mean over all numbers of questions that are answered, lowest no-answer score first."""
    rows = sorted(zip(predictions, golds, strict=True), key=lambda row: row[0].no_answer)
    return max(
        sum(credit(p.text, g, exact) if place < answered else not g for place, (p, g) in enumerate(rows)) / len(rows)
        for answered in range(len(rows) + 1)
    )


def published(predictions, golds) -> tuple[float, float]:
    """The functions of evaluate-v2.0.py, as transformers ships them."""
    script = pytest.importorskip("transformers.data.metrics.squad_metrics")
    ids = [str(number) for number in range(len(golds))]
    examples = [
        SimpleNamespace(qas_id=key, answers=[{"text": text} for text in gold])
        for key, gold in zip(ids, golds, strict=True)
    ]
    texts = {key: p.text for key, p in zip(ids, predictions, strict=True)}
    beliefs = {key: p.no_answer for key, p in zip(ids, predictions, strict=True)}
    has = {key: bool(gold) for key, gold in zip(ids, golds, strict=True)}
    found = [
        script.find_best_thresh(texts, raw, beliefs, has)[0] / 100 for raw in script.get_raw_scores(examples, texts)
    ]
    return found[0], found[1]


def test_equals_the_best_of_all_thresholds_and_the_published_functions():
    draw, between = random.Random(0), 0
    for _ in range(300):
        predictions, golds = random_case(draw)
        exact, overlap = (get_metric(name).compute(predictions, golds) for name in ("best_exact_match", "best_f1"))
        assert exact == pytest.approx(by_trial(predictions, golds, True), abs=1e-12)
        assert overlap == pytest.approx(by_trial(predictions, golds, False), abs=1e-12)
        assert (exact, overlap) == pytest.approx(published(predictions, golds), abs=1e-12)
        assert get_metric("squad_v2").compute(predictions, golds) == pytest.approx((exact + overlap) / 2, abs=1e-12)
        between += 0 < exact < overlap
    assert between > 5


def test_the_threshold_gives_the_best_f1_where_no_scores_are_tied():
    draw = random.Random(1)
    for _ in range(200):
        predictions, golds = random_case(draw)
        predictions = [Answer(p.text, place + 0.1) for place, p in enumerate(predictions)]
        draw.shuffle(predictions)
        threshold = best_threshold(predictions, golds)
        given = [
            credit(p.text, g, False) if p.no_answer <= threshold else float(not g)
            for p, g in zip(predictions, golds, strict=True)
        ]
        assert sum(given) / len(given) == pytest.approx(get_metric("best_f1").compute(predictions, golds), abs=1e-12)


def test_nothing_is_answered_where_no_answer_is_right():
    predictions, golds = [Answer("London", -9.0), Answer("Rome", 4.0)], [("Paris",), ()]
    assert best_threshold(predictions, golds) < -9.0
    assert get_metric("best_exact_match").compute(predictions, golds) == 0.5


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        ("Paris", r"squad_v2: the prediction of row 0 .* is 'Paris'; expected a text with how much speaks for"),
        (("Paris", float("nan")), "no-answer score of row 0 .* is nan; expected a finite number"),
        (("Paris", True), "no-answer score of row 0 .* is True"),
        ((7, 0.5), "predicted text of row 0 .* is 7, of type int"),
    ],
)
def test_a_prediction_without_its_no_answer_score_is_refused(prediction, message):
    with pytest.raises(DataError, match=message):
        get_metric("squad_v2").compute([prediction], [("Paris",)])
