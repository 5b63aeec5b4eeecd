"""The benchmark of trainings together: both ways do the same work, and the report is complete."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from samples import write_data

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import k_jobs

    return k_jobs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def test_the_report_has_both_ways_for_each_number_of_jobs(
    bench: ModuleType, data: Path, tiny_xlmr: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "k.json"
    given = ["--base", str(tiny_xlmr), "--data", str(data), "--tasks", "mnli,udpos", "--jobs", "1,3"]
    assert bench.main([*given, "--batch-size", "4", "--steps", "2", "--repeats", "2", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [result["jobs"] for result in report["results"]] == [1, 3]
    assert report["methods"] == ["lora", "bottleneck", "lora"] and report["machine"] and report["versions"]["torch"]
    for result in report["results"]:
        assert result["tokens"] > 0 and result["difference_at_dropout_0"] < 1e-3
        for way in ("together", "in turn"):
            assert len(result[way]["seconds"]) == 2 and min(result[way]["cpu_seconds"]) > 0
        ratio = result["in_turn_over_together"]["seconds"]
        assert ratio["min"] <= ratio["median"] <= ratio["max"]
    assert "time in turn / together" in capsys.readouterr().out
    assert bench.main([*given[:5], "udpo", "--out", str(out)]) == 1
    assert "Did you mean 'udpos'" in capsys.readouterr().err


def test_jobs_that_do_not_agree_are_not_timed(
    bench: ModuleType, data: Path, tiny_xlmr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from adapterxl.training import together

    original = together.hidden_together

    def mixed_up(engines: Any, batches: Any) -> list[torch.Tensor]:
        return [states * len(engines) for states in original(engines, batches)]

    monkeypatch.setattr(together, "hidden_together", mixed_up)
    given = ["--base", str(tiny_xlmr), "--data", str(data), "--tasks", "mnli,udpos", "--jobs", "2"]
    assert bench.main([*given, "--batch-size", "4", "--steps", "2", "--out", str(tmp_path / "k.json")]) == 1
    assert "so nothing is timed" in capsys.readouterr().err and not (tmp_path / "k.json").exists()
