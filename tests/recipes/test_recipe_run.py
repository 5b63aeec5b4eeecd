"""A recipe run from the shell on the real miniature: everything is made, kept, resumed and reported."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from adapterxl.cli import main
from adapterxl.data.index import hash_file

pytestmark = pytest.mark.shared

TASK = {
    "name": "mood", "kind": "classify", "labels": ["good", "bad"], "reader": "tsv", "header": True,
    "columns": {"text": "text", "label": "label"}, "train": {"en": ["rows.tsv"]}, "test": {"de": ["rows.tsv"]},
}  # fmt: skip
RECIPE = """
vars: {shared: .}
base: ${shared}/models/xlmr-mini
device: cpu
defaults: {max_steps: 2, batch_size: 2}
modules:
  first: {task: ./mood.yaml, rank: 2}
  second: {task: ./mood.yaml, rank: 2, start: merge(first)}
evaluate:
  - {module: [first, second], task: ./mood.yaml}
report: report.html
"""


@pytest.fixture
def recipe(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = "".join(f"sentence number {n}\t{'good' if n % 2 else 'bad'}\n" for n in range(6))
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + rows, encoding="utf-8")
    (tmp_path / "mood.yaml").write_text(json.dumps(TASK), encoding="utf-8")  # JSON is YAML
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    monkeypatch.setenv("ADAPTERXL_SHARED", str(shared))
    return path


def run(recipe: Path, *more: str) -> int:
    return main(["run", str(recipe), "--out", str(recipe.parent / "out"), *more])


def test_a_recipe_makes_modules_scores_and_report_and_then_keeps_them(recipe, capsys):
    assert run(recipe) == 0
    out = recipe.parent / "out"
    made = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    assert {"seed1/first/adapterxl.json", "seed1/second/adapterxl.json", "report.html"} <= made
    assert {"seed1/scores/first.mood.json", "seed1/scores/second.mood.predictions.jsonl"} <= made
    assert not [name for name in made if name.endswith(".run")]
    scores = json.loads((out / "seed1/scores/second.mood.json").read_text(encoding="utf-8"))
    assert scores["module"]["name"] == "second" and "first" in scores["module"]["composition"]
    assert "merge(first)" in capsys.readouterr().out

    times = {path: path.stat().st_mtime_ns for path in (out / "seed1").rglob("*")}
    assert run(recipe) == 0
    assert capsys.readouterr().out.count("kept: ") == 4
    assert times == {path: path.stat().st_mtime_ns for path in (out / "seed1").rglob("*")}


def test_a_lost_result_is_made_again_and_the_others_are_kept(recipe, capsys):
    assert run(recipe) == 0
    (recipe.parent / "out/seed1/scores/first.mood.json").unlink()
    capsys.readouterr()
    assert run(recipe) == 0
    assert capsys.readouterr().out.count("kept: ") == 3


def test_a_changed_recipe_replaces_nothing_unasked(recipe, capsys):
    assert run(recipe) == 0
    manifest = recipe.parent / "out/seed1/first/adapterxl.json"
    before = manifest.read_bytes()
    capsys.readouterr()
    assert run(recipe, "--set", "modules.first.rank=3") == 1
    error = capsys.readouterr().err
    assert "changed: rank" in error and "--overwrite" in error
    assert manifest.read_bytes() == before
    assert run(recipe, "--set", "modules.first.rank=3", "--overwrite") == 0
    assert manifest.read_bytes() != before


def test_a_dry_run_says_the_plan_and_writes_nothing(recipe, capsys):
    assert run(recipe, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "[1/4] train first: mood, lora on nothing, seed 1" in out
    for label in (
        "rows: 6",
        "steps: 2",
        "trained weights: ",
        "module on disk: ",
        "time: ",
        "memory: ",
    ):
        assert label in out
    assert "merge(first) (not there yet, so not counted)" in out
    assert not (recipe.parent / "out").exists()


def test_a_wrong_setting_stops_the_recipe_before_its_first_step(recipe, capsys):
    assert run(recipe, "--set", "modules.second.settings.lr=-1") == 1
    assert "lr" in capsys.readouterr().err
    assert not (recipe.parent / "out").exists()


def test_results_of_other_rows_are_not_kept_in_silence(recipe, capsys):
    assert run(recipe) == 0
    rows = recipe.parent / "rows.tsv"
    rows.write_text(rows.read_text(encoding="utf-8").replace("sentence", "phrase"), encoding="utf-8")
    hash_file.cache_clear()  # a new process has read nothing yet
    assert run(recipe) == 1
    assert "changed: content" in capsys.readouterr().err


def test_a_signal_in_a_training_stops_the_recipe_and_the_next_run_goes_on_there(recipe, capsys, monkeypatch):
    from adapterxl.training.loop import Loop

    update = Loop.update

    def signalled(self):
        if self.name == "second" and self.step == 0:
            signal.raise_signal(signal.SIGTERM)
        update(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "update", signalled)
        assert run(recipe) == 143
    out = recipe.parent / "out/seed1"
    assert (out / "first").is_dir() and not (out / "second").exists()
    assert {path.name for path in (out / "second.run/checkpoints").iterdir()} == {"step-2"}
    assert "note: Stopped by SIGTERM after step 2 of 2" in capsys.readouterr().err
    assert run(recipe) == 0
    assert "kept" in capsys.readouterr().out and not (out / "second.run").exists()


def test_a_module_whose_record_a_kill_prevented_is_kept(recipe, capsys):
    assert run(recipe) == 0
    record = next((recipe.parent / "out/steps").glob("seed1.first*"))
    times = (recipe.parent / "out/seed1/first/adapterxl.json").stat().st_mtime_ns
    record.write_text(record.read_text().replace('"done": true', '"done": false'))
    assert run(recipe) == 0
    assert "is finished already, and is kept" in capsys.readouterr().err
    assert (recipe.parent / "out/seed1/first/adapterxl.json").stat().st_mtime_ns == times
