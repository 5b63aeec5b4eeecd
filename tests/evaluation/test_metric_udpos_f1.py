"""XTREME's part-of-speech score: runs of equal tags, some tags apart; seqeval agrees where its versions do."""

from __future__ import annotations

import random
import warnings
from itertools import groupby

import pytest

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.udpos_f1 import bare_spans
from adapterxl.tasks.udpos import TASK

udpos_f1 = get_metric("udpos_f1").compute


def second_spans(tags: list[str]) -> set[tuple[str, int, int]]:
    found, start = set(), 0
    for tag, run in groupby(tags):
        end = start + len(list(run))
        if tag[0] in "BES":
            found |= {(tag, word, word + 1) for word in range(start, end)}
        elif tag[0] not in "O.":
            found.add((tag, start, end))
        start = end
    return found


def random_case(draw: random.Random, tags: tuple[str, ...]):
    some, noise = draw.sample(tags, draw.randint(1, min(5, len(tags)))), draw.random()
    golds = [draw.choices(some, k=draw.randint(0, 9)) for _ in range(draw.randint(1, 6))]
    return [[draw.choice(tags) if draw.random() < noise else tag for tag in row] for row in golds], golds


def test_equals_a_second_writing_and_the_installed_seqeval_on_tags_that_all_its_versions_read_alike():
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is a development dependency")
    draw = random.Random(0)
    alike = tuple(tag for tag in TASK.labels if tag not in ("X", "SCONJ"))
    for number in range(400):
        predictions, golds = random_case(draw, alike if number % 2 else TASK.labels)
        ours = [second_spans(row) for row in predictions]
        theirs = [second_spans(row) for row in golds]
        right = sum(len(a & b) for a, b in zip(ours, theirs, strict=True))
        total = sum(map(len, ours)) + sum(map(len, theirs))
        value = udpos_f1(predictions, golds)
        assert value == pytest.approx(2 * right / total if total else 0.0, abs=1e-12)
        if number % 2:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of every tag without B- and I-
                assert value == pytest.approx(float(seqeval.f1_score(golds, predictions)), abs=1e-12)


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["NOUN", "NOUN", "VERB"], {("NOUN", 0, 2), ("VERB", 2, 3)}),
        (["SCONJ", "SCONJ"], {("SCONJ", 0, 1), ("SCONJ", 1, 2)}),  # S is read as "single"
        (["INTJ", "INTJ"], {("INTJ", 0, 2)}),  # I is read as "inside"
        (["CCONJ", "SCONJ", "X", "X"], {("CCONJ", 0, 1), ("SCONJ", 1, 2), ("X", 2, 4)}),
        ([], set()),
    ],
)
def test_spans_worked_out_by_hand(tags, spans):
    assert bare_spans(tags) == spans


def test_one_wrong_word_costs_its_whole_run():
    assert get_metric("token_accuracy").compute([["NOUN", "NOUN", "ADJ"]], [["NOUN"] * 3]) == pytest.approx(2 / 3)
    assert udpos_f1([["NOUN", "NOUN", "ADJ"]], [["NOUN"] * 3]) == 0.0


def test_a_word_without_a_prediction_cuts_a_run_and_runs_end_with_their_sentence():
    assert udpos_f1([["NOUN", None, "NOUN"]], [["NOUN"] * 3]) == 0.0
    assert udpos_f1([["NOUN"], ["NOUN"]], [["NOUN"], ["NOUN"]]) == 1.0
    assert udpos_f1([["NOUN"], ["VERB"]], [["NOUN"], ["NOUN"]]) == 0.5


def test_a_tag_with_a_hyphen_is_refused():
    with pytest.raises(DataError, match="udpos_f1: found the tag 'B-PER', expected one without a hyphen"):
        udpos_f1([["NOUN"]], [["B-PER"]])
