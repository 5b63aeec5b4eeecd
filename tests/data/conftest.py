"""A small data folder written by a test, and its loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from repositories import write_repository

from adapterxl.data import HubData, Loaded, LocalIndex
from adapterxl.tasks import get_task

Load = Callable[..., Loaded]
Repository = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Write one split of one configuration as a folder in hub layout; return the folder's name as an id."""

    def write(config: str | None, split: str, columns: dict[str, list[Any]], features: dict[str, Any]) -> str:
        name = config or "default"
        root = tmp_path / f"repo-{name}-{split}-{len(list(tmp_path.iterdir()))}"
        return write_repository(root, {(name, split): (columns, features)})

    return write


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> HubData:
    folder = tmp_path_factory.mktemp("cache")
    return HubData(cache_dir=str(folder), lock=folder / "lock.json")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write files and an index with one task, and load its English training split."""

    def run(name: str, entry: dict[str, Any], files: dict[str, str | bytes], on_bad_row: str = "stop") -> Loaded:
        for relative, content in files.items():
            path = tmp_path / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        given = {"train": {"en": [next(iter(files))]}} | entry
        (tmp_path / "adapterxl-data.yaml").write_text(
            yaml.safe_dump({"format": 1, "tasks": {name: given}}, sort_keys=False)
        )
        return LocalIndex.open(tmp_path).load(get_task(name), "train", "en", on_bad_row=on_bad_row)  # type: ignore[arg-type]

    return run
