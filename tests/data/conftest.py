"""A small data folder written by a test, and its loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterxl.data import Loaded, LocalIndex
from adapterxl.tasks import get_task

Load = Callable[..., Loaded]


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
