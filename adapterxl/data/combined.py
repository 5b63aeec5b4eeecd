"""A task made of other tasks: their rows put together, so that each is drawn in proportion to its size."""

from __future__ import annotations

from dataclasses import replace

from adapterxl.data.source import DataSource, Loaded, OnBadRow, check_language, pick_split
from adapterxl.errors import TaskError
from adapterxl.tasks import get_task
from adapterxl.tasks.base import Task


class Combined:
    """A data source that reads tasks in parts from another source; a task that stands there whole is taken as it is.

    Attributes:
        source: Where the parts are.
    """

    def __init__(self, source: DataSource) -> None:
        self.source = source

    @property
    def describe(self) -> str:
        """Return the source in words."""
        return self.source.describe

    def splits(self, task: Task) -> dict[str, tuple[str, ...]]:
        """Return split -> languages that all parts have."""
        found = [self.source.splits(part) for part in self._parts(task)]
        common = {
            split: tuple(language for language in found[0][split] if all(language in one[split] for one in found))
            for split in found[0]
            if all(split in one for one in found)
        }
        return {split: languages for split, languages in common.items() if languages}

    def languages(self, task: Task, split: str) -> tuple[str, ...]:
        """Return the languages of one split of a task."""
        return pick_split(task, self.splits(task), split, self.describe)

    def load(self, task: Task, split: str, language: str, *, on_bad_row: OnBadRow = "stop") -> Loaded:
        """Read one split of all parts in one language; ids begin with the part's name. See DataSource.load."""
        check_language(task, split, language, self.languages(task, split), self.describe)
        parts = self._parts(task)
        if parts == (task,):
            return self.source.load(task, split, language, on_bad_row=on_bad_row)
        loads = [self.source.load(part, split, language, on_bad_row=on_bad_row) for part in parts]
        return Loaded(
            examples=tuple(
                replace(row, id=f"{part.name}/{row.id}")
                for part, loaded in zip(parts, loads, strict=True)
                for row in loaded.examples
            ),
            dropped=tuple(line for loaded in loads for line in loaded.dropped),
            files=tuple(file for loaded in loads for file in loaded.files),
            origin="; ".join(loaded.origin for loaded in loads),
            warnings=tuple(line for loaded in loads for line in loaded.warnings),
            translated=any(loaded.translated for loaded in loads),
        )

    def _parts(self, task: Task) -> tuple[Task, ...]:
        """Return the tasks to read: the parts, or the task itself where the source knows it."""
        try:
            self.source.splits(task)
        except TaskError:
            return tuple(map(get_task, task.parts)) or (task,)
        return (task,)
