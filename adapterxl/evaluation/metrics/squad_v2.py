"""SQuAD v2.0: exact match and F1 at the threshold of "no answer" that serves them best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from adapterxl.evaluation.metrics.base import (
    Answer,
    Counts,
    Metric,
    mean_of_two,
    paired,
    require_answer,
    require_strings,
)
from adapterxl.evaluation.metrics.squad import normalised_words, same_words, word_f1

Score = Callable[[list[str], list[str]], float]


def _best_counts(
    metric: str, scores: Sequence[Score], predictions: Sequence[Answer], golds: Sequence[Sequence[str]]
) -> tuple[Counts, list[float]]:
    """Return (credit by each score at its own best threshold, 1) for each question, and the thresholds."""
    given, withheld, beliefs = [], [], []
    for row, prediction, answers in paired(metric, predictions, golds):
        text, belief = require_answer(metric, row, prediction)
        answers = require_strings(metric, row, "gold", answers)
        found = normalised_words(text)
        # Of answers that normalise to nothing only the empty one is left, but the question still has an answer.
        wanted = [words for answer in answers if (words := normalised_words(answer))] or [[]]
        # Without a gold answer any text at all is wrong, even ".", where thresholds are compared.
        given.append([max(score(found, gold) for gold in wanted) if answers else float(not text) for score in scores])
        withheld.append(float(not answers))
        beliefs.append(belief)
    order = np.argsort(beliefs, kind="stable")
    counts = np.ones((len(given), len(scores) + 1))
    thresholds = []
    for column, credit in enumerate(np.array(given).T):
        gains = np.cumsum((credit - withheld)[order])
        best = int(np.argmax(gains))  # of several the fewest answers
        kept = order[: best + 1] if gains[best] > 0 else order[:0]
        counts[:, column] = withheld
        counts[kept, column] = credit[kept]
        thresholds.append(beliefs[kept[-1]] if len(kept) else math.nextafter(min(beliefs), -math.inf))
    return counts, thresholds


def best_threshold(predictions: Sequence[Answer], golds: Sequence[Sequence[str]]) -> float:
    """Return the threshold of best F1: answers whose no-answer score is above it are withheld.

    It lies below all scores where no answer should be given. Chosen on one split, it can be kept for another.

    Raises:
        DataError: As `best_f1`.
    """
    return _best_counts("best_threshold", (word_f1_v2,), predictions, golds)[1][0]


def word_f1_v2(predicted: list[str], gold: list[str]) -> float:
    """Return F1 of two bags of words; unlike in v1.1, two empty ones agree."""
    return word_f1(predicted, gold) if predicted and gold else same_words(predicted, gold)


def best_exact_match(predictions: Sequence[Answer], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (credit for exact match at its best threshold, 1) for each question.

    Questions are answered from the lowest no-answer score up, as many as give the highest sum; of equal scores the
    first question comes first, so that the best number may lie between two of them.

    Args:
        predictions: The best answer text, never "" unless the model can give it as a span, and its no-answer score.
        golds: The right answer texts; () where there is none.

    Raises:
        DataError: For empty input, unequal lengths, a prediction that is no `Answer`, a gold that is no tuple.

    Source: Rajpurkar et al. 2018 (SQuAD v2.0), evaluate-v2.0.py: best_exact.
    """
    return _best_counts("best_exact_match", (same_words,), predictions, golds)[0]


def best_f1(predictions: Sequence[Answer], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (credit by word F1 at its best threshold, 1) for each question; the rest as for `best_exact_match`."""
    return _best_counts("best_f1", (word_f1_v2,), predictions, golds)[0]


def squad_v2(predictions: Sequence[Answer], golds: Sequence[Sequence[str]]) -> Counts:
    """Return both credits, each at its own best threshold, and 1, for each question; the rest as above."""
    return _best_counts("squad_v2", (same_words, word_f1_v2), predictions, golds)[0]


_SOURCE = "Rajpurkar et al. 2018, arXiv 1806.03822"
METRICS = (
    Metric(
        name="squad_v2",
        kinds=("span",),
        summary="mean of exact match and F1, each at its best threshold of no answer",
        source=f"{_SOURCE}; jiant averages the two (Phang et al. 2020)",
        counts=squad_v2,
        value=mean_of_two,
        tuned=True,
    ),
    Metric(
        name="best_exact_match",
        kinds=("span",),
        summary="exact match at its best threshold of no answer",
        source=_SOURCE,
        counts=best_exact_match,
        tuned=True,
    ),
    Metric(
        name="best_f1",
        kinds=("span",),
        summary="F1 at its best threshold of no answer",
        source=_SOURCE,
        counts=best_f1,
        tuned=True,
    ),
)
