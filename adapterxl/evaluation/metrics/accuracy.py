"""Accuracy: share of examples with the right label (XNLI, PAWS-X, multiple choice)."""

from __future__ import annotations

from collections.abc import Sequence

from adapterxl.evaluation.metrics.base import Counts, Metric, equal_counts


def accuracy(predictions: Sequence[str], golds: Sequence[str]) -> Counts:
    """Return (1 where the label string is right, 1) for each example; their ratio is the share of right ones.

    Raises:
        DataError: For empty input, unequal lengths, or a label that is no string.

    Source: string equality a line, as XTREME scores XNLI and PAWS-X (Hu et al. 2020).
    """
    return equal_counts("accuracy", predictions, golds)


METRIC = Metric(
    name="accuracy",
    kinds=("classify", "choice"),
    summary="share of examples with the right label",
    source="Hu et al. 2020 (XTREME), arXiv 2003.11080",
    counts=accuracy,
)
