"""XQuAD as retrieval: find the passage that a question is about, in its own language and in English.

Source: https://aclanthology.org/2020.acl-main.421 (questions and contexts).
The pool is every context of one language. As all languages have the same passages, each is also asked for
the English ones, and that record says so.
"""

from __future__ import annotations

from dataclasses import replace

from .xquad import TASK as _XQUAD

TASK = replace(
    _XQUAD,
    name="xquad_passages",
    kind="retrieve",
    summary="Retrieval of the passage of a question, in its own language and in English, without training.",
    metrics=("recall_at_10", "recall_at_1", "recall_at_5"),
    train_from=None,
    search="passages",
    candidates="context",
    entry="xquad",
    max_length=512,
)
