"""The benchmark of compositions: both libraries get the same modules, and errors are of float64 references."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
TINY = ["--layers", "2", "--hidden", "32", "--ffn", "64", "--ranks", "2,3,4", "--rank", "4"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import merge_scale

    return merge_scale


def settings(**given: object) -> argparse.Namespace:
    sizes = {"layers": 2, "hidden": 32, "ffn": 64, "ranks": (2, 3, 4), "rank": 4, "seed": 1}
    return argparse.Namespace(**(sizes | given))


@pytest.mark.parametrize("operation", ["merge", "average", "svd", "ties", "dare", "prune"])
def test_ours_is_exact_to_float32(bench: ModuleType, operation: str):
    result = bench.measure(settings(), f"adapterxl {operation}")
    assert list(result["relative_error"]) == ["0.query", "1.ffn_up"]
    assert max(result["relative_error"].values()) < 1e-6
    assert result["seconds"] > 0 and result["peak_bytes"] >= result["input_peak_bytes"] > 0


@pytest.mark.parametrize("operation", ["cat", "svd", "ties_svd", "magnitude_prune_svd"])
def test_peft_gets_the_same_modules_and_its_dense_operations_are_right(bench: ModuleType, operation: str):
    assert max(bench.measure(settings(), f"peft {operation}")["relative_error"].values()) < 1e-5


def test_linear_of_peft_is_refused_for_mixed_ranks_and_far_off_for_equal_ones(bench: ModuleType):
    assert "same r value" in bench.measure(settings(), "peft linear")["refused"]
    assert min(bench.measure(settings(ranks=(4, 4)), "peft linear")["relative_error"].values()) > 0.3


def test_each_variant_runs_in_its_own_process_and_the_report_is_complete(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "results" / "merge.json"
    assert bench.main([*TINY, "--variants", "adapterxl average", "peft linear", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert [result["variant"] for result in report["results"]] == ["adapterxl average", "peft linear"]
    assert "seconds" in report["results"][0] and "refused" in report["results"][1]
    assert report["arguments"]["ranks"] == [2, 3, 4] and report["machine"]["cpus"] and report["versions"]["peft"]
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    assert "adapterxl average" in capsys.readouterr().out


def test_a_variant_that_takes_too_long_is_stopped_and_recorded(bench: ModuleType, tmp_path: Path):
    out = tmp_path / "merge.json"
    assert bench.main([*TINY, "--variants", "peft cat", "--timeout", "0.1", "--out", str(out)]) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["results"] == [{"variant": "peft cat", "timed_out": 0.1}]


def test_bad_input_gives_one_line_and_no_file(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench.main([*TINY, "--rank", "33", "--out", str(tmp_path / "x.json")]) == 1
    assert capsys.readouterr().err == "error: A rank is above the width 32 of the matrices.\n"
    assert not (tmp_path / "x.json").exists()
