"""PAWS-X: do two sentences with much the same words mean the same? Seven languages.

Source: Yang et al. 2019, https://aclanthology.org/D19-1382
"""

from __future__ import annotations

from .base import HubSource, Task

_COLUMNS = {"text": "sentence1", "text_pair": "sentence2", "label": "label"}
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}

_LANGUAGES = ("en", "de", "es", "fr", "ja", "ko", "zh")

TASK = Task(
    name="pawsx",
    kind="classify",
    summary="Paraphrase or not, on pairs with high word overlap, in 7 languages.",
    source="https://aclanthology.org/D19-1382",
    labels=("different", "paraphrase"),  # 0 and 1 in the files
    languages=_LANGUAGES,
    sets={"xtreme": _LANGUAGES},
    metrics=("accuracy",),
    train_from="paws",
    max_length=256,  # as in jiant
    licence="free for any purpose, with credit to Google",
    hub=tuple(
        HubSource(id=id, config=config, splits=_SPLITS, columns=_COLUMNS, translated=True)
        for id, config in (("google/xtreme", "PAWS-X.{language}"), ("google-research-datasets/paws-x", "{language}"))
    ),
)
