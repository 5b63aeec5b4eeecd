"""CCG supertagging: the lexical category of every word in newspaper text. English, from local files only.

Source: Hockenmaier and Steedman 2007 (CCGbank), https://aclanthology.org/J07-3004
Licensed by the Linguistic Data Consortium and on no hub. Files as jiant takes them: `words TAB tags`, each
separated by spaces, and a JSON file {tag: number}, which the entry of the index names as `label_names`.
"""

from __future__ import annotations

from .base import Task

TASK = Task(
    name="ccg",
    kind="tag",
    summary="Lexical categories (supertags) in English newspaper text, from your own files.",
    source="https://aclanthology.org/J07-3004",
    labels_in_data=True,
    languages=("en",),
    metrics=("token_accuracy",),
    max_length=256,  # as in jiant
    licence="LDC, to be bought",
)
