"""Modules of a recipe that are trained together: those that can be, in one pass, with the results of each alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapterxl.artifacts import load
from adapterxl.cli import main
from adapterxl.recipes.execute import RecipeRun
from adapterxl.recipes.schema import load_recipe

RECIPE = """
base: {base}
device: cpu
together: {together}
defaults: {{max_steps: 4, batch_size: 8}}
modules:
  pos: {{task: mini_pos, limit: 40, rank: 2}}
  nli: {{task: mini_nli, limit: 40, method: bottleneck, settings: {{max_steps: 2}}}}
  ner: {{task: mini_ner, limit: 40, start: merge(pos), rank: 3}}
  other: {{task: mini_ner, limit: 40, method: none, engine: peft}}
  last: {{task: mini_pos, limit: 40, start: stack(nli), method: bottleneck}}
"""


def write(folder: Path, base: Path, together: bool) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(base=base, together=str(together).lower()), encoding="utf-8")
    return path


def test_modules_go_together_up_to_one_that_builds_on_them_or_has_another_engine(
    tiny_xlmr: Path, tmp_path: Path
) -> None:
    steps = RecipeRun(load_recipe(write(tmp_path, tiny_xlmr, True)), tmp_path / "out").steps
    groups = {step.result.name: [key.partition(".")[2] for key in step.together] for step in steps}
    assert groups == {"pos": ["pos", "nli"], "nli": ["pos", "nli"], "ner": [], "other": [], "last": []}
    alone = RecipeRun(load_recipe(write(tmp_path, tiny_xlmr, False)), tmp_path / "out").steps
    assert not any(step.together for step in alone)
    assert [a.digest == b.digest for a, b in zip(steps, alone, strict=True)] == [False, False, False, True, False]


def test_they_are_made_in_one_pass_and_a_lost_one_is_made_again(
    tiny_xlmr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path, tiny_xlmr, True), tmp_path / "out"
    assert main(["run", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count(", together with others") == 2 and "[5/5] saved:" in said
    made = {name: load(out / "seed1" / name) for name in ("pos", "nli", "ner", "last")}
    assert made["pos"].training["together"] == made["nli"].training["together"] == ["pos", "nli"]
    assert [made[name].training["steps"] for name in made] == [4, 2, 4, 4]
    assert "together" not in made["ner"].training and len(made["ner"].parts) == 2
    assert json.loads((out / "steps/seed1.pos.json").read_text())["request"]["together"] == ["pos", "nli"]

    assert main(["run", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("kept: ") == 5
    for file in (out / "seed1/nli").iterdir():
        file.unlink()
    (out / "seed1/nli").rmdir()
    assert main(["run", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("kept: ") == 4 and "[2/5] train nli" in said and "together with" not in said
