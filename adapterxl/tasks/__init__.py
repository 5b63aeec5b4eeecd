"""The shipped tasks, found by name: a new task is one new file that defines TASK."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from adapterxl.errors import TaskError, did_you_mean

from .base import KINDS, Form, HubSource, Kind, Task

__all__ = ["KINDS", "Form", "HubSource", "Kind", "Task", "all_tasks", "get_task"]


@cache
def _discover() -> tuple[tuple[str, Task], ...]:
    found: dict[str, Task] = {}
    for entry in pkgutil.iter_modules(__path__):
        task = getattr(importlib.import_module(f"{__name__}.{entry.name}"), "TASK", None)
        if task is None:
            continue
        if not isinstance(task, Task):
            raise TaskError(f"adapterxl/tasks/{entry.name}.py: TASK is {type(task).__name__}, expected a Task.")
        if task.name in found:
            raise TaskError(
                f"adapterxl/tasks/{entry.name}.py: the name '{task.name}' is taken by another task file. "
                "Choose another name."
            )
        found[task.name] = task
    return tuple(sorted(found.items()))


def all_tasks() -> dict[str, Task]:
    """Return every shipped task by name, sorted."""
    return dict(_discover())


def get_task(name: str) -> Task:
    """Return the shipped task of this name.

    Raises:
        TaskError: If there is none.
    """
    tasks = all_tasks()
    if name not in tasks:
        own = " For a task of your own name its YAML file, such as my_task.yaml." if "." in name else ""
        raise TaskError(f"No task '{name}'.{did_you_mean(name, tasks)}{own} See: adapterxl list tasks")
    return tasks[name]
