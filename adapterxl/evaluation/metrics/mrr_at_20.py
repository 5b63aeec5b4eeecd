"""Mean reciprocal rank within the first 20 (Mewsli-X)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterxl.evaluation.metrics.base import Counts, Metric, ranked_rows

TOP = 20


def mrr_at_20(predictions: Sequence[Sequence[str]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (1 over the rank of the first right id, 0 where it is not among the first 20, 1) for each query.

    Args:
        predictions: Per query ids, the best first; what is after the 20th is not looked at.
        golds: Per query the ids of all right ones; Mewsli-X has one each, which is why XTREME-R calls this mAP@20.

    Raises:
        DataError: For empty input, unequal lengths, an entry that is no tuple of strings, no right one.

    Source: Ruder et al. 2021 (XTREME-R), utils_mewslix.py.
    """
    counts = []
    for ranking, gold in ranked_rows("mrr_at_20", predictions, golds):
        counts.append((next((1 / rank for rank, item in enumerate(ranking[:TOP], 1) if item in gold), 0.0), 1))
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="mrr_at_20",
    kinds=("retrieve",),
    summary="mean reciprocal rank within the first 20",
    source="Ruder et al. 2021 (XTREME-R), arXiv 2104.07412",
    counts=mrr_at_20,
)
