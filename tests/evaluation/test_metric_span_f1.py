"""Span F1 equals seqeval's default mode, on ill-formed tag sequences too."""

from __future__ import annotations

import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.span_f1 import entities

span_f1 = get_metric("span_f1").compute

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-a-b", "I-a-b")


def seqeval_f1(predictions, golds) -> float:
    metrics = pytest.importorskip("seqeval.metrics", reason="seqeval is a development dependency")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where there are no entities
        return float(metrics.f1_score(golds, predictions))


def random_case(generator: random.Random):
    """Sentences of random tags, mostly ill-formed; the prediction is the gold with some tags replaced."""
    tags = generator.sample(TAGS, generator.randint(1, len(TAGS)))
    lengths = [generator.randint(0, 9) for _ in range(generator.randint(1, 6))]
    golds = [[generator.choice(tags) for _ in range(length)] for length in lengths]
    noise = generator.random()

    def noisy(tag: str) -> str:
        return generator.choice(TAGS) if generator.random() < noise else tag

    return [[noisy(tag) for tag in row] for row in golds], golds


def test_equals_seqeval_on_random_and_ill_formed_sequences():
    generator = random.Random(0)
    ill_formed = between = 0
    for _ in range(3000):
        predictions, golds = random_case(generator)
        value = span_f1(predictions, golds)
        assert value == pytest.approx(seqeval_f1(predictions, golds), abs=1e-12), (predictions, golds)
        ill_formed += any(row and row[0].startswith("I") for row in golds)
        between += 0 < value < 1
    assert ill_formed > 1000 and between > 1000  # the cases do test what they are meant to


PAIRS = st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS))
ROWS = st.lists(st.lists(PAIRS, max_size=8), min_size=1, max_size=5)


def check_against_seqeval(rows):
    predictions = [[a for a, _ in row] for row in rows]
    golds = [[b for _, b in row] for row in rows]
    assert span_f1(predictions, golds) == pytest.approx(seqeval_f1(predictions, golds), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_equals_seqeval_on_searched_cases(rows):
    check_against_seqeval(rows)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(ROWS)
def test_equals_seqeval_on_many_searched_cases(rows):
    check_against_seqeval(rows)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O", {("PER", 0, 2)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("O I-PER I-PER", {("PER", 1, 3)}),
        ("I-PER I-ORG", {("PER", 0, 1), ("ORG", 1, 2)}),
        ("B-PER I-ORG I-PER", {("PER", 0, 1), ("ORG", 1, 2), ("PER", 2, 3)}),
        ("I-PER B-PER I-PER O I-PER", {("PER", 0, 1), ("PER", 1, 3), ("PER", 4, 5)}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_entities_read_by_hand(tags, expected):
    assert entities(tags.split()) == expected


def test_half_an_entity_is_no_hit():
    # 1 hit, 2 predicted, 3 gold
    predictions, golds = [["B-LOC", "O", "B-PER"], ["O"]], [["B-LOC", "O", "B-ORG"], ["B-PER"]]
    assert span_f1(predictions, golds) == pytest.approx(0.4)
    assert span_f1([["B-LOC", "O"]], [["B-LOC", "I-LOC"]]) == 0.0


def test_entities_do_not_cross_sentences():
    assert span_f1([["B-LOC"], ["I-LOC"]], [["B-LOC"], ["B-LOC"]]) == 1.0


def test_no_entity_on_either_side_scores_zero():
    assert span_f1([["O", "O"]], [["O", "O"]]) == 0.0


def test_a_word_without_a_sub_word_is_outside():
    assert span_f1([["B-LOC", None, "I-LOC"]], [["B-LOC", "O", "B-LOC"]]) == 1.0


@pytest.mark.parametrize("tag", ["NOUN", "B", "I-", "S-PER", "E-PER", "b-PER", "", "-PER", "O-PER"])
def test_a_tag_that_is_not_iob2_is_refused(tag):
    for predictions, golds in (([[tag]], [["O"]]), ([["O"]], [[tag]])):
        with pytest.raises(DataError, match=r"found the tag .* expected O, B-type or I-type"):
            span_f1(predictions, golds)


def test_a_sentence_of_another_length_is_refused():
    with pytest.raises(DataError, match="row 0 .* has 2 predicted tags for 1 words"):
        span_f1([["O", "O"]], [["O"]])
