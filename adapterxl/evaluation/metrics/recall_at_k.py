"""Recall of the first k: share of the right ones that are among them (retrieval by questions)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from adapterxl.evaluation.metrics.base import Counts, Metric, ranked_rows

CUTS = (1, 5, 10, 20, 100)


def recall(predictions: Sequence[Sequence[str]], golds: Sequence[Sequence[str]], top: int) -> Counts:
    """Return (share of the right ids that are among the first `top`, 1) for each question.

    Args:
        predictions: Per question ids, the best first, at least `top` of them where there are as many candidates.
        golds: Per question the ids of all right ones.

    Raises:
        DataError: For empty input, unequal lengths, an entry that is no tuple of strings, no right one.

    Source: trec_eval's recall; with one right id it is the success within the first `top` (Asai et al. 2021).
    """
    counts = []
    for ranking, gold in ranked_rows(f"recall_at_{top}", predictions, golds):
        counts.append((len(gold.intersection(ranking[:top])) / len(gold), 1))
    return np.array(counts, dtype=np.float64)


METRICS = tuple(
    Metric(
        name=f"recall_at_{top}",
        kinds=("retrieve",),
        summary=f"share of the right ones among the first {top}",
        source="trec_eval (NIST), recall",
        counts=partial(recall, top=top),
    )
    for top in CUTS
)
