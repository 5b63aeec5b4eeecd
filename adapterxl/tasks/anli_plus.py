"""ANLI+: SNLI, MNLI and ANLI as one task, as in Phang et al. 2020. English.

Source: Phang et al. 2020, https://aclanthology.org/2020.aacl-main.56
One three-way head for all; rows are drawn in proportion to the sizes of the three.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="anli_plus",
    kind="classify",
    summary="ANLI+: SNLI, MNLI and ANLI as one three-way entailment task, in English.",
    source="https://aclanthology.org/2020.aacl-main.56",
    labels=("entailment", "neutral", "contradiction"),
    languages=("en",),
    metrics=("accuracy",),
    parts=("snli", "mnli", "anli"),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="as snli, mnli and anli: non-commercial",
)
