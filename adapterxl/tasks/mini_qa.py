"""Miniature QA (intermediate, English): find the answer in what is told of persons.

Source: adapterxl/miniature, a world written by hand for this project: synthetic, no corpus.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="mini_qa",
    kind="span",
    summary="Miniature: answer spans about persons, English.",
    source="adapterxl/miniature",
    languages=("en",),
    metrics=("f1", "exact_match"),
    max_length=160,
    eval_split="dev",
    licence="Apache-2.0",
)
