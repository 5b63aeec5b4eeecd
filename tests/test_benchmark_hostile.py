"""The benchmark of bad folders: ours refuses, and what the libraries take, or change the backbone by, is seen."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
CASES = {
    "lora: NaN": {"peft": "accepted"},
    "lora: a peft key of the backbone": {"peft": "accepted, backbone changed"},
    "lora: half of it": {"peft": "refused"},
    "head: a weight of the backbone": {"adapters": "accepted, backbone changed"},
    "manifest: a newer format": {},
}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import hostile_corpus

    return hostile_corpus


def test_every_way_of_loading_is_told_case_by_case(bench: ModuleType, tmp_path: Path, capsys) -> None:
    out = tmp_path / "result.json"
    chosen = [argument for name in CASES for argument in ("--cases", name)]
    assert bench.main([*chosen, "--out", str(out)]) == 0, capsys.readouterr().err
    report = json.loads(out.read_text(encoding="utf-8"))
    for name, expected in CASES.items():
        ours = {"adapterxl": "refused"} | ({"adapterxl, foreign": "refused"} if expected else {})
        assert report["cases"][name] == ours | expected, name
    assert report["totals"]["adapterxl"]["refused"] == len(CASES) == report["totals"]["adapterxl"]["errors_in_one_line"]
    assert report["kinds"]["lora: tensors"]["peft"]["accepted"] == 2
    assert "2 accepted" in capsys.readouterr().out
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_a_loader_that_hangs_or_dies_or_runs_code_is_told(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import time

    import torch

    monkeypatch.chdir(tmp_path)
    model = torch.nn.ModuleDict({"embeddings": torch.nn.Linear(2, 2), "classifier": torch.nn.Linear(2, 2)})
    big = 1 << 40

    def told(loader) -> str:
        return bench.said(bench.outcome(loader, model, Path("m"), 2, 1 << 30))

    def zero(name: str):
        return lambda folder: torch.nn.init.zeros_(model[name].weight)

    assert told(lambda folder: None) == "accepted"
    assert told(lambda folder: time.sleep(60)) == "hung"
    assert told(lambda folder: os._exit(3)) == "crashed"
    assert told(lambda folder: torch.empty(big)) == "out of memory"
    assert told(lambda folder: 1 / 0) == "refused"
    assert told(zero("embeddings")) == "accepted, backbone changed" and told(zero("classifier")) == "accepted"
    assert told(lambda folder: os.mkdir("EXECUTED")) == "accepted, code executed"


def test_a_case_that_is_none_is_refused(bench: ModuleType, tmp_path: Path, capsys) -> None:
    assert bench.main(["--cases", "nothing", "--out", str(tmp_path / "r.json")]) == 1
    assert "no case 'nothing'" in capsys.readouterr().err and not (tmp_path / "r.json").exists()
