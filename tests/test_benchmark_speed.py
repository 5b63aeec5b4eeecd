"""The benchmarks of trunk cache and evaluation run at tiny size, compare what is equal, and report every figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from samples import write_data

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def command(base: Path, data: Path, out: Path, **options: object) -> list[str]:
    given = {"base": base, "data": data, "out": out} | options
    return [text for key, value in given.items() for text in (f"--{key.replace('_', '-')}", str(value))]


def test_epochs_with_and_without_the_cache_are_reported(
    tiny_xlmr: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import trunk_cache

    out = tmp_path / "trunk.json"
    assert trunk_cache.main(command(tiny_xlmr, data, out, rows=16, batch_size=8, epochs=3)) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [(result["method"], result["layers"]) for result in report["results"]] == [
        ("lora", [2]),
        ("bottleneck", [2]),
    ]
    for result in report["results"]:
        assert result["bytes"] == 1024 + 2 * 32 * report["tokens"]
        assert len(result["epochs"]["plain"]) == len(result["epochs"]["cached"]) == 3
        assert result["filling"]["seconds"] > 0 and result["speedup_seconds"]["epoch_1"] > 0
        assert result["speedup_cpu_seconds"]["later_epochs"].keys() == {"median", "min", "max"}
    assert str(tmp_path) not in out.read_text() and "later epochs" in capsys.readouterr().out
    for options, said in (({"rows": 1000}, "has 60 training rows"), ({"epochs": 1}, "expected at least 2")):
        assert trunk_cache.main(command(tiny_xlmr, data, tmp_path / "none.json", **options)) == 1
        captured = capsys.readouterr().err
        assert said in captured and captured.count("\n") == 1 and not (tmp_path / "none.json").exists()


def test_languages_together_and_one_by_one_and_the_libraries_are_reported(
    tiny_xlmr: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import evaluation

    out = tmp_path / "evaluation.json"
    assert evaluation.main(command(tiny_xlmr, data, out, limit=6, repeats=2, tokens_per_batch=200)) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["languages"] == ["en", "fr"] and str(tmp_path) not in out.read_text()
    assert [(result["method"], result["way"]) for result in report["results"]] == [
        ("lora", "packed, together"), ("lora", "packed, together, merged"), ("lora", "packed, one by one"),
        ("lora", "peft, padded, one by one"), ("bottleneck", "packed, together"), ("bottleneck", "packed, one by one"),
        ("bottleneck", "adapters, padded, one by one"),
    ]  # fmt: skip
    for result in report["results"]:
        assert len(result["runs"]) == 2 and result["tokens_per_second"]["min"] > 0
        assert result["over_first"].keys() == {"seconds", "cpu_seconds"}
    assert report["results"][0]["over_first"]["seconds"] == {"median": 1, "min": 1, "max": 1}
    whole: ModuleType = evaluation
    monkeypatch.setattr(whole, "AGREEMENT", 1.1)
    capsys.readouterr()
    assert evaluation.main(command(tiny_xlmr, data, tmp_path / "none.json", limit=2, repeats=1)) == 1
    assert "nothing is compared" in capsys.readouterr().err and not (tmp_path / "none.json").exists()
    assert evaluation.main(command(tiny_xlmr, data, tmp_path / "none.json", task="udpos")) == 1
    assert "kind tag" in capsys.readouterr().err


def test_the_gpu_script_runs_on_a_cpu_at_tiny_size(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    options = ["--sizes", "tiny", "--lengths", "nli", "--rows", "8", "--batch-size", "4", "--seconds", "1",
               "--device", "cpu", "--out"]  # fmt: skip
    done = subprocess.run(
        [str(FOLDER / "gpu.sh"), *options, str(out)], capture_output=True, text=True,
        env=os.environ | {"PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [(group["size"], group["lengths"]) for group in report["groups"]] == [("tiny", "nli")]
    for group in report["groups"]:
        assert [result["variant"] for result in group["results"]] == [
            "packed lora", "peft lora", "packed bottleneck", "adapters bottleneck", "packed lora top third",
            "packed lora top third, trunk cached",
        ]  # fmt: skip
        for result in group["results"]:
            assert result["step_bytes"] > 0 and len(result["train"]) == len(result["evaluate"]) >= 2
            assert result["train_tokens_per_second"]["min"] > 0 and result["evaluate_over_vanilla"]["min"] > 0
            assert ("share_of_peak" in result) != result["top_third"]
    assert report["matmul_peak_flops"] > 0 and str(tmp_path) not in out.read_text()
    assert done.stdout.count("tokens/s") == 12
