"""CODAH: which of four endings completes a sentence? Written to fool models. English.

Source: Chen et al. 2019, https://aclanthology.org/W19-2008
Published as one file for cross-validation, so there is a training split only.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="codah",
    kind="choice",
    summary="Sentence completion, one of four endings, in English (the form of HellaSwag).",
    source="https://aclanthology.org/W19-2008",
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="ODC-BY",
)
