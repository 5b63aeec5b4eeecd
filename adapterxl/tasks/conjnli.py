"""ConjNLI: three-way entailment where "and", "or", "but" decide. English.

Source: Saha et al. 2020, https://aclanthology.org/2020.emnlp-main.661
The public test file has no labels, so `dev` is the split to score.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="conjnli",
    kind="classify",
    summary="Three-way entailment over conjunctions, in English.",
    source="https://aclanthology.org/2020.emnlp-main.661",
    labels=("entailment", "neutral", "contradiction"),
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,
    eval_split="dev",
    licence="MIT",
)
