"""`adapterxl evaluate` on retrieval tasks and on perturbed copies, and the same in a recipe."""

from __future__ import annotations

import pytest
import yaml
from search_data import write_search_data

from adapterxl.cli import main
from adapterxl.evaluation.scores import Scores
from adapterxl.recipes.schema import load_recipe
from adapterxl.recipes.steps import unroll


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path


def test_the_layer_is_chosen_and_a_perturbed_copy_scored_beside(work, tiny_xlmr, capsys):
    data = write_search_data(work / "data")
    asked = ["evaluate", "none", "--task", "xquad_passages", "--base", str(tiny_xlmr), "--data", str(data)]
    more = ["--languages", "de,en", "--sweep-layers", "zh", "--pooling", "cls", "--perturb", "characters=0.3",
            "--device", "cpu", "--out", "s.json"]  # fmt: skip
    assert main([*asked, *more]) == 0
    told = capsys.readouterr()
    assert "chosen on zh (test)" in told.err and "saved: s.json and s.perturbed.json" in told.out
    assert "input" in told.out and "gain of the mean" in told.out
    clean, noisy = Scores.load(work / "s.json"), Scores.load(work / "s.perturbed.json")
    assert noisy.options == clean.options | {"perturbation": "characters=0.3"}
    assert clean.options["pooling"] == "cls" and clean.options["layer_chosen_on"] == "zh (test)"
    assert (work / "s.perturbed.predictions.jsonl").is_file()


def test_several_tasks_have_their_perturbed_copies_in_the_same_folder(work, tiny_xlmr):
    data = write_search_data(work / "data")
    asked = ["evaluate", "none", "--task", "bucc,mewslix", "--base", str(tiny_xlmr), "--data", str(data)]
    assert main([*asked, "--perturb", "casing=upper", "--device", "cpu", "--out", "both"]) == 0
    names = sorted(path.name for path in (work / "both").glob("*.json"))
    assert names == ["bucc.json", "bucc.perturbed.json", "mewslix.json", "mewslix.perturbed.json"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--perturb", "casin"], "perturb: found 'casin' in 'casin', expected characters or casing, each once"),
        (["--perturb", "characters=2"], "noise: found 2.0, expected a share of letters from 0 to 1"),
        (["--perturb", "characters=x"], "perturb: characters: found 'x', expected a share such as 0.1"),
        (["--perturb", "casing=mixed"], "casing: found 'mixed', expected lower or upper"),
        (["--pooling", "max"], "--pooling: 'max' is not one of mean, cls"),
        (["--sweep-layers", "de,,fr"], "--sweep-layers: 'de,,fr' has an empty name"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_in_one_line_before_anything_is_loaded(work, capsys, more, said):
    assert main(["evaluate", "none", "--task", "tatoeba", "--base", "nowhere", *more]) == 1
    assert capsys.readouterr().err.startswith(f"error: {said}")


def recipe(work, **step):
    content = {"modules": {"nli": {"task": "mini_nli"}}, "evaluate": [{"task": "mini_bitext", "module": "nli", **step}]}
    path = work / "r.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_recipe_says_the_same_of_an_evaluation(work):
    step = load_recipe(recipe(work, sweep_layers=["de"], pooling="cls", perturb="casing")).evaluate[0]
    assert (step.sweep_layers, step.pooling, step.perturb) == (("de",), "cls", "casing=lower")
    names = [step.result.name for step in unroll(load_recipe(recipe(work, perturb="casing")), work)]
    assert names[-1] == "nli.mini_bitext.casing-lower.json"
    with pytest.raises(Exception, match=r"evaluate\[0\]\.perturb: .*found 'nose' in 'nose', expected characters or"):
        load_recipe(recipe(work, perturb="nose"))
