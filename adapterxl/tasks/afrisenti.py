"""AfriSenti: sentiment of tweets in 14 African languages; Oromo and Tigrinya have no training rows.

Source: Muhammad et al. 2023, https://aclanthology.org/2023.emnlp-main.862
No English: nusax has the same three labels, and its English rows are trained on unless others are asked for.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="afrisenti",
    kind="classify",
    summary="Sentiment of tweets in 14 African languages; trained on nusax in English.",
    source="https://aclanthology.org/2023.emnlp-main.862",
    labels=("negative", "neutral", "positive"),
    languages=(
        "amh",
        "arq",
        "ary",
        "hau",
        "ibo",
        "kin",
        "orm",
        "pcm",
        "por",
        "swa",
        "tir",
        "tso",
        "twi",
        "yor",
    ),  # fmt: skip
    metrics=("weighted_f1", "accuracy"),
    train_from="nusax",
    max_length=256,
    licence="CC-BY-4.0",
    hub=(
        HubSource(
            id="shmuhammad/AfriSenti-twitter-sentiment",
            folder="{language}",
            revision="refs/convert/parquet",
            splits={"train": "train", "dev": "validation", "test": "test"},
            columns={"text": "tweet", "label": "label"},
            by_name=True,
        ),
    ),
)
