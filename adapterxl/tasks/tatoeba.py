"""Tatoeba: find the English translation of a sentence among up to 1,000; 36 languages, no training.

Source: Artetxe and Schwenk 2019, https://aclanthology.org/Q19-1038; languages as in XTREME.
"""

from __future__ import annotations

from .base import HubSource, Task
from .languages import ISO3

_LANGUAGES = (
    "af", "ar", "bg", "bn", "de", "el", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "hu", "id", "it",
    "ja", "jv", "ka", "kk", "ko", "ml", "mr", "nl", "pt", "ru", "sw", "ta", "te", "th", "tl", "tr", "ur",
    "vi", "zh",
)  # fmt: skip

TASK = Task(
    name="tatoeba",
    kind="retrieve",
    summary="Retrieval of English translations from 36 languages, without training.",
    source="https://aclanthology.org/Q19-1038",
    languages=_LANGUAGES,
    sets={"xtreme": _LANGUAGES, "xtreme-r": (*_LANGUAGES, "az", "lt", "pl", "uk", "ro")},
    metrics=("retrieval_accuracy",),
    max_length=256,
    licence="CC-BY-2.0-FR",
    hub=(
        HubSource(
            id="google/xtreme",
            config="{config}",
            configs={language: f"tatoeba.{code}" for language, code in ISO3.items()},
            splits={"test": "validation"},
            columns={"text": "source_sentence", "english": "target_sentence"},
        ),
    ),
)
