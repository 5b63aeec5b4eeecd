"""From what a user names to a task and the place where its data is."""

from __future__ import annotations

from pathlib import Path

from ..miniature.data import SOURCES, data_folder
from ..tasks import get_task
from ..tasks.base import Task
from . import open_data
from .source import DataSource
from .user_task import load_user_task

TaskLike = str | Path | Task
DataLike = DataSource | str | Path | None


def resolve_task(task: TaskLike, data: DataLike) -> tuple[Task, DataSource]:
    """A task with its data: by known name, as a Task, or by the path of a user's own YAML (which names its files).

    Without `data`, tasks of the miniature come with the package, all others from the hub.
    """
    if not isinstance(task, Task) and str(task).endswith((".yaml", ".yml")):
        return load_user_task(Path(task))
    found = task if isinstance(task, Task) else get_task(str(task))
    if data is None and found.name in SOURCES:
        data = data_folder(found.name)
    return found, open_data(data) if data is None or isinstance(data, str | Path) else data
