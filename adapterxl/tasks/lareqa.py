"""LAReQA: find the sentence that answers a question, in every language at once; XQuAD's questions, 11 languages.

Source: Roy et al. 2020, https://aclanthology.org/2020.emnlp-main.477; mAP of the first 20 as in XTREME-R.
All sentences of all languages are one pool, and the answers in all of them are right. Sentences are encoded without
their paragraph. The hub does not say where they end: there a rule does.
"""

from __future__ import annotations

from .base import HubSource, Task

_LANGUAGES = ("en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh")

TASK = Task(
    name="lareqa",
    kind="retrieve",
    summary="Retrieval of answer sentences among those of all 11 languages, without training.",
    source="https://aclanthology.org/2020.emnlp-main.477",
    languages=_LANGUAGES,
    sets={"xtreme-r": _LANGUAGES},
    metrics=("map_at_20", "own_language_at_20"),
    search="pooled",
    candidates="sentence",
    max_length=256,
    licence="CC-BY-SA-4.0",
    hub=(
        HubSource(
            id="google-research-datasets/xquad_r",
            config="{language}",
            splits={"test": "validation"},
            columns={"id": "id", "context": "context", "question": "question", "answers": "answers"},
        ),
    ),
)
