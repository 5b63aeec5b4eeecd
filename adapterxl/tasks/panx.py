"""PAN-X (WikiANN): person, organisation and place names in Wikipedia text, 40 languages.

Source: Pan et al. 2017, https://aclanthology.org/P17-1178; splits of Rahimi et al. 2019,
https://aclanthology.org/P19-1015. Languages as in XTREME.
"""

from __future__ import annotations

from .base import HubSource, Task

_LANGUAGES = (
    "en", "af", "ar", "bg", "bn", "de", "el", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "hu", "id",
    "it", "ja", "jv", "ka", "kk", "ko", "ml", "mr", "ms", "my", "nl", "pt", "ru", "sw", "ta", "te", "th",
    "tl", "tr", "ur", "vi", "yo", "zh",
)  # fmt: skip

TASK = Task(
    name="panx",
    kind="tag",
    summary="Names of persons, organisations and places in 40 languages.",
    source="https://aclanthology.org/P17-1178",
    labels=("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
    languages=_LANGUAGES,
    sets={"xtreme": _LANGUAGES, "xtreme-r": (*_LANGUAGES, "qu", "pl", "uk", "az", "lt", "pa", "gu", "ro")},
    metrics=("span_f1",),
    max_length=256,  # as in jiant
    licence="ODC-BY; text CC-BY-SA",
    hub=(
        HubSource(
            id="google/xtreme",
            config="PAN-X.{language}",
            splits={"train": "train", "dev": "validation", "test": "test"},
            columns={"words": "tokens", "tags": "ner_tags"},
        ),
    ),
)
