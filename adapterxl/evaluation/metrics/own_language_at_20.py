"""Share of a question's own language among the first 20 of a pool of several languages: bias towards it (LAReQA)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterxl.evaluation.metrics.base import Counts, Metric, ranked_rows

TOP = 20


def own_language_at_20(predictions: Sequence[Sequence[str]], golds: Sequence[Sequence[str]], language: str) -> Counts:
    """Return (ids of the question's language among the first 20, ids there) for each question.

    A ranking that does not look at languages has the share that the language has in the pool: 1 in 11 in LAReQA.

    Args:
        predictions: Per question ids of candidates, the best first, such as "de:12:3": a language, a colon, the rest.
        golds: Per question the ids of all right ones.
        language: That of the questions.

    Raises:
        DataError: For empty input, unequal lengths, an entry that is no tuple of strings, no right one.

    Source: language bias of answer retrieval (Roy et al. 2020, LAReQA, section 5), as one number.
    """
    counts = []
    for ranking, _ in ranked_rows("own_language_at_20", predictions, golds):
        first = ranking[:TOP]
        counts.append((sum(each.partition(":")[0] == language for each in first), len(first)))
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="own_language_at_20",
    kinds=("retrieve",),
    summary="share of the question's own language among the first 20: bias, not quality",
    source="Roy et al. 2020 (LAReQA), arXiv 2004.05484",
    counts=own_language_at_20,
    by_language=True,
)
