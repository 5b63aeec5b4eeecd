"""Exact match and F1 of answer texts as SQuAD v1.1 normalises them (XQuAD, TyDi QA, SQuAD)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics.base import Counts, Metric, paired, require_string

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalised_words(text: str) -> list[str]:
    """Return the words of an answer as SQuAD v1.1 compares them.

    Lower case, ASCII punctuation deleted, English articles dropped, split at white space: for every
    language, so Chinese and Thai answers are mostly one word and Arabic punctuation stays.

    Source: Rajpurkar et al. 2016, section 6.1, and its evaluation script.
    """
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _exact(predicted: list[str], gold: list[str]) -> float:
    return float(predicted == gold)


def _word_f1(predicted: list[str], gold: list[str]) -> float:
    # No common word is 0 even where both sides are empty: so does the v1.1 script, unlike that of v2.0.
    common = sum((Counter(predicted) & Counter(gold)).values())
    return 2 * common / (len(predicted) + len(gold)) if common else 0.0


def _best_of_answers(
    metric: str,
    score: Callable[[list[str], list[str]], float],
    predictions: Sequence[str],
    golds: Sequence[Sequence[str]],
) -> Counts:
    counts = []
    for row, prediction, answers in paired(metric, predictions, golds):
        require_string(metric, row, "prediction", prediction)
        if not isinstance(answers, (tuple, list)):
            raise DataError(
                f"{metric}: the gold of row {row} (counted from 0) is of type {type(answers).__name__}; "
                "expected a tuple of answers, () where the question has none."
            )
        for answer in answers:
            require_string(metric, row, "gold answer", answer)
        words = normalised_words(prediction)
        # The v2.0 script compares normalised texts here too, so a lone "." is also no answer.
        best = max(score(words, normalised_words(answer)) for answer in answers) if answers else not words
        counts.append((best, 1))
    return np.array(counts, dtype=np.float64)


def exact_match(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (1 where a prediction equals one of its gold answers after normalisation, 1) for each question.

    Args:
        predictions: One answer text a question, "" for no answer.
        golds: The right answer texts of each question; () where it has no answer, and then only the empty
            prediction is right.

    Raises:
        DataError: For empty input, unequal lengths, a prediction that is no string, a gold that is no tuple.

    Source: Rajpurkar et al. 2016 (SQuAD v1.1) and 2018 (v2.0, unanswerable questions).
    """
    return _best_of_answers("exact_match", _exact, predictions, golds)


def f1(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (best word F1 with a gold answer, 1) for each question; their ratio is the mean over questions.

    Arguments, errors and source as for `exact_match`.
    """
    return _best_of_answers("f1", _word_f1, predictions, golds)


METRICS = (
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
