"""Miniature multiple choice (intermediate, English): which of four answers that all occur in the context?

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_choice",
    kind="choice",
    summary="Miniature: one of four answers, English.",
    source="adapterxl/miniature",
    languages=("en",),
    metrics=("accuracy",),
    max_length=160,
    eval_split="dev",
    licence="Apache-2.0",
)
