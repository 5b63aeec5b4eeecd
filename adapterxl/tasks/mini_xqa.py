"""Miniature QA (target): the same with other relations, in six languages, one without spaces.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_xqa",
    kind="span",
    summary="Miniature: answer spans about persons, animals and things.",
    source="adapterxl/miniature",
    languages=("en", "de", "es", "tr", "ru", "zh"),
    metrics=("f1", "exact_match"),
    max_length=160,
    licence="Apache-2.0",
)
