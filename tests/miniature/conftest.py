"""The miniature's data, written once for all tests of this folder, beside the puzzles that it was written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapterxl.miniature import data


@dataclass(frozen=True)
class Written:
    """The folder that `write` filled, and (task, split) -> the puzzles behind its rows."""

    folder: Path
    puzzles: dict[tuple[str, str], list[Any]]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    puzzles: dict[tuple[str, str], list[Any]] = {}
    make = data._puzzles

    def recorded(name: str, source: data.Source, split: Any, seen: set[str]) -> Iterator[Any]:
        puzzles[name, split] = list(make(name, source, split, seen))
        return iter(puzzles[name, split])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_puzzles", recorded)
        folder = data.write(tmp_path_factory.mktemp("miniature"))
    return Written(folder, puzzles)
