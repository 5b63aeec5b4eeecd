"""BUCC: F1 over the pairs of sentences that were mined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterxl.evaluation.metrics.base import Counts, Metric, paired, require_strings


def bucc(predictions: Sequence[Sequence[str]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (twice the right pairs, mined and gold pairs) for each source sentence.

    Args:
        predictions: Per source sentence the ids of the target sentences that it was paired with, mostly (). Whoever
            mined them left out those below the threshold (`adapterxl.evaluation.mining`), which was frozen on dev.
        golds: Per source sentence the ids of its translations, mostly (). Sentences with neither change nothing.

    Raises:
        DataError: For empty input, unequal lengths, an entry that is no tuple of strings.

    Source: Zweigenbaum et al. 2018 (BUCC); Hu et al. 2020 (XTREME), evaluate.py.
    """
    counts = []
    for row, predicted, gold in paired("bucc", predictions, golds):
        ours = set(require_strings("bucc", row, "prediction", predicted))
        theirs = set(require_strings("bucc", row, "gold", gold))
        counts.append((2 * len(ours & theirs), len(ours) + len(theirs)))
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="bucc",
    kinds=("retrieve",),
    summary="F1 over mined pairs of sentences, the threshold frozen on dev",
    source="Zweigenbaum et al. 2018 (BUCC); Hu et al. 2020 (XTREME), arXiv 2003.11080",
    counts=bucc,
)
