"""MLQA: answer spans in seven languages; question and context may be of two languages. Dev and test only.

Source: Lewis et al. 2020, https://aclanthology.org/2020.acl-main.653
All languages are those with question and context in one, as XTREME scores them; `de.en` is a German context with
English questions.
"""

from __future__ import annotations

from .base import HubSource, Task

_SPLITS = {"dev": "validation", "test": "test"}
_COLUMNS = {"id": "id", "context": "context", "question": "question", "answers": "answers"}

_LANGUAGES = ("en", "ar", "de", "es", "hi", "vi", "zh")

TASK = Task(
    name="mlqa",
    kind="span",
    summary="Answer spans in 7 languages, questions and contexts crossed on request; trained on squad.",
    source="https://aclanthology.org/2020.acl-main.653",
    languages=_LANGUAGES,
    sets={"xtreme": _LANGUAGES, "xtreme-r": _LANGUAGES},
    metrics=("mlqa", "mlqa_f1", "mlqa_exact_match"),
    train_from="squad",
    pairs=True,
    max_length=384,  # as in jiant
    licence="CC-BY-SA-3.0",
    hub=(
        HubSource(id="google/xtreme", config="MLQA.{context}.{language}", splits=_SPLITS, columns=_COLUMNS),
        HubSource(
            id="facebook/mlqa",  # a script: the copy that the hub converted
            folder="mlqa.{context}.{language}",
            revision="refs/convert/parquet",
            splits=_SPLITS,
            columns=_COLUMNS,
        ),
    ),
)
