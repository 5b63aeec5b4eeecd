"""Exact match and F1 of answer texts as SQuAD v1.1 normalises them (XQuAD, TyDi QA, SQuAD)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from adapterxl.evaluation.metrics.base import (
    Answer,
    Counts,
    Metric,
    mean_of_two,
    paired,
    require_answer,
    require_string,
    require_strings,
)

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalised_words(text: str) -> list[str]:
    """Return the words of an answer as SQuAD v1.1 compares them.

    Lower case, ASCII punctuation deleted, English articles dropped, split at white space: for every
    language, so Chinese and Thai answers are mostly one word and Arabic punctuation stays.

    Source: Rajpurkar et al. 2016, section 6.1, and its evaluation script.
    """
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def same_words(predicted: list[str], gold: list[str]) -> float:
    """Return 1 where the words are the same in the same order, else 0."""
    return float(predicted == gold)


def word_f1(predicted: list[str], gold: list[str]) -> float:
    """Return F1 of two bags of words, 0 to 1."""
    # No common word is 0 even where both sides are empty: so does the v1.1 script, unlike that of v2.0.
    common = sum((Counter(predicted) & Counter(gold)).values())
    return 2 * common / (len(predicted) + len(gold)) if common else 0.0


def answer_counts(
    metric: str,
    scores: Sequence[Callable[[list[str], list[str]], float]],
    words: Callable[[str], list[str]],
    predictions: Sequence[str | Answer],
    golds: Sequence[Sequence[str]],
) -> Counts:
    """Return per question the best of each score over its gold answers, then 1; shape (questions, scores + 1).

    Args:
        scores: (words of the prediction, words of a gold answer) -> 0 to 1.
        words: Words of a text after normalisation.

    Raises:
        DataError: For empty input, unequal lengths, a prediction that is no string, a gold that is no tuple.
    """
    counts = []
    for row, prediction, answers in paired(metric, predictions, golds):
        if isinstance(prediction, (tuple, list)):
            answer = require_answer(metric, row, prediction)
            prediction = "" if answer.no_answer > 0 else answer.text
        require_string(metric, row, "prediction", prediction)
        found = words(prediction)
        wanted = [words(answer) for answer in require_strings(metric, row, "gold", answers)]
        # The v2.0 script compares normalised texts here too, so a lone "." is also no answer.
        best = [max(score(found, gold) for gold in wanted) if wanted else not found for score in scores]
        counts.append((*best, 1))
    return np.array(counts, dtype=np.float64)


def exact_match(predictions: Sequence[str | Answer], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (1 where a prediction equals one of its gold answers after normalisation, 1) for each question.

    Args:
        predictions: One answer text a question, "" for no answer; or an `Answer`, which is withheld above 0.
        golds: The right answer texts of each question; () where it has no answer, and then only the empty
            prediction is right.

    Raises:
        DataError: For empty input, unequal lengths, a prediction that is no string, a gold that is no tuple.

    Source: Rajpurkar et al. 2016 (SQuAD v1.1) and 2018 (v2.0, unanswerable questions).
    """
    return answer_counts("exact_match", (same_words,), normalised_words, predictions, golds)


def f1(predictions: Sequence[str | Answer], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (best word F1 with a gold answer, 1) for each question; their ratio is the mean over questions.

    Arguments, errors and source as for `exact_match`.
    """
    return answer_counts("f1", (word_f1,), normalised_words, predictions, golds)


def squad(predictions: Sequence[str | Answer], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (exact match, word F1, 1) for each question; arguments and errors as for `exact_match`.

    Source: the mean of both is XTREME's score of question answering (Hu et al. 2020, evaluate.py).
    """
    return answer_counts("squad", (same_words, word_f1), normalised_words, predictions, golds)


METRICS = (
    Metric(
        name="squad",
        kinds=("span",),
        summary="mean of exact match and F1 after SQuAD v1.1 normalisation",
        source="Hu et al. 2020 (XTREME), arXiv 2003.11080; Clark et al. 2020 (TyDi QA GoldP) has the same two",
        counts=squad,
        value=mean_of_two,
    ),
    Metric(
        name="exact_match",
        kinds=("span",),
        summary="share of answers equal to a gold answer after SQuAD v1.1 normalisation",
        source="Rajpurkar et al. 2016, arXiv 1606.05250",
        counts=exact_match,
    ),
    Metric(
        name="f1",
        kinds=("span",),
        summary="mean word overlap (F1) with the best gold answer after SQuAD v1.1 normalisation",
        source="Rajpurkar et al. 2016, arXiv 1606.05250",
        counts=f1,
    ),
)
