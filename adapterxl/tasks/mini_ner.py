"""Miniature entities (intermediate, English): persons, cities, banks and hotels.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_ner",
    kind="tag",
    summary="Miniature: persons, places and organisations, English.",
    source="adapterxl/miniature",
    labels=("B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"),
    languages=("en",),
    metrics=("span_f1",),
    max_length=128,
    eval_split="dev",
    licence="Apache-2.0",
)
