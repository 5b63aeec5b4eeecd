"""NusaX: sentiment in English, Indonesian and ten languages of Indonesia, translated by hand.

Source: Winata et al. 2023, https://aclanthology.org/2023.eacl-main.57
"""

from __future__ import annotations

from .base import HubSource, Task

_CONFIGS = {
    "en": "eng", "ace": "ace", "ban": "ban", "bbc": "bbc", "bjn": "bjn", "bug": "bug", "id": "ind", "jv": "jav",
    "mad": "mad", "min": "min", "nij": "nij", "su": "sun",
}  # fmt: skip
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_COLUMNS = {"text": "text", "label": "label"}

TASK = Task(
    name="nusax",
    kind="classify",
    summary="Sentiment in English, Indonesian and 10 more languages of Indonesia.",
    source="https://aclanthology.org/2023.eacl-main.57",
    labels=("negative", "neutral", "positive"),
    languages=tuple(_CONFIGS),
    metrics=("macro_f1", "accuracy"),
    max_length=256,
    licence="CC-BY-SA-4.0",
    hub=(
        HubSource(
            id="indonlp/NusaX-senti",
            configs=_CONFIGS,
            folder="{config}",
            revision="refs/convert/parquet",
            splits=_SPLITS,
            columns=_COLUMNS,
        ),
        HubSource(id="mteb/NusaX-senti", config="{config}", configs=_CONFIGS, splits=_SPLITS, columns=_COLUMNS),
    ),
)
