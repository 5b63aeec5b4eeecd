"""Miniature entities (target): persons, cities, banks and hotels, in six languages.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_xner",
    kind="tag",
    summary="Miniature: persons, places and organisations.",
    source="adapterxl/miniature",
    labels=("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"),
    languages=("en", "de", "es", "tr", "ru", "zh"),
    metrics=("span_f1",),
    max_length=128,
    licence="Apache-2.0",
)
