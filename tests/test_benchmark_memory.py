"""The benchmark of memory: complete, and its predictions are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_report_holds_predictions_and_measurements_that_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    import memory

    kept = ("nothing", "+ checkpointing", "NF4 instead")
    monkeypatch.setattr(memory, "STEPS", {name: memory.STEPS[name] for name in kept})
    sizes = {"vocab-size": 400, "hidden-size": 64, "num-hidden-layers": 3, "num-attention-heads": 4,
             "intermediate-size": 128, "rows": 4, "length": 9, "out": tmp_path / "memory.json"}  # fmt: skip
    assert memory.main([text for key, value in sizes.items() for text in (f"--{key}", str(value))]) == 0
    report = json.loads((tmp_path / "memory.json").read_text())
    assert [result["name"] for result in report["results"]] == list(kept) and "64" in str(report["shape"])
    for result in report["results"]:
        assert result["measured_on_cpu"]["ratio"]["kept"] == pytest.approx(1, rel=0.1)
        assert result["measured_on_cpu"]["ratio"]["weights"] == 1
        assert result["predicted"]["total"] - result["predicted"]["context"] > 0
    totals = [result["predicted"]["total"] for result in report["results"]]
    assert totals == sorted(totals, reverse=True)
    assert "NF4 instead" in capsys.readouterr().out
