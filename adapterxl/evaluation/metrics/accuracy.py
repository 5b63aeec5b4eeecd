"""Accuracy: share of examples with the right label (XNLI, PAWS-X, multiple choice)."""

from __future__ import annotations

from collections.abc import Sequence

from adapterxl.evaluation.metrics.base import Metric, share_equal


def accuracy(predictions: Sequence[str], golds: Sequence[str]) -> float:
    """Return the share of label strings that are equal, 0 to 1.

    Raises:
        DataError: For empty input, unequal lengths, or a label that is no string.

    Source: string equality a line, as XTREME scores XNLI and PAWS-X (Hu et al. 2020).
    """
    return share_equal("accuracy", predictions, golds)


METRIC = Metric(
    name="accuracy",
    kinds=("classify", "choice"),
    summary="share of examples with the right label",
    source="Hu et al. 2020 (XTREME), arXiv 2003.11080",
    compute=accuracy,
)
