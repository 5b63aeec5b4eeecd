"""Token accuracy: share of words with the right tag, over all words of a language (part of speech)."""

from __future__ import annotations

from collections.abc import Sequence

from adapterxl.evaluation.metrics.base import Counts, Metric, right_of


def token_accuracy(predictions: Sequence[Sequence[str | None]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (words whose tag is right, words) for each sentence; in their ratio every word counts the same.

    Args:
        predictions: Per sentence one tag a word. None, for a word without any sub-word, counts as wrong.
        golds: Per sentence one tag a word.

    Raises:
        DataError: For no words, unequal lengths of the sides or of a sentence, a tag that is no string.
    """
    return right_of("token_accuracy", predictions, golds, "sentences have no words")


METRIC = Metric(
    name="token_accuracy",
    kinds=("tag",),
    summary="share of words with the right tag",
    source="Nivre et al. 2020 (UD v2), arXiv 2004.10643; XTREME's own UDPOS score is seqeval's F1 instead",
    counts=token_accuracy,
)
