"""COPA: which of two sentences is the cause or the effect of a first one? English.

Source: Roemmele et al. 2011, https://people.ict.usc.edu/~gordon/copa.html
The question is the word "cause" or "effect". Released test files often have blanked labels
(all 0), so `dev` is the split to score.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="copa",
    kind="choice",
    summary="Cause or effect, one of two, in English; the training data of xcopa.",
    source="https://people.ict.usc.edu/~gordon/copa.html",
    languages=("en",),
    metrics=("accuracy",),
    max_length=256,  # as in jiant
    eval_split="dev",
    licence="BSD-2-Clause",
)
