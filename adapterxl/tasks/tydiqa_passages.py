"""TyDiQA-GoldP as retrieval: find the passage that a question is about.

Source: https://aclanthology.org/2020.tacl-1.30 (questions and contexts).
The pool is every context of one language. Its passages are of each language alone, so there is no other to
look in.
"""

from __future__ import annotations

from dataclasses import replace

from .tydiqa import TASK as _TYDIQA

TASK = replace(
    _TYDIQA,
    name="tydiqa_passages",
    kind="retrieve",
    summary="Retrieval of the passage of a question in 9 languages, without training.",
    metrics=("recall_at_10", "recall_at_1", "recall_at_5"),
    train_from=None,
    search="passages",
    candidates="context",
    entry="tydiqa",
    max_length=512,
)
