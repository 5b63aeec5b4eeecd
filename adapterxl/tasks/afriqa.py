"""AfriQA, gold passages: questions in ten African languages about English or French passages.

Source: Ogundepo et al. 2023, https://aclanthology.org/2023.findings-emnlp.997
The passage is in the pivot language: English, French for Fon and Wolof. Published are bem fon hau ibo kin swa twi wol
yor zul; its repository holds the gold passages of some only. Some answers ("yes") stand nowhere in their passage: they
are scored, and nothing is learned from them. A few rows have no passage: `--on-bad-row drop` counts and reports them.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="afriqa",
    kind="span",
    summary="Questions in 10 African languages, answer spans in English or French passages; trained on squad.",
    source="https://aclanthology.org/2023.findings-emnlp.997",
    languages=("bem", "fon", "hau", "ibo", "kin", "swa", "twi", "wol", "yor", "zul"),
    metrics=("squad", "f1", "exact_match"),
    train_from="squad",
    answers_as_text=True,
    context_languages={
        **dict.fromkeys(("bem", "hau", "ibo", "kin", "swa", "twi", "yor", "zul"), "en"),
        **dict.fromkeys(("fon", "wol"), "fr"),
    },
    max_length=384,
    licence="CC-BY-4.0",
)
