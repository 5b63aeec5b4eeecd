"""PAWS: do two sentences with much the same words mean the same? English.

Source: Zhang et al. 2019, https://aclanthology.org/N19-1131
The labelled final part from Wikipedia, whose training rows are also those of pawsx.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="paws",
    kind="classify",
    summary="Paraphrase or not, on pairs with high word overlap, in English; training data for pawsx.",
    source="https://aclanthology.org/N19-1131",
    labels=("different", "paraphrase"),  # 0 and 1 in the files
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    licence="free for any purpose, with credit to Google",
    hub=(
        HubSource(
            id="google-research-datasets/paws",
            config="labeled_final",
            splits={"train": "train", "dev": "validation", "test": "test"},
            columns={"text": "sentence1", "text_pair": "sentence2", "label": "label"},
        ),
    ),
)
