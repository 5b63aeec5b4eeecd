"""BUCC 2018: find the pairs of translations among two sides, most of whose sentences have none; four languages.

Source: Zweigenbaum et al. 2018 (BUCC shared task); dev (the sample set) and test (the training set, as gold pairs of
the test set were not published) as in XTREME. On the hub there are gold pairs alone, without the sentences that hide
them, so it is read from local files; the gold pairs are the task bucc_gold.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="bucc",
    kind="retrieve",
    summary="Mining of translations into English from 4 languages, the threshold frozen on dev; local files.",
    source="http://lrec-conf.org/workshops/lrec2018/W8/pdf/12_W8.pdf",
    languages=("de", "fr", "ru", "zh"),
    sets={"xtreme": ("de", "fr", "ru", "zh")},
    metrics=("bucc",),
    search="mined",
    max_length=256,
    licence="for research, as its organisers ask",
)
