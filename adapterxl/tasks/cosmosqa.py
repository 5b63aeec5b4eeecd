"""Cosmos QA: what follows from a short story, one of four answers, English.

Source: Huang et al. 2019, https://aclanthology.org/D19-1243
The public test labels are hidden, so `dev` is the split to score.
"""

from __future__ import annotations

from .base import HubSource, Task

_SPLITS = {"train": "train", "dev": "validation"}
_COLUMNS: dict[str, str | tuple[str, ...]] = {
    "id": "id",
    "context": "context",
    "question": "question",
    "choices": ("answer0", "answer1", "answer2", "answer3"),
    "label": "label",
}

TASK = Task(
    name="cosmosqa",
    kind="choice",
    summary="Common sense about everyday stories, one of four answers, in English.",
    source="https://aclanthology.org/D19-1243",
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="CC-BY-4.0",
    hub=(
        HubSource(id="allenai/cosmos_qa", splits=_SPLITS, columns=_COLUMNS),
        # Where the repository still holds a script: the copy that the hub converted.
        HubSource(
            id="allenai/cosmos_qa", folder="default", revision="refs/convert/parquet", splits=_SPLITS, columns=_COLUMNS
        ),
    ),
)
