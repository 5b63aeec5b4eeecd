"""AfriQA, gold passages, with the questions translated into the language of the passage by people.

Source: Ogundepo et al. 2023, https://aclanthology.org/2023.findings-emnlp.997
The passage is in the pivot language: English, French for Fon and Wolof. Published are bem fon hau ibo kin swa twi wol
yor zul; its repository holds the gold passages of some only. Some answers ("yes") stand nowhere in their passage: they
are scored, and nothing is learned from them. A few rows have no passage: `--on-bad-row drop` counts and reports them.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="afriqa_pivot",
    kind="span",
    summary="As afriqa, with each question in its human translation into English or French.",
    source="https://aclanthology.org/2023.findings-emnlp.997",
    languages=("bem", "fon", "hau", "ibo", "kin", "swa", "twi", "wol", "yor", "zul"),
    metrics=("squad", "f1", "exact_match"),
    train_from="squad",
    answers_as_text=True,
    question="question_pivot",
    entry="afriqa",
    max_length=384,
    licence="CC-BY-4.0",
)
