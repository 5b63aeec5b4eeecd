"""HellaSwag: which of four endings goes on from a caption or a how-to text? English.

Source: Zellers et al. 2019, https://aclanthology.org/P19-1472
The public test labels are empty, so `dev` is the split to score.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="hellaswag",
    kind="choice",
    summary="Which of four endings goes on from a caption or a how-to text? In English.",
    source="https://aclanthology.org/P19-1472",
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="MIT",
    hub=(
        HubSource(
            id="Rowan/hellaswag",
            splits={"train": "train", "dev": "validation"},
            columns={"context": "ctx", "choices": "endings", "label": "label"},  # label: "0" to "3", as text
        ),
    ),
)
