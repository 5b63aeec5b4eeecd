"""Miniature tagging (target): the universal part of speech of every word, in six languages.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

_LABELS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "VERB",
)  # fmt: skip

TASK = Task(
    name="mini_xpos",
    kind="tag",
    summary="Miniature: universal part-of-speech tags.",
    source="adapterxl/miniature",
    labels=_LABELS,
    languages=("en", "de", "es", "tr", "ru", "zh"),
    metrics=("token_accuracy",),
    max_length=128,
    licence="Apache-2.0",
)
