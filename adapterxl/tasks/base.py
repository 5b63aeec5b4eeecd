"""What a task is: facts only. Loading, preparing, heads and metrics are chosen by `kind`, never by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["classify", "tag", "span", "choice", "retrieve"]
KINDS: tuple[Kind, ...] = ("classify", "tag", "span", "choice", "retrieve")


@dataclass(frozen=True)
class HubSource:
    """Where a task lies on the Hugging Face hub, as parquet (dataset scripts are never run).

    Attributes:
        id: Dataset id, or a local folder in the layout of a hub repository.
        config: Configuration name; ``{language}`` is replaced.
        splits: Our split name (train, dev, test) -> the repository's.
        columns: Role -> column, with the roles of the data index (text, text_pair, label,
            words, tags, context, question, answers, choices, id, english).
        configs: Language -> configuration where `config` cannot be written as a template.
        revision: Commit or branch of the repository.
    """

    id: str
    config: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None


@dataclass(frozen=True)
class Task:
    """One task: what it asks, in which languages, how it is scored, where it is found.

    Attributes:
        name: Short name, as in `adapterxl train NAME`.
        kind: classify (one or two texts -> label), tag (word -> tag), span (question + context ->
            answer span), choice (context + question -> one of several texts), retrieve (no training;
            sentence -> its translation).
        summary: One line for `adapterxl list tasks`.
        source: Paper or specification.
        labels: Label or tag set; the position is the label id in the hub dataset.
        languages: Languages of the published benchmark, source language first. May be empty for a user's own task.
        metrics: Names of metrics; the first is the primary one.
        train_from: The task whose English training data is used when this one has none.
        label_aliases: Other spellings found in files -> label.
        no_answer: span: questions may have no answer in their context, so "" is a possible prediction.
        max_length: Tokens per row, with the special ones.
        eval_split: The split that `evaluate` reads unless told otherwise (the index may hold only the other one).
        licence: Short licence note.
        hub: Where the hub has it, in order of preference.
    """

    name: str
    kind: Kind
    summary: str
    source: str = ""
    labels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    train_from: str | None = None
    label_aliases: Mapping[str, str] = field(default_factory=dict)
    no_answer: bool = False
    max_length: int = 256
    eval_split: Literal["dev", "test"] = "test"
    source_language: str = "en"
    licence: str = ""
    hub: tuple[HubSource, ...] = ()
