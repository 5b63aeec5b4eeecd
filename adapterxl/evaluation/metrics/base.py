"""What a metric is, and the checks that every metric makes on its input before it counts anything.

What stands in predictions and golds, one entry an example, by the form that a metric takes:

- a label, or the id of a sentence: a string, on both sides;
- tags: one string a word, on both sides; None for a predicted word without a sub-word;
- an answer: a text, or an `Answer`, which is withheld where it is above 0; the gold is a tuple of texts, () where the
  question has no answer;
- an answer with a threshold to be chosen (`Answer`): its text and how much speaks for no answer; the gold as above;
- a ranking: ids, the best first; the gold is a tuple of all right ids;
- mined pairs: per source sentence the ids of the target sentences it was paired with, both sides.

JSON has lists for tuples; every metric takes both.

"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapterxl.errors import DataError, UsageError
from adapterxl.tasks.base import Kind

Counts = NDArray[np.float64]


def ratio(sums: Counts) -> Counts:
    """Return the first count over the second, 0 where the second is 0; shape (..., 2) -> (...)."""
    right, possible = sums[..., 0], sums[..., 1]
    return np.divide(right, possible, out=np.zeros_like(right), where=possible != 0)


def mean_of_two(sums: Counts) -> Counts:
    """Return half the sum of the first two counts over the third; shape (..., 3) -> (...)."""
    return ratio(np.stack([sums[..., :2].sum(axis=-1) / 2, sums[..., 2]], axis=-1))


def stacked(tables: Sequence[Counts]) -> Counts:
    """Return tables of the same examples as one array, shape (tables, examples, counts), zeros where one is narrower.

    A metric with counts by class has more of them for predictions with more classes; zeros are a class that is not
    there.
    """
    width = max(table.shape[1] for table in tables)
    return np.stack([np.pad(table, ((0, 0), (0, width - table.shape[1]))) for table in tables])


class Answer(NamedTuple):
    """An answer text that is withheld where more than a threshold speaks for "no answer".

    `no_answer` is any number that grows with the belief that there is none, such as the first token's score minus
    that of the span.
    """

    text: str
    no_answer: float


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
        by_language: The rules differ by language, so `counts` takes that of the answers as a third argument.
        tuned: A threshold is chosen on the examples themselves; a sample of their rows keeps it.
    """

    name: str
    kinds: tuple[Kind, ...]
    summary: str
    source: str
    counts: Callable[..., Counts]
    value: Callable[[Counts], Counts] = ratio
    by_language: bool = False
    tuned: bool = False

    def rows(self, predictions: Sequence[Any], golds: Sequence[Any], language: str | None = None) -> Counts:
        """Return what `counts` does; whoever knows the language gives it, whether this metric asks for it or not.

        Args:
            language: Language code of the answers: that of the context where the question is in another one.

        Raises:
            UsageError: If the language is missing where it decides.
        """
        if not self.by_language:
            return self.counts(predictions, golds)
        if language is None:
            raise UsageError(
                f"{self.name}: no language was given; expected that of the answers, such as language='de'."
            )
        return self.counts(predictions, golds, language)

    def compute(self, predictions: Sequence[Any], golds: Sequence[Any], language: str | None = None) -> float:
        """Return the value over all examples, 0 to 1; arguments and errors as for `rows`."""
        return float(self.value(self.rows(predictions, golds, language).sum(axis=0)))


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


def require_strings(metric: str, row: int, side: str, values: object) -> Sequence[str]:
    """Return the values, refusing anything but a tuple or list of strings."""
    if not isinstance(values, (tuple, list)):
        raise DataError(
            f"{metric}: the {side} of row {row} (counted from 0) is of type {type(values).__name__}; "
            "expected a tuple of strings, () where there is none."
        )
    for value in values:
        require_string(metric, row, f"{side} entry", value)
    return values


def require_answer(metric: str, row: int, prediction: object) -> Answer:
    """Return a prediction as an `Answer`, refusing any other form."""
    if not isinstance(prediction, (tuple, list)) or len(prediction) != 2:
        raise DataError(
            f"{metric}: the prediction of row {row} (counted from 0) is {prediction!r}; "
            "expected a text with how much speaks for no answer, such as Answer('Paris', -3.5)."
        )
    text, belief = prediction
    require_string(metric, row, "predicted text", text)
    if isinstance(belief, bool) or not isinstance(belief, (int, float)) or not math.isfinite(belief):
        raise DataError(
            f"{metric}: the no-answer score of row {row} (counted from 0) is {belief!r}; expected a finite number."
        )
    return Answer(text, float(belief))


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


def right_of(
    metric: str, predictions: Sequence[Sequence[str | None]], golds: Sequence[Sequence[str]], nothing: str
) -> Counts:
    """Return (tags that are right, tags) row by row.

    Args:
        nothing: What is missing where there are no tags at all: "sentences have no words".

    Raises:
        DataError: As `tagged_rows`, and for no tags.
    """
    counts = [
        (sum(a == b for a, b in zip(predicted, gold, strict=True)), len(gold))
        for predicted, gold in tagged_rows(metric, predictions, golds)
    ]
    if not any(tags for _, tags in counts):
        raise DataError(f"{metric}: nothing to score, the {len(golds)} {nothing}.")
    return np.array(counts, dtype=np.float64)


def ranked_rows(
    metric: str, predictions: Sequence[Sequence[str]], golds: Sequence[Sequence[str]]
) -> Iterator[tuple[Sequence[str], frozenset[str]]]:
    """Return (ranked ids, right ids) of each query, checked.

    Raises:
        DataError: As `paired`, for an entry that is no tuple of strings, and where no id is right.
    """
    for row, ranking, gold in paired(metric, predictions, golds):
        right = frozenset(require_strings(metric, row, "gold", gold))
        if not right:
            raise DataError(f"{metric}: row {row} (counted from 0) has no right id; leave such queries out.")
        yield require_strings(metric, row, "ranking", ranking), right
