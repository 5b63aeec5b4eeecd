"""Retrieval accuracy: share of queries whose nearest sentence is their own translation (Tatoeba)."""

from __future__ import annotations

from collections.abc import Sequence

from adapterxl.evaluation.metrics.base import Counts, Metric, equal_counts


def retrieval_accuracy(predictions: Sequence[str], golds: Sequence[str]) -> Counts:
    """Return (1 where the first hit has the gold id, 1) for each query; their ratio is the share of right ones.

    Args:
        predictions: Id of the nearest sentence, one a query.
        golds: Id of the translation, in the same order.

    Raises:
        DataError: For empty input, unequal lengths, or an id that is no string.

    Source: accuracy at 1, as XTREME scores Tatoeba (Artetxe and Schwenk 2019; Hu et al. 2020).
    """
    return equal_counts("retrieval_accuracy", predictions, golds)


METRIC = Metric(
    name="retrieval_accuracy",
    kinds=("retrieve",),
    summary="share of queries whose nearest sentence is their translation",
    source="Artetxe and Schwenk 2019, arXiv 1812.10464",
    counts=retrieval_accuracy,
)
