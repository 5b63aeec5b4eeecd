"""Miniature retrieval (target, without training): find the English translation of a sentence.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_bitext",
    kind="retrieve",
    summary="Miniature: retrieval of English translations, without training.",
    source="adapterxl/miniature",
    languages=("de", "es", "tr", "ru", "zh"),
    metrics=("retrieval_accuracy",),
    max_length=128,
    licence="Apache-2.0",
)
