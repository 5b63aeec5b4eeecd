"""SQuAD v2.0: as v1.1, with questions that the paragraph does not answer. English.

Source: Rajpurkar et al. 2018, https://aclanthology.org/P18-2124
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="squad_v2",
    kind="span",
    summary="Answer spans in English Wikipedia; half of the dev questions have none.",
    source="https://aclanthology.org/P18-2124",
    languages=("en",),
    metrics=("squad_v2", "best_f1", "best_exact_match"),
    no_answer=True,
    max_length=384,  # as in jiant
    eval_split="dev",
    licence="CC-BY-SA-4.0",
    hub=(
        HubSource(
            id="rajpurkar/squad_v2",
            config="squad_v2",
            splits={"train": "train", "dev": "validation"},
            columns={"id": "id", "context": "context", "question": "question", "answers": "answers"},
        ),
    ),
)
