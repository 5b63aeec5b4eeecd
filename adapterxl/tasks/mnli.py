"""MNLI: does a premise entail a hypothesis? Three answers, English, many genres.

Source: Williams et al. 2018, https://aclanthology.org/N18-1101
The public test labels are hidden, so `dev` (the matched half) is the split to score.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="mnli",
    kind="classify",
    summary="Three-way entailment in English; the training data of xnli.",
    source="https://aclanthology.org/N18-1101",
    labels=("entailment", "neutral", "contradiction"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="OANC, CC-BY-3.0, CC-BY-SA-3.0 (by genre)",
    hub=(
        HubSource(
            id="nyu-mll/glue",
            config="mnli",
            splits={"train": "train", "dev": "validation_matched"},
            columns={"text": "premise", "text_pair": "hypothesis", "label": "label"},
        ),
    ),
)
