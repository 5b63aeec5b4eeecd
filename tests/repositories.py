"""Small repositories in the layout of the hub, parquet with a card, for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, Features

from adapterxl.tasks import Task


def at(task: Task, folder: str, position: int = 0) -> Task:
    """Return the task with one of its hub sources moved to a local folder."""
    return replace(task, hub=(replace(task.hub[position], id=folder),))


def write_repository(root: Path, tables: dict[tuple[str, str], tuple[dict[str, list[Any]], dict[str, Any]]]) -> str:
    """Write a repository in hub layout, parquet with a card: (config, split) -> columns and features."""
    lines: dict[str, list[str]] = {}
    for (name, split), (columns, features) in tables.items():
        file = f"{name}/{split}-00000-of-00001.parquet"
        (root / name).mkdir(parents=True, exist_ok=True)
        Dataset.from_dict(columns, features=Features(features)).to_parquet(root / file)
        lines.setdefault(name, []).append(f"  - split: {split}\n    path: {file}\n")
    configs = "".join(f"- config_name: {name}\n  data_files:\n{''.join(files)}" for name, files in lines.items())
    (root / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return str(root)
