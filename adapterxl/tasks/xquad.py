"""XQuAD: the same 1,190 SQuAD questions in 11 languages, Romanian added later; no training data.

Source: Artetxe et al. 2020, https://aclanthology.org/2020.acl-main.421
The hub calls its only split "validation". It is the test set, so nothing may be tuned on it.
"""

from __future__ import annotations

from .base import HubSource, Task

_COLUMNS = {"id": "id", "context": "context", "question": "question", "answers": "answers"}

_LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh")

TASK = Task(
    name="xquad",
    kind="span",
    summary="Answer spans in 12 languages; trained on squad.",
    source="https://aclanthology.org/2020.acl-main.421",
    languages=_LANGUAGES,
    sets={"xtreme": tuple(code for code in _LANGUAGES if code != "ro"), "xtreme-r": _LANGUAGES},
    metrics=("squad", "f1", "exact_match"),
    train_from="squad",
    max_length=384,  # as in jiant
    licence="CC-BY-SA-4.0",
    hub=(
        HubSource(id="google/xquad", config="xquad.{language}", splits={"test": "validation"}, columns=_COLUMNS),
        HubSource(id="google/xtreme", config="XQuAD.{language}", splits={"test": "validation"}, columns=_COLUMNS),
    ),
)
