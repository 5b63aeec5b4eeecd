"""Miniature tagging (intermediate, English): the universal part of speech of every word.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

_LABELS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "VERB",
)  # fmt: skip

TASK = Task(
    name="mini_pos",
    kind="tag",
    summary="Miniature: universal part-of-speech tags, English.",
    source="adapterxl/miniature",
    labels=_LABELS,
    languages=("en",),
    metrics=("token_accuracy",),
    max_length=128,
    eval_split="dev",
    licence="Apache-2.0",
)
