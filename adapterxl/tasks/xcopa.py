"""XCOPA: COPA translated into 11 languages by hand; dev and test only.

Source: Ponti et al. 2020, https://aclanthology.org/2020.emnlp-main.185
"""

from __future__ import annotations

from .base import HubSource, Task

_LANGUAGES = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")

TASK = Task(
    name="xcopa",
    kind="choice",
    summary="Cause or effect, one of two, in 11 languages; trained on copa.",
    source="https://aclanthology.org/2020.emnlp-main.185",
    languages=_LANGUAGES,
    sets={"xtreme-r": _LANGUAGES},
    metrics=("accuracy",),
    train_from="copa",
    max_length=256,  # as in jiant
    licence="CC-BY-4.0",
    hub=(
        HubSource(
            id="cambridgeltl/xcopa",
            config="{language}",
            splits={"dev": "validation", "test": "test"},
            columns={
                "context": "premise",
                "question": "question",
                "choices": ("choice1", "choice2"),
                "label": "label",
            },
        ),
    ),
)
