"""Masked accuracy: share of masked tokens that are guessed, over all of a language (masked language modelling)."""

from __future__ import annotations

from collections.abc import Sequence

from adapterxl.evaluation.metrics.base import Counts, Metric, right_of


def masked_accuracy(predictions: Sequence[Sequence[str | None]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (masked tokens that are guessed, masked tokens) for each text; in their ratio every token counts the same.

    Args:
        predictions: Per text the likeliest token at each masked place.
        golds: Per text the tokens that were there.

    Raises:
        DataError: For no tokens, unequal lengths of the sides or of a text, a token that is no string.
    """
    return right_of("masked_accuracy", predictions, golds, "texts have no masked token")


METRIC = Metric(
    name="masked_accuracy",
    kinds=("mask",),
    summary="share of masked tokens that are guessed",
    source="Devlin et al. 2019, arXiv 1810.04805 (the masked language model's own task)",
    counts=masked_accuracy,
)
