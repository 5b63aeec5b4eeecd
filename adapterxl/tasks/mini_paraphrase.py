"""Miniature paraphrases (intermediate, English): the same words in other places, do they say the same?

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_paraphrase",
    kind="classify",
    summary="Miniature: the same said another way, or not, English.",
    source="adapterxl/miniature",
    labels=("no", "yes"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=128,
    eval_split="dev",
    licence="Apache-2.0",
)
