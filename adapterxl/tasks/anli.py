"""ANLI: three-way entailment, written in three rounds to fool the models of the day. English.

Source: Nie et al. 2020, https://aclanthology.org/2020.acl-main.441
The three rounds are read one after the other, in every split.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="anli",
    kind="classify",
    summary="Three-way entailment written to fool models, three rounds, in English.",
    source="https://aclanthology.org/2020.acl-main.441",
    labels=("entailment", "neutral", "contradiction"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    licence="CC-BY-NC-4.0",
    hub=(
        HubSource(
            id="facebook/anli",
            config="plain_text",
            splits={
                "train": "train_r1+train_r2+train_r3",
                "dev": "dev_r1+dev_r2+dev_r3",
                "test": "test_r1+test_r2+test_r3",
            },
            columns={"id": "uid", "text": "premise", "text_pair": "hypothesis", "label": "label"},
        ),
    ),
)
