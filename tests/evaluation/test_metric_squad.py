"""Exact match and F1 agree with SQuAD v1.1's definition, written a second time here in another way."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.squad import normalised_words

exact_match, f1 = get_metric("exact_match").compute, get_metric("f1").compute

ASCII_PUNCTUATION = {chr(code) for code in (*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127))}


def second_normalisation(text: str) -> str:
    """Walk the characters; no regular expression, no translate, no string constants."""
    kept = "".join(character for character in text.lower() if character not in ASCII_PUNCTUATION)
    runs = ("".join(run) for _, run in groupby(kept, key=str.isalnum))
    return " ".join("".join(" " if run in ("a", "an", "the") else run for run in runs).split())


def second_exact(prediction: str, answers: tuple[str, ...]) -> float:
    found = second_normalisation(prediction)
    return 1.0 if found in ([second_normalisation(answer) for answer in answers] or [""]) else 0.0


def second_f1(prediction: str, answers: tuple[str, ...]) -> float:
    if not answers:
        return 1.0 if second_normalisation(prediction) == "" else 0.0
    best = 0.0
    for answer in answers:
        found, left = second_normalisation(prediction).split(), second_normalisation(answer).split()
        words, common = len(left), 0
        for word in found:
            if word in left:
                left.remove(word)
                common += 1
        if common:
            precision, recall = common / len(found), common / words
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


WORDS = st.sampled_from(
    ["the", "The", "a", "An", "AN", "band", "Band.", "1,000", "(U.S.)", "don't", "a-b", "the-",
     "x_the", "_", "--", "กรุงเทพ", "มหานคร", "中国", "中国。", "القاهرة", "القاهرة؟", "ال",
     "¿qué?", "İ", "straße", "…", "", "a\u0301", "\u00a0", "\u3000"]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=6).map(" ".join) | st.text(max_size=12)
CASES = st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=3).map(tuple)), min_size=1, max_size=5)


def check_against_second(cases):
    predictions, golds = [text for text, _ in cases], [answers for _, answers in cases]
    expected = sum(second_exact(*case) for case in cases) / len(cases)
    assert exact_match(predictions, golds) == pytest.approx(expected, abs=1e-12)
    expected = sum(second_f1(*case) for case in cases) / len(cases)
    assert f1(predictions, golds) == pytest.approx(expected, abs=1e-12)
    # an answer copied from the gold is always an exact match
    assert exact_match([a[0] if a else "" for a in golds], golds) == 1.0


@settings(max_examples=100, deadline=None)
@given(CASES)
def test_agrees_with_a_second_writing_of_the_definition(cases):
    check_against_second(cases)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(CASES)
def test_agrees_with_a_second_writing_in_many_cases(cases):
    check_against_second(cases)


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "overlap"),
    [
        ("The Eiffel Tower!", ("eiffel tower",), 1, 1),
        ("Eiffel Tower in Paris", ("the Eiffel Tower",), 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),
        ("Paris", ("London", "paris.", "Rome"), 1, 1),
        ("10 10 10", ("10 10",), 0, 0.8),
        ("well-known", ("wellknown",), 1, 1),  # punctuation is deleted, not replaced
        ("a-b", ("b",), 0, 0),  # so no article is left to drop
        ("theatre an", ("theatre",), 1, 1),
        ("กรุงเทพมหานคร", ("กรุงเทพมหานคร",), 1, 1),
        ("กรุงเทพ", ("กรุงเทพมหานคร",), 0, 0),  # Thai has no spaces: one word, no overlap
        ("中国 北京", ("中国北京",), 0, 0),
        ("中国。", ("中国",), 0, 0),  # only ASCII punctuation is deleted
        ("中国.", ("中国",), 1, 1),
        ("القاهرة؟", ("القاهرة",), 0, 0),
        ("القاهرة", ("قاهرة",), 0, 0),  # the Arabic article stays
        ("مدينة القاهرة", ("القاهرة",), 0, 2 / 3),
        ("Straße", ("STRASSE",), 0, 0),  # lower case, no folding
        ("", ("Paris",), 0, 0),
        ("...", ("Paris",), 0, 0),
        ("...", ("?!",), 1, 0),  # v1.1: equal texts, but no common word
        ("", (), 1, 1),
        ("Paris", (), 0, 0),
        ("...", (), 1, 1),  # as in the v2.0 script, which normalises first
    ],
)
def test_cases_worked_out_by_hand(prediction, answers, exact, overlap):
    assert exact_match([prediction], [answers]) == exact
    assert f1([prediction], [answers]) == pytest.approx(overlap, abs=1e-12)


def test_the_score_of_question_answering_is_the_mean_of_both():
    predictions, golds = ["a cat sat", "dog", ""], [("the cat",), ("Dog.", "hound"), ("x",)]
    mean = (exact_match(predictions, golds) + f1(predictions, golds)) / 2
    assert get_metric("squad").compute(predictions, golds) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("name", ["exact_match", "f1", "squad"])
def test_an_answer_with_a_no_answer_score_is_withheld_above_zero(name):
    golds = [("Paris",), ("Paris",), (), ()]
    given = [("Paris", 0.0), ["Paris", 0.5], ["Paris", -0.5], ("Paris", 1e-9)]
    texts = ["Paris", "", "Paris", ""]
    assert get_metric(name).compute(given, golds) == get_metric(name).compute(texts, golds) == 0.5


def test_normalised_words_of_mixed_text():
    assert normalised_words("  The U.S.A., an  Example's  THE end\u00a0of a\ttest ") == [
        "usa", "examples", "end", "of", "test",
    ]  # fmt: skip
    assert normalised_words("from…the…end") == ["from…", "…end"]  # an article leaves a space


def test_the_value_is_the_mean_over_questions():
    assert exact_match(["a b", "c", ""], [("b",), ("d",), ()]) == pytest.approx(2 / 3)


def test_a_bare_string_as_gold_is_refused():
    with pytest.raises(DataError, match="exact_match: the gold of row 1 .* is of type str; expected a tuple"):
        exact_match(["x", "x"], [("x",), "x"])


def test_answers_and_predictions_must_be_strings():
    with pytest.raises(DataError, match="f1: the prediction of row 0 .* is None"):
        f1([None], [("x",)])
    with pytest.raises(DataError, match="f1: the gold entry of row 0 .* is 1999"):
        f1(["1999"], [("1999", 1999)])
