"""PIQA: which of two ways reaches a goal in the physical world? English.

Source: Bisk et al. 2020, https://arxiv.org/abs/1911.11641
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="piqa",
    kind="choice",
    summary="Which of two ways reaches a goal in the physical world? In English.",
    source="https://arxiv.org/abs/1911.11641",
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,
    eval_split="dev",
    licence="AFL-3.0",
)
