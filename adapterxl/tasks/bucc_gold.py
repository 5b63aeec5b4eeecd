"""BUCC's gold pairs: find the translation of a sentence among those of the others.

Source: Zweigenbaum et al. 2018 (BUCC shared task). What the hub has of BUCC are these pairs. Without the
sentences that hide them it is much easier than mining, and its accuracy is not the F1 that XTREME reports.
"""

from __future__ import annotations

from .base import HubSource, Task

TASK = Task(
    name="bucc_gold",
    kind="retrieve",
    summary="Retrieval of English translations among BUCC's gold pairs: no mining, not XTREME's BUCC.",
    source="http://lrec-conf.org/workshops/lrec2018/W8/pdf/12_W8.pdf",
    languages=("de", "fr", "ru", "zh"),
    metrics=("retrieval_accuracy",),
    max_length=256,
    licence="for research, as its organisers ask",
    hub=(
        HubSource(
            id="google/xtreme",
            config="bucc18.{language}",
            splits={"dev": "validation", "test": "test"},
            columns={"text": "source_sentence", "english": "target_sentence"},
        ),
    ),
)
