"""Mewsli-X: find the entity that a mention in the news means, by its description.

Source: Ruder et al. 2021 (XTREME-R), https://aclanthology.org/2021.emnlp-main.802. Mentions are in
11 languages, entities in 50. It is made by its own scripts and lies on no hub as plain tables, so it is read from the
files that they write.
"""

from __future__ import annotations

from .base import Task

_LANGUAGES = ("en", "ar", "de", "es", "fa", "ja", "pl", "ro", "ta", "tr", "uk")

TASK = Task(
    name="mewslix",
    kind="retrieve",
    summary="Retrieval of the entity that is mentioned, among a million descriptions in 50 languages; local files.",
    source="https://aclanthology.org/2021.emnlp-main.802",
    languages=_LANGUAGES,
    sets={"xtreme-r": _LANGUAGES},
    metrics=("mrr_at_20",),
    search="pooled",
    max_length=256,
    licence="Apache-2.0; texts CC-BY-2.5 and CC-BY-SA-3.0",
)
