"""AfriQA, gold passages, with the questions translated into the language of the passage by people.

All other facts are those of afriqa.
"""

from __future__ import annotations

from dataclasses import replace

from .afriqa import TASK as AFRIQA

TASK = replace(
    AFRIQA,
    name="afriqa_pivot",
    summary="As afriqa, with each question in its human translation into English or French.",
    context_languages={},
    question="question_pivot",
    entry="afriqa",
)
