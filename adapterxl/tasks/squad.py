"""SQuAD v1.1: find the answer to a question in a paragraph; every question has one. English.

Source: Rajpurkar et al. 2016, https://aclanthology.org/D16-1264
"""

from __future__ import annotations

from .base import HubSource, Task

_COLUMNS = {"id": "id", "context": "context", "question": "question", "answers": "answers"}
_SPLITS = {"train": "train", "dev": "validation"}

TASK = Task(
    name="squad",
    kind="span",
    summary="Answer spans in English Wikipedia; the training data of xquad.",
    source="https://aclanthology.org/D16-1264",
    languages=("en",),
    metrics=("squad", "f1", "exact_match"),
    max_length=384,  # as in jiant
    eval_split="dev",
    licence="CC-BY-SA-4.0",
    hub=(
        HubSource(id="rajpurkar/squad", splits=_SPLITS, columns=_COLUMNS),
        HubSource(id="google/xtreme", config="SQuAD", splits=_SPLITS, columns=_COLUMNS),
    ),
)
