"""Accuracy, token accuracy and retrieval accuracy count what they say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import get_metric

accuracy, retrieval_accuracy, token_accuracy = (
    get_metric(name).compute for name in ("accuracy", "retrieval_accuracy", "token_accuracy")
)

LABELS = st.sampled_from(["entailment", "neutral", "contradiction"])
SENTENCES = st.lists(
    st.lists(st.tuples(st.sampled_from([None, "ADJ", "VERB"]), st.sampled_from(["ADJ", "VERB"])), max_size=6),
    min_size=1,
)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1))
def test_accuracy_is_the_share_of_equal_labels(pairs):
    predictions, golds = [a for a, _ in pairs], [b for _, b in pairs]
    assert accuracy(predictions, golds) == len([1 for a, b in pairs if a == b]) / len(pairs)
    assert retrieval_accuracy(predictions, golds) == accuracy(predictions, golds)


def test_a_number_is_not_a_label():
    with pytest.raises(DataError, match=r"prediction of row 1 .* is 2, of type int; expected a string"):
        accuracy(["neutral", 2], ["neutral", "neutral"])
    with pytest.raises(DataError, match=r"retrieval_accuracy: the gold of row 0 .* is None"):
        retrieval_accuracy(["3"], [None])


@settings(deadline=None)  # a busy machine is no failure
@given(SENTENCES)
def test_token_accuracy_counts_words_not_sentences(sentences):
    words = [pair for sentence in sentences for pair in sentence]
    predictions = [[a for a, _ in sentence] for sentence in sentences]
    golds = [[b for _, b in sentence] for sentence in sentences]
    if not words:
        with pytest.raises(DataError, match="have no words"):
            token_accuracy(predictions, golds)
        return
    assert token_accuracy(predictions, golds) == sum(a == b for a, b in words) / len(words)


def test_a_word_without_a_sub_word_counts_as_wrong():
    assert token_accuracy([["NOUN", None], ["VERB"]], [["NOUN", "NOUN"], ["VERB"]]) == 2 / 3


def test_a_sentence_with_fewer_tags_than_words_is_refused():
    with pytest.raises(DataError, match=r"row 1 \(counted from 0\) has 1 predicted tags for 2 words"):
        token_accuracy([["NOUN"], ["VERB"]], [["NOUN"], ["VERB", "NOUN"]])


def test_tags_that_are_no_strings_are_refused():
    with pytest.raises(DataError, match="predicted tag of row 0 .* is 4"):
        token_accuracy([[4]], [["NOUN"]])
    with pytest.raises(DataError, match="gold tag of row 0 .* is None"):
        token_accuracy([["NOUN"]], [[None]])
    with pytest.raises(DataError, match="row 0 .* is one string; expected a list of tags"):
        token_accuracy(["X"], [["X"]])
