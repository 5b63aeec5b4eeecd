"""SNLI: three-way entailment on image captions, English.

Source: Bowman et al. 2015, https://aclanthology.org/D15-1075
Pairs on which the annotators did not agree have label -1 on the hub: left out, counted and reported.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="snli",
    kind="classify",
    summary="Three-way entailment on captions in English.",
    source="https://aclanthology.org/D15-1075",
    labels=("entailment", "neutral", "contradiction"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    licence="CC-BY-SA-4.0",
    hub=(
        HubSource(
            id="stanfordnlp/snli",
            splits={"train": "train", "dev": "validation", "test": "test"},
            columns={"text": "premise", "text_pair": "hypothesis", "label": "label"},
            leave_out={"label": (-1,)},
        ),
    ),
)
