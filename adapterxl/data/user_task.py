"""A user's own task: facts and files in one YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from adapterxl.console import CONTROL
from adapterxl.data.index import LocalIndex
from adapterxl.data.schema import Entry, LanguageCode
from adapterxl.data.source import DataSource
from adapterxl.data.yamlfile import load_yaml, validate
from adapterxl.errors import DataError, did_you_mean
from adapterxl.tasks.base import Kind, Task

_METRICS: Mapping[Kind, tuple[str, ...]] = {
    "classify": ("accuracy",),
    "choice": ("accuracy",),
    "tag": ("token_accuracy",),
    "span": ("f1", "exact_match"),
    "retrieve": ("retrieval_accuracy",),
    "mask": ("masked_accuracy",),
}


_RANKED = {
    "passages": ("recall_at_10", "recall_at_1", "recall_at_5"),
    "pooled": ("map_at_20", "own_language_at_20"),
}


def _text(label: object) -> object:
    """Refuse what YAML reads as something else than text: yes, no, 0, 1."""
    if not isinstance(label, str):
        raise ValueError(f'YAML reads this label as {type(label).__name__}; put it in quotes, such as "yes" or "1"')
    if CONTROL.search(label):
        raise ValueError(f"the label {label!r} has a control character; leave it out")
    return label


_Label = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=200)]


_LENGTHS = {"span": 384, "context": 512}  # as the shipped tasks; 256 otherwise


class _UserTask(Entry):
    """An index entry with the facts of its task."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    kind: Kind
    labels: Annotated[list[_Label], Field(min_length=2)] = Field(default_factory=list)
    label_aliases: dict[str, str] = Field(default_factory=dict)
    metric: str | None = None
    summary: str = ""
    no_answer: bool = False
    search: Literal["translation", "passages", "pooled"] = "translation"
    candidates: Literal["context", "sentence"] | None = None
    max_length: Annotated[int, Field(ge=16, le=512)] | None = None
    source_language: LanguageCode = "en"

    @model_validator(mode="after")
    def _labels_fit(self) -> _UserTask:
        if self.kind in ("classify", "tag") and not self.labels:
            raise ValueError(f"labels: missing; kind {self.kind} needs the list of labels")
        if self.label_names is not None:
            raise ValueError("label_names: is for tasks of the package; list the labels here: labels")
        if self.kind in ("span", "retrieve", "mask") and self.labels:
            raise ValueError(f"labels: found {len(self.labels)}, but kind {self.kind} has none; leave them out")
        if self.no_answer and self.kind != "span":
            raise ValueError(f"no_answer: is for kind span, found kind {self.kind}; leave it out")
        if self.kind != "retrieve" and (self.search != "translation" or self.candidates):
            raise ValueError(f"search and candidates: are for kind retrieve, found kind {self.kind}; leave them out")
        if (self.search in _RANKED) != (self.candidates is not None):
            found = f"search {self.search} and candidates {self.candidates or 'nothing'}"
            raise ValueError(f"candidates: found {found}, expected context or sentence with search passages or pooled")
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise ValueError(f"labels: '{twice[0]}' occurs twice")
        return self


def load_user_task(path: str | Path) -> tuple[Task, DataSource]:
    """Read a task file: name, kind, labels, metric, and an index entry whose files are relative to it.

    Raises:
        DataError: If the file does not fit the schema; names file and field.
    """
    path = Path(path)
    facts = validate(_UserTask, load_yaml(path), path)
    default = _metrics(facts)
    if facts.metric is None:
        metrics = default
    else:
        # The names that tasks of this kind use; what a metric computes is decided in evaluation.
        known = (*_METRICS["tag"], "span_f1") if facts.kind == "tag" else default
        if facts.metric not in known:
            raise DataError(
                f"{path}: metric: found '{facts.metric}', expected one of: {', '.join(known)}."
                f"{did_you_mean(facts.metric, known)}"
            )
        metrics = (facts.metric, *(name for name in default if name != facts.metric and facts.kind == "span"))
    languages = list(dict.fromkeys(language for known in facts.splits.values() for language in known))
    languages.sort(key=lambda language: language != facts.source_language)
    task = Task(
        name=facts.name,
        kind=facts.kind,
        summary=facts.summary or f"User's task from {path.name}.",
        source=path.name,
        labels=tuple(facts.labels),
        languages=tuple(languages),
        metrics=metrics,
        train_from=facts.train_from,
        label_aliases=facts.label_aliases,
        no_answer=facts.no_answer,
        search=facts.search,
        candidates=facts.candidates or "",
        max_length=facts.max_length or _LENGTHS.get(facts.candidates or facts.kind, 256),
        eval_split="test" if facts.test or not facts.dev else "dev",
        source_language=facts.source_language,
    )
    for alias, label in facts.label_aliases.items():
        if label not in task.labels:
            raise DataError(
                f"{path}: label_aliases.{alias}: found '{label}', expected one of: {', '.join(task.labels)}."
                f"{did_you_mean(label, task.labels)}"
            )
    return task, LocalIndex(path, {task.name: facts}, prefix="")


def _metrics(facts: _UserTask) -> tuple[str, ...]:
    """Return the metrics of the kind; tags that mark spans (B-, I-) are scored as spans."""
    if facts.kind == "tag" and any(label.startswith("B-") for label in facts.labels):
        return ("span_f1",)
    return _RANKED.get(facts.search) or _METRICS[facts.kind]
