"""XNLI: three-way entailment in 15 languages; train in English, test in all.

Source: Conneau et al. 2018, https://aclanthology.org/D18-1269
The English training split is MNLI. Training on `mnli` and then on `xnli` shows
the same pairs twice, so say which one a reported gain comes from.
"""

from __future__ import annotations

from .base import HubSource, Task

_LANGUAGES = ("en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")

TASK = Task(
    name="xnli",
    kind="classify",
    summary="Three-way entailment in 15 languages; trained on mnli.",
    source="https://aclanthology.org/D18-1269",
    labels=("entailment", "neutral", "contradiction"),
    languages=_LANGUAGES,
    sets={"xtreme": _LANGUAGES, "xtreme-r": _LANGUAGES},
    metrics=("accuracy",),
    train_from="mnli",
    label_aliases={"contradictory": "contradiction"},  # spelling of the translated training files
    max_length=256,  # as in jiant
    licence="CC-BY-NC-4.0",
    hub=(
        HubSource(
            id="facebook/xnli",
            config="{language}",
            splits={"dev": "validation", "test": "test"},
            columns={"text": "premise", "text_pair": "hypothesis", "label": "label"},
        ),
        HubSource(
            id="google/xtreme",
            config="XNLI",  # all languages in one, told apart by a column
            splits={"dev": "validation", "test": "test"},
            columns={
                "text": "sentence1",
                "text_pair": "sentence2",
                "label": "gold_label",
                "language": "language",
            },
        ),
    ),
)
