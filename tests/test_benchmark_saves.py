"""The benchmark of concurrent saves: readers of ours get whole modules only; mixed ones of the libraries are seen."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import concurrent_saves

    return concurrent_saves


def test_ours_are_whole_and_the_result_is_written(bench: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    bench.main(["--reads", "40", "--repeats", "1", "--libraries", "adapterxl", "--out", str(out)])
    (run,) = json.loads(out.read_text())["runs"]
    assert run["reads"] == {"whole": 40} and not run["failed_saves"] and not run["left_beside"]


@pytest.mark.parametrize("library", ["adapters", "peft"])
def test_config_and_weights_of_two_saves_are_mixed(
    bench: ModuleType, library: str, tiny_xlmr: Path, tmp_path: Path
) -> None:
    for name, number in (("a", 1), ("b", 2)):
        bench.saver(library, tiny_xlmr, tmp_path / name)(number)
        assert bench.read(library, tmp_path / name) == "whole"
    (tmp_path / "a/adapter_config.json").write_bytes((tmp_path / "b/adapter_config.json").read_bytes())
    assert bench.read(library, tmp_path / "a") == "mixed"
    (tmp_path / "a/adapter_config.json").write_bytes(b"")
    assert bench.read(library, tmp_path / "a") == "failed: JSONDecodeError"
