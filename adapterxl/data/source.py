"""What every source of data promises, and what loading gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from adapterxl.data.examples import Example
from adapterxl.errors import TaskError, did_you_mean
from adapterxl.tasks.base import Task

OnBadRow = Literal["stop", "drop"]


@dataclass(frozen=True)
class FileDigest:
    """A file that was read and the sha256 of its bytes; `path` is relative to the source."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Loaded:
    """The rows of one task, split and language.

    Attributes:
        examples: Typed rows in file order.
        dropped: One line for each row left out (only with ``on_bad_row="drop"``).
        files: What was read, with digests.
        origin: Where it came from, in words.
        translated: Whether the source says that these are training rows that a machine translated.
        warnings: One line for each thing that a person should know before trusting a score.
    """

    examples: tuple[Example, ...]
    dropped: tuple[str, ...]
    files: tuple[FileDigest, ...]
    origin: str
    warnings: tuple[str, ...] = ()
    translated: bool = False


class DataSource(Protocol):
    """Where tasks are read from: an index of local files or the hub."""

    @property
    def describe(self) -> str:
        """Return the source in words, for messages and records."""
        ...

    def splits(self, task: Task) -> dict[str, tuple[str, ...]]:
        """Return split -> languages. Raises TaskError if the source does not hold the task."""
        ...

    def languages(self, task: Task, split: str) -> tuple[str, ...]:
        """Return the languages of one split. Raises TaskError if there is no such split."""
        ...

    def load(self, task: Task, split: str, language: str, *, on_bad_row: OnBadRow = "stop") -> Loaded:
        """Read one split in one language.

        Raises:
            TaskError: If the task, split or language is not here.
            DataError: If a file or row cannot be used; the message starts with file and line.
        """
        ...


def pick_split(task: Task, splits: dict[str, tuple[str, ...]], split: str, source: str) -> tuple[str, ...]:
    """Return the languages of a split, or raise a TaskError that names the splits at hand."""
    if split not in splits:
        borrowed = ""
        if split == "train" and task.train_from:
            borrowed = f" Its training data is that of '{task.train_from}'; name another with --train-from."
        raise TaskError(
            f"Task '{task.name}' has no {split} split in {source}; found: {', '.join(splits) or 'none'}."
            f"{did_you_mean(split, splits)}{borrowed}"
        )
    return splits[split]


def check_language(task: Task, split: str, language: str, known: Sequence[str], source: str) -> None:
    """Raise a TaskError that lists the languages at hand unless `language` is one of them."""
    if language not in known:
        raise TaskError(
            f"Task '{task.name}' has no language '{language}' in the {split} split of {source}; "
            f"found: {', '.join(known) or 'none'}.{did_you_mean(language, known)}"
        )


def one_label_warning(task: Task, examples: Sequence[Example], where: str) -> tuple[str, ...]:
    """Say so when every row of a larger labelled split has the same label, as blanked test files do."""
    labels = {getattr(example, "label", None) for example in examples}
    if len(examples) < 50 or len(labels) != 1 or None in labels:
        return ()
    return (
        f"{where}: all {len(examples):,} rows of '{task.name}' have the label {labels.pop()}. Blanked labels of a "
        "hidden test set look like this: a score on them would mean nothing. Use another split.",
    )
