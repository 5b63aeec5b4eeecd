"""QQP's score: the mean of accuracy and the F1 of the class "duplicate"."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics.base import Counts, Metric, paired, ratio

LABELS = ("different", "duplicate")


def qqp(predictions: Sequence[str], golds: Sequence[str]) -> Counts:
    """Return (1 where right, 1, 2 where both say duplicate, number of sides that say duplicate) for each pair.

    Args:
        predictions: "duplicate" or "different".
        golds: The same.

    Raises:
        DataError: For empty input, unequal lengths, another label.

    Source: Wang et al. 2018 (GLUE), arXiv 1804.07461; jiant averages the two (Phang et al. 2020).
    """
    counts = []
    for row, prediction, gold in paired("qqp", predictions, golds):
        for side, label in (("prediction", prediction), ("gold", gold)):
            if label not in LABELS:
                raise DataError(
                    f"qqp: the {side} of row {row} (counted from 0) is {label!r}; expected {' or '.join(LABELS)}."
                )
        said = [label == LABELS[1] for label in (prediction, gold)]
        counts.append((prediction == gold, 1, 2 * all(said), sum(said)))
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="qqp",
    kinds=("classify",),
    summary="mean of accuracy and F1 of the class duplicate",
    source="Wang et al. 2018 (GLUE), arXiv 1804.07461",
    counts=qqp,
    value=lambda sums: (ratio(sums[..., :2]) + ratio(sums[..., 2:])) / 2,
)
