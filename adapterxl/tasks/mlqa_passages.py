"""MLQA as retrieval: find the passage that a question is about; questions and passages may be of two languages.

Source: https://aclanthology.org/2020.acl-main.653 (questions and contexts).
The pool is every context of one language. `de.en` asks in English for German passages.
"""

from __future__ import annotations

from dataclasses import replace

from .mlqa import TASK as _MLQA

TASK = replace(
    _MLQA,
    name="mlqa_passages",
    kind="retrieve",
    summary="Retrieval of the passage of a question in 7 languages, crossed on request, without training.",
    metrics=("recall_at_10", "recall_at_1", "recall_at_5"),
    train_from=None,
    search="passages",
    candidates="context",
    entry="mlqa",
    max_length=512,
)
