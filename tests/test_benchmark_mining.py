"""The benchmark of mining: both libraries get the same rows, and what they find is compared."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
TINY = ["--sources", "300", "--targets", "200", "--hidden", "16", "--repeats", "1", "--threads", "1"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import mining

    return mining


def test_each_library_runs_in_its_own_process_and_they_agree(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "results" / "mining.json"
    assert bench.main([*TINY, "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    ours = report["results"][0]
    assert ours["variant"] == "adapterxl" and ours["pairs"] >= 100  # all translations, and what else is near
    assert 0 < ours["search_seconds"] <= ours["seconds"] and ours["peak_bytes"] >= ours["input_peak_bytes"] > 0
    assert report["arguments"]["sources"] == 300 and report["machine"]["cpus"] and report["versions"]["torch"]
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    if importlib.util.find_spec("faiss") is None:
        assert report["not_run"] == ["faiss"] and report["agreement"] is None
        assert "pip install faiss-cpu" in capsys.readouterr().out
        return
    agreement = report["agreement"]
    assert {agreement[name] for name in agreement if name.startswith("same")} == {1.0}
    assert max(agreement[name] for name in agreement if name.startswith("largest")) < 1e-5


def test_agreement_is_the_share_of_what_both_found(bench: ModuleType, tmp_path: Path):
    def saved(name: str, rows: list[list[int]], pairs: list[list[int]]) -> Path:
        sides = {
            f"{side}_{what}": np.array(rows, dtype=kind)
            for side in ("forward", "backward") for what, kind in (("rows", int), ("cosines", float))
        }  # fmt: skip
        np.savez(tmp_path / name, allow_pickle=False, pairs=np.array(pairs), scores=np.ones(len(pairs)), **sides)
        return tmp_path / f"{name}.npz"

    found = bench.agreement(
        saved("a", [[0, 1], [2, 3]], [[0, 1], [1, 1]]), saved("b", [[1, 0], [2, 4]], [[0, 1], [2, 2]])
    )
    assert found["same_forward_neighbours"] == 0.75 and found["same_pairs"] == pytest.approx(1 / 3)
    assert found["largest_backward_cosine_difference"] == 1.0 and found["largest_score_difference"] == 0.0


def test_a_folder_as_out_is_refused(bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench.main([*TINY, "--out", str(tmp_path)]) == 1
    assert "is a folder; name a file" in capsys.readouterr().err
