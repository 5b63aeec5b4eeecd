"""CommonsenseQA: a question about everyday things, one of five answers, English.

Source: Talmor et al. 2019, https://aclanthology.org/N19-1421
The public test labels are empty, so `dev` is the split to score.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="commonsenseqa",
    kind="choice",
    summary="A question about everyday things, one of five answers, in English.",
    source="https://aclanthology.org/N19-1421",
    labels=("A", "B", "C", "D", "E"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="MIT",
    hub=(
        HubSource(
            id="tau/commonsense_qa",
            splits={"train": "train", "dev": "validation"},
            columns={"id": "id", "question": "question", "choices": "choices.text", "label": "answerKey"},
        ),
    ),
)
