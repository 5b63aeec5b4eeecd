"""From what a user names to a task and the place where its data is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import TaskError
from ..miniature.data import SOURCES, data_folder
from ..tasks import get_task
from ..tasks.base import Task
from . import HubData, LocalIndex, open_data
from .combined import Combined
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
    if (data is None or isinstance(data, HubData)) and found.name in SOURCES:
        data = data_folder(found.name)
    source = open_data(data) if data is None or isinstance(data, str | Path) else data
    if found.labels_in_data:
        if not isinstance(source, LocalIndex):
            raise TaskError(f"Task '{found.name}' needs local files, which name its labels: give them with --data DIR.")
        found = replace(found, labels=source.labels(found))
    return found, Combined(source) if found.parts else source
