"""SIQA (Social IQa): what people do and feel, one of three answers, English; a first step towards xcopa.

Source: Sap et al. 2019, https://aclanthology.org/D19-1454
Answers are counted from 1 in its files. Training on siqa and then on copa is itself intermediate training.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="siqa",
    kind="choice",
    summary="What people do and feel, one of three answers, in English.",
    source="https://aclanthology.org/D19-1454",
    labels=("1", "2", "3"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="not stated",
    hub=(
        HubSource(
            id="lighteval/siqa",
            splits={"train": "train", "dev": "validation"},
            columns={
                "context": "context",
                "question": "question",
                "choices": ("answerA", "answerB", "answerC"),
                "label": "label",
            },
        ),
    ),
)
