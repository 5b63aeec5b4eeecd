"""Mean average precision of the first 20 (LAReQA)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterxl.evaluation.metrics.base import Counts, Metric, ranked_rows

TOP = 20


def map_at_20(predictions: Sequence[Sequence[str]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (average precision within the first 20, 1) for each question.

    The sum, over right answers among the first 20, of the share of right ones down to there, over the number of right
    ones that 20 places could hold. An id that comes a second time fills a place and counts for nothing.

    Args:
        predictions: Per question ids of candidates, the best first; what is after the 20th is not looked at.
        golds: Per question the ids of all right ones, in all languages (one pool).

    Raises:
        DataError: For empty input, unequal lengths, an entry that is no tuple of strings, no right one.

    Source: Roy et al. 2020 (LAReQA), arXiv 2004.05484; XTREME-R cuts at 20 (Ruder et al. 2021, utils_lareqa.py).
    """
    counts = []
    for ranking, gold in ranked_rows("map_at_20", predictions, golds):
        right = np.array([item in gold and item not in ranking[:place] for place, item in enumerate(ranking[:TOP])])
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        counts.append((float(precision @ right) / min(len(gold), TOP), 1))
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="map_at_20",
    kinds=("retrieve",),
    summary="mean average precision of the first 20",
    source="Roy et al. 2020 (LAReQA), arXiv 2004.05484; Ruder et al. 2021 (XTREME-R), arXiv 2104.07412",
    counts=map_at_20,
)
