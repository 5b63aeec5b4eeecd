"""TyDiQA-GoldP: answer spans to questions asked by speakers of nine languages, not translated.

Source: Clark et al. 2020, https://aclanthology.org/2020.tacl-1.30
The hub has no labelled test split: its "validation" is what the literature reports, so nothing may be
tuned on it. All languages lie in one configuration; the id of a row starts with the language's name.
"""

from __future__ import annotations

from .base import HubSource, Task

_SPLITS = {"train": "train", "dev": "validation"}
_COLUMNS = {
    "id": "id",
    "context": "context",
    "question": "question",
    "answers": "answers",
    "language": "id",
}

_LANGUAGES = ("en", "ar", "bn", "fi", "id", "ko", "ru", "sw", "te")

TASK = Task(
    name="tydiqa",
    kind="span",
    summary="Answer spans in 9 languages, questions written in each.",
    source="https://aclanthology.org/2020.tacl-1.30",
    languages=_LANGUAGES,
    sets={"xtreme": _LANGUAGES, "xtreme-r": _LANGUAGES},
    metrics=("squad", "f1", "exact_match"),
    max_length=384,  # as in jiant
    eval_split="dev",
    licence="Apache-2.0",
    hub=(
        HubSource(id="google/xtreme", config="tydiqa", splits=_SPLITS, columns=_COLUMNS),
        HubSource(id="google-research-datasets/tydiqa", config="secondary_task", splits=_SPLITS, columns=_COLUMNS),
    ),
)
