"""UDPOS: the universal part of speech of every word, 33 languages.

Source: Universal Dependencies, https://universaldependencies.org/u/pos/; languages as in XTREME.
Thai, Tagalog and Yoruba have a test set only; Kazakh has no dev set.
"""

from __future__ import annotations

from .base import HubSource, Task
from .languages import NAMES

_LANGUAGES = (
    "en", "af", "ar", "bg", "de", "el", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "hu", "id", "it", "ja",
    "kk", "ko", "mr", "nl", "pt", "ru", "ta", "te", "th", "tl", "tr", "ur", "vi", "yo", "zh",
)  # fmt: skip

# Alphabetical, mapped by name: no promise about the numbers in a hub repository.
_LABELS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT",
    "SCONJ", "SYM", "VERB", "X",
)  # fmt: skip

TASK = Task(
    name="udpos",
    kind="tag",
    summary="Universal part-of-speech tags in 33 languages.",
    source="https://universaldependencies.org/u/pos/",
    labels=_LABELS,
    languages=_LANGUAGES,
    sets={"xtreme": _LANGUAGES, "xtreme-r": (*_LANGUAGES, "lt", "pl", "uk", "wo", "ro")},
    metrics=("udpos_f1", "token_accuracy"),
    max_length=256,  # as in jiant
    licence="by treebank",
    hub=(
        HubSource(
            id="google/xtreme",
            config="{config}",
            configs={language: f"udpos.{NAMES[language]}" for language in _LANGUAGES},
            splits={"train": "train", "dev": "validation", "test": "test"},
            columns={"words": "tokens", "tags": "pos_tags"},
        ),
    ),
)
