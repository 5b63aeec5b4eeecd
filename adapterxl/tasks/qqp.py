"""QQP: do two questions from Quora ask the same? English.

Source: Iyer et al. 2017 (Quora Question Pairs), as in GLUE, Wang et al. 2019, https://openreview.net/forum?id=rJ4km2R5t7
The public test labels are hidden, so `dev` is the split to score. GLUE's own score is the mean of accuracy and F1.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="qqp",
    kind="classify",
    summary="Do two questions ask the same? In English.",
    source="https://openreview.net/forum?id=rJ4km2R5t7",
    labels=("different", "duplicate"),  # 0 and 1 in the files
    label_aliases={"not_duplicate": "different"},
    languages=("en",),
    metrics=("qqp", "accuracy"),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="Quora's terms of service",
    hub=(
        HubSource(
            id="nyu-mll/glue",
            config="qqp",
            splits={"train": "train", "dev": "validation"},
            columns={"text": "question1", "text_pair": "question2", "label": "label"},
        ),
    ),
)
