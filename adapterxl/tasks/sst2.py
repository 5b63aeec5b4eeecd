"""SST-2: is a sentence from a film review positive? English.

Source: Socher et al. 2013, https://aclanthology.org/D13-1170, as in GLUE
The public test labels are hidden, so `dev` is the split to score. Two labels: it does not stand in for the
training data of nusax and afrisenti, which have three.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="sst2",
    kind="classify",
    summary="Positive or negative sentence of a film review, in English.",
    source="https://aclanthology.org/D13-1170",
    labels=("negative", "positive"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,
    eval_split="dev",
    licence="not stated",
    hub=(
        HubSource(
            id="nyu-mll/glue",
            config="sst2",
            splits={"train": "train", "dev": "validation"},
            columns={"text": "sentence", "label": "label"},
        ),
    ),
)
