"""Miniature NLI (intermediate, English): does what is told of persons settle a statement?

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_nli",
    kind="classify",
    summary="Miniature: three-way entailment about persons, English.",
    source="adapterxl/miniature",
    labels=("entailment", "neutral", "contradiction"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=128,
    eval_split="dev",
    licence="Apache-2.0",
)
