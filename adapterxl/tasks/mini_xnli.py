"""Miniature NLI (target): the same question about animals and things, in six languages.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_xnli",
    kind="classify",
    summary="Miniature: three-way entailment about animals and things.",
    source="adapterxl/miniature",
    labels=("entailment", "neutral", "contradiction"),
    languages=("en", "de", "es", "tr", "ru", "zh"),
    metrics=("accuracy",),
    max_length=128,
    licence="Apache-2.0",
)
