"""F1 of each class, averaged over the classes alike (macro) or by their gold examples (weighted)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterxl.evaluation.metrics.base import Counts, Metric, paired, ratio, require_string


def class_counts(metric: str, predictions: Sequence[str], golds: Sequence[str]) -> Counts:
    """Return (twice right, predicted and gold, gold) of each class that occurs, one after the other, for each example.

    The classes stand in alphabetical order: 3 counts each, so the width depends on the labels that occur.

    Raises:
        DataError: For empty input, unequal lengths, or a label that is no string.
    """
    rows = list(paired(metric, predictions, golds))
    for row, prediction, gold in rows:
        require_string(metric, row, "prediction", prediction)
        require_string(metric, row, "gold", gold)
    place = {label: number for number, label in enumerate(sorted({*predictions, *golds}))}
    counts = np.zeros((len(rows), len(place), 3))
    for row, prediction, gold in rows:
        counts[row, place[prediction], :2] += (prediction == gold, 1)
        counts[row, place[gold]] += (prediction == gold, 1, 1)
    return counts.reshape(len(rows), -1)


def macro_value(sums: Counts) -> Counts:
    """Return the mean F1 of the classes that occur on either side."""
    classes = sums.reshape(*sums.shape[:-1], -1, 3)
    occurs = classes[..., 1] > 0
    return ratio(np.stack([(ratio(classes[..., :2]) * occurs).sum(axis=-1), occurs.sum(axis=-1)], axis=-1))


def weighted_value(sums: Counts) -> Counts:
    """Return the mean F1 of the classes, each weighted by its gold examples."""
    classes = sums.reshape(*sums.shape[:-1], -1, 3)
    golds = classes[..., 2]
    return ratio(np.stack([(ratio(classes[..., :2]) * golds).sum(axis=-1), golds.sum(axis=-1)], axis=-1))


def macro_f1(predictions: Sequence[str], golds: Sequence[str]) -> Counts:
    """Counts of `macro_f1`, as `class_counts` gives them."""
    return class_counts("macro_f1", predictions, golds)


def weighted_f1(predictions: Sequence[str], golds: Sequence[str]) -> Counts:
    """Counts of `weighted_f1`, as `class_counts` gives them."""
    return class_counts("weighted_f1", predictions, golds)


METRICS = (
    Metric(
        name="macro_f1",
        kinds=("classify",),
        summary="mean F1 of the classes",
        source="Winata et al. 2023 (NusaX), arXiv 2205.15960; scikit-learn's f1_score, average='macro'",
        counts=macro_f1,
        value=macro_value,
    ),
    Metric(
        name="weighted_f1",
        kinds=("classify",),
        summary="mean F1 of the classes, weighted by their gold examples",
        source="Muhammad et al. 2023 (AfriSenti), arXiv 2302.08956; scikit-learn's f1_score, average='weighted'",
        counts=weighted_f1,
        value=weighted_value,
    ),
)
