"""Exact match and F1 of answer texts as SQuAD v1.1 normalises them (XQuAD, TyDi QA, SQuAD)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics.base import Metric, paired, require_string

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


def _mean_of_best(
    metric: str,
    score: Callable[[list[str], list[str]], float],
    predictions: Sequence[str],
    golds: Sequence[Sequence[str]],
) -> float:
    total = 0.0
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
        total += max(score(words, normalised_words(answer)) for answer in answers) if answers else not words
    return total / len(golds)


def exact_match(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> float:
    """Return the share of predictions equal to one of their gold answers after normalisation, 0 to 1.

    Args:
        predictions: One answer text a question, "" for no answer.
        golds: The right answer texts of each question; () where it has no answer, and then only the empty
            prediction is right.

    Raises:
        DataError: For empty input, unequal lengths, a prediction that is no string, a gold that is no tuple.

    Source: Rajpurkar et al. 2016 (SQuAD v1.1) and 2018 (v2.0, unanswerable questions).
    """
    return _mean_of_best("exact_match", _exact, predictions, golds)


def f1(predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> float:
    """Return the mean over questions of the best word F1 with a gold answer, 0 to 1.

    Arguments, errors and source as for `exact_match`.
    """
    return _mean_of_best("f1", _word_f1, predictions, golds)


METRICS = (
    Metric(
        name="exact_match",
        kinds=("span",),
        summary="share of answers equal to a gold answer after SQuAD v1.1 normalisation",
        source="Rajpurkar et al. 2016, arXiv 1606.05250",
        compute=exact_match,
    ),
    Metric(
        name="f1",
        kinds=("span",),
        summary="mean word overlap (F1) with the best gold answer after SQuAD v1.1 normalisation",
        source="Rajpurkar et al. 2016, arXiv 1606.05250",
        compute=f1,
    ),
)
