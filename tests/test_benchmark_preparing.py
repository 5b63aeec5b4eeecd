"""The benchmark of preparation: both sides make the same token ids, and what was kept is used the second time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samples import write_data

from adapterxl.data import row_cache

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FOLDER)
    import preparing

    return preparing


def test_each_variant_runs_twice_and_makes_the_same_token_ids(
    bench: Any, tiny_xlmr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def here(command: list[str], env: dict[str, str], **_: Any) -> Any:
        """In this process, which has imported everything."""
        commands.append(command)
        with monkeypatch.context() as patch:
            for name in ("ADAPTERXL_CACHE", row_cache.LIMIT):
                patch.delenv(name, raising=False)
                if name in env:
                    patch.setenv(name, env[name])
            assert bench.main(command[2:]) == 0
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(row_cache, "SMALL", 0)
    monkeypatch.setattr(bench.subprocess, "run", here)
    out, data = tmp_path / "results.json", write_data(tmp_path / "data")
    given = ["--base", str(tiny_xlmr), "--data", str(data), "--pairs", "70", "--max-length", "16", "--repeats", "2"]
    assert bench.main([*given, "--processes", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert len(report["results"]) == len(commands) == 2 * 3 * 2
    assert len({each["digest"] for each in report["results"][:6]}) == 1
    assert {each["variant"] for each in report["results"] if each["mapped"]} == {"adapterxl"}
    for times in report["summary"].values():
        assert times["first"]["per_second"]["min"] > 0 and times["second"]["seconds"].keys() == {"median", "min", "max"}
    assert report["arguments"]["pairs"] == 70 and str(tmp_path) not in out.read_text(encoding="utf-8")
    shown = capsys.readouterr().out
    assert "70 pairs, at most 16 tokens" in shown and "datasets.map" in shown
    assert bench.main([*given, "--task", "tydiqa", "--out", str(tmp_path / "none.json")]) == 1
    captured = capsys.readouterr().err
    assert "--task tydiqa: is a span task" in captured and captured.count("\n") == 1
    assert not (tmp_path / "none.json").exists()
