"""From what a user names to a task and the place where its data is."""

from __future__ import annotations

from pathlib import Path

from ..tasks import get_task
from ..tasks.base import Task
from . import open_data
from .source import DataSource
from .user_task import load_user_task

TaskLike = str | Path | Task
DataLike = DataSource | str | Path | None


def resolve_task(task: TaskLike, data: DataLike) -> tuple[Task, DataSource]:
    """A task with its data: by known name, as a Task, or by the path of a user's own YAML (which names its files)."""
    if not isinstance(task, Task) and str(task).endswith((".yaml", ".yml")):
        return load_user_task(Path(task))
    found = task if isinstance(task, Task) else get_task(str(task))
    return found, open_data(data) if data is None or isinstance(data, str | Path) else data
