"""What a metric is, and the checks that every metric makes on its input before it counts anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterxl.errors import DataError
from adapterxl.tasks.base import Kind

Counts = NDArray[np.float64]


def ratio(sums: Counts) -> Counts:
    """Return the first count over the second, 0 where the second is 0; shape (..., 2) -> (...)."""
    right, possible = sums[..., 0], sums[..., 1]
    return np.divide(right, possible, out=np.zeros_like(right), where=possible != 0)


@dataclass(frozen=True)
class Metric:
    """One way to score the predictions of one language.

    A metric counts example by example, sums the counts and takes its value from the sums. So it can be had on
    any sample of the examples, each as often as the sample has it, without reading a prediction twice.

    Attributes:
        name: As in `Task.metrics` and in the records of scores.json.
        kinds: Kinds of task that it can score.
        summary: One line saying what is counted.
        source: Paper or official script that it agrees with.
        counts: (predictions, golds) -> one row of counts an example, shape (examples, counts); both sides in
            the same order. Raises DataError for empty input, unequal lengths and entries of a wrong type.
        value: Sums of these rows, shape (..., counts), -> values between 0 and 1, shape (...).
    """

    name: str
    kinds: tuple[Kind, ...]
    summary: str
    source: str
    counts: Callable[[Sequence[Any], Sequence[Any]], Counts]
    value: Callable[[Counts], Counts] = ratio

    def compute(self, predictions: Sequence[Any], golds: Sequence[Any]) -> float:
        """Return the value over all examples, 0 to 1; raises as `counts` does."""
        return float(self.value(self.counts(predictions, golds).sum(axis=0)))


def paired(metric: str, predictions: Sequence[Any], golds: Sequence[Any]) -> Iterator[tuple[int, Any, Any]]:
    """Return (row, prediction, gold) for every example, after checking that the two sides fit.

    Raises:
        DataError: If a side is one string, if the lengths differ, or if there is nothing to score.
    """
    for side, values in (("predictions", predictions), ("golds", golds)):
        if isinstance(values, str):
            raise DataError(f"{metric}: {side} is one string; give a list with one entry an example.")
    if len(predictions) != len(golds):
        raise DataError(
            f"{metric}: found {len(predictions)} predictions for {len(golds)} gold entries; "
            "expected one prediction an example, in the same order."
        )
    if len(golds) == 0:
        raise DataError(f"{metric}: nothing to score, 0 examples; check language, split and limit.")
    return ((row, *pair) for row, pair in enumerate(zip(predictions, golds, strict=True)))


def require_string(metric: str, row: int, side: str, value: object) -> None:
    """Refuse anything but a string: 3 and "3" would otherwise count as a wrong answer without a word."""
    if not isinstance(value, str):
        raise DataError(
            f"{metric}: the {side} of row {row} (counted from 0) is {value!r}, "
            f"of type {type(value).__name__}; expected a string."
        )


def equal_counts(metric: str, predictions: Sequence[str], golds: Sequence[str]) -> Counts:
    """Return (1 where the two strings of a row are equal, 1) for each row.

    Raises:
        DataError: As `paired`, and for an entry that is no string.
    """
    counts = []
    for row, prediction, gold in paired(metric, predictions, golds):
        require_string(metric, row, "prediction", prediction)
        require_string(metric, row, "gold", gold)
        counts.append((prediction == gold, 1))
    return np.array(counts, dtype=np.float64)


def tagged_rows(
    metric: str, predictions: Sequence[Sequence[str | None]], golds: Sequence[Sequence[str]]
) -> Iterator[tuple[Sequence[str | None], Sequence[str]]]:
    """Return (predicted tags, gold tags) row by row, each pair checked to be of one length.

    A predicted tag may be None: the word has no sub-word that the model could see.

    Raises:
        DataError: As `paired`, for a row that is one string or has another number of tags than words, and
            for a tag that is no string.
    """
    for row, predicted, gold in paired(metric, predictions, golds):
        if isinstance(predicted, str) or isinstance(gold, str):
            raise DataError(f"{metric}: row {row} (counted from 0) is one string; expected a list of tags.")
        if len(predicted) != len(gold):
            raise DataError(
                f"{metric}: row {row} (counted from 0) has {len(predicted)} predicted tags for "
                f"{len(gold)} words; expected one tag a word, or None for a word without a sub-word."
            )
        for tag in predicted:
            if tag is not None:
                require_string(metric, row, "predicted tag", tag)
        for tag in gold:
            require_string(metric, row, "gold tag", tag)
        yield predicted, gold
