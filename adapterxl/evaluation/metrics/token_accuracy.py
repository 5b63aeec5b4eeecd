"""Token accuracy: share of words with the right tag, over all words of a language (part of speech)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics.base import Counts, Metric, tagged_rows


def token_accuracy(predictions: Sequence[Sequence[str | None]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (words whose tag is right, words) for each sentence; in their ratio every word counts the same.

    Args:
        predictions: Per sentence one tag a word. None, for a word without any sub-word, counts as wrong.
        golds: Per sentence one tag a word.

    Raises:
        DataError: For no words, unequal lengths of the sides or of a sentence, a tag that is no string.
    """
    counts = [
        (sum(a == b for a, b in zip(predicted, gold, strict=True)), len(gold))
        for predicted, gold in tagged_rows("token_accuracy", predictions, golds)
    ]
    if not any(words for _, words in counts):
        raise DataError(f"token_accuracy: nothing to score, the {len(golds)} sentences have no words.")
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="token_accuracy",
    kinds=("tag",),
    summary="share of words with the right tag",
    source="Nivre et al. 2020 (UD v2), arXiv 2004.10643; XTREME's own UDPOS score is seqeval's F1 instead",
    counts=token_accuracy,
)
