"""A recipe is checked whole before anything runs; what is wrong is one line with file and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterxl.errors import AdapterXLError
from adapterxl.miniature import DEMO, DEMO_QUICK
from adapterxl.miniature.data import SOURCES
from adapterxl.recipes.schema import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

GOOD = """
vars: {here: ./models}
base: ${here}/mini
data: ../data
seeds: [1, 2]
defaults: {epochs: 1}
modules:
  nli: {task: mnli, rank: 4, limit: 100}
  pos: {task: udpos, start: merge(nli)}
evaluate:
  - {module: [pos, "merge(nli, pos)", none], task: udpos, languages: [de]}
report: report.html
"""
CHANGED = {
    "unknown field": ("report: report.html", "raport: x.html", "Did you mean 'report'?"),
    "unknown field of a module": ("rank: 4", "runk: 4", "Did you mean 'rank'?"),
    "rank is a word": ("rank: 4", "rank: four", "modules.nli.rank"),
    "unknown method": ("rank: 4", "method: lara", "Did you mean 'lora'?"),
    "rank of a bottleneck": ("rank: 4", "method: bottleneck, rank: 4", "rank: belongs to method lora"),
    "unknown engine": ("rank: 4", "engine: vanilla", "modules.nli.engine"),
    "no task": ("task: mnli, ", "", "modules.nli.task"),
    "unknown module": ("start: merge(nli)", "start: merge(nil)", "no module 'nil' above it. Did you mean 'nli'?"),
    "itself": ("start: merge(nli)", "start: merge(pos)", "no module 'pos' above it"),
    "unknown operator": ("start: merge(nli)", "start: marge(nli)", "Did you mean 'merge'?"),
    "open bracket": ("start: merge(nli)", "start: merge(nli", "modules.pos.start"),
    "unknown scored module": ("[pos,", "[poss,", "evaluate[0].module: no module 'poss'. Did you mean 'pos'?"),
    "seed twice": ("[1, 2]", "[1, 1]", "a seed stands twice"),
    "no seeds": ("[1, 2]", "[]", "seeds"),
    "an unknown perturbation": ("[de]}", "[de], perturb: nose=1}", "evaluate[0].perturb: "),
    "seed in settings": ("{epochs: 1}", "{seed: 1}", "field 'seeds'"),
    "unknown variable": ("${here}/mini", "${hear}/mini", "Did you mean 'here'?"),
    "a name that is a path": ("  nli:", "  ../nli:", "modules.../nli"),
    "a lock of own files": ("data: ../data", "data: ../data\nlock: ./lock.json", "lock: "),
    "a name that is taken": ("  nli:", "  none:", "modules.none"),
    "a report elsewhere": ("report: report.html", "report: ../report.html", "report"),
    "a limit of nothing": ("limit: 100", "limit: 0", "modules.nli.limit"),
    "not YAML": ("seeds: [1, 2]", "seeds: [1, 2", "recipe.yaml:"),
    "a key twice": ("seeds: [1, 2]", "seeds: [1]\nseeds: [2]", "twice"),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_recipe_is_read_with_paths_relative_to_its_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("ADAPTERXL_HERE", raising=False)
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.base == str(tmp_path / "models" / "mini")
    assert recipe.data == str(tmp_path.parent / "data")
    assert list(recipe.modules) == ["nli", "pos"]
    assert recipe.modules["nli"].method_options()["rank"] == 4


@pytest.mark.parametrize("case", CHANGED)
def test_what_is_wrong_is_said_in_one_line_with_the_file(case, tmp_path):
    old, new, said = CHANGED[case]
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(AdapterXLError) as caught:
        load_recipe(path)
    assert said in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "base: x\n"])
def test_a_file_that_is_no_recipe_is_refused(text, tmp_path):
    with pytest.raises(AdapterXLError, match="recipe.yaml"):
        load_recipe(write(tmp_path, text))


def test_a_hub_id_is_left_as_it_is(tmp_path):
    text = GOOD.replace("${here}/mini", "FacebookAI/xlm-roberta-base")
    assert load_recipe(write(tmp_path, text)).base == "FacebookAI/xlm-roberta-base"


def test_variables_come_from_set_then_the_environment_then_the_file(tmp_path, monkeypatch):
    path = write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPTERXL_HERE", "elsewhere")
    assert load_recipe(path).base == str(tmp_path / "elsewhere" / "mini")
    assert load_recipe(path, ["here=./third"]).base == str(tmp_path / "third" / "mini")


def test_no_other_variable_of_the_shell_is_put_in(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    with pytest.raises(AdapterXLError, match="no variable 'SECRET'"):
        load_recipe(write(tmp_path, GOOD.replace("${here}", "${SECRET}")))


def test_set_changes_a_field_by_its_dotted_name(tmp_path):
    changes = ["defaults.epochs=2", "modules.nli.limit=7", "seeds=[5]", "modules.pos.settings.lr=0.1"]
    recipe = load_recipe(write(tmp_path, GOOD), changes)
    assert recipe.defaults == {"epochs": 2} and recipe.seeds == (5,)
    assert recipe.modules["nli"].limit == 7 and recipe.modules["pos"].settings == {"lr": 0.1}


def test_a_star_stands_for_every_module_or_evaluation(tmp_path):
    changes = [
        "modules.*.limit=7",
        "evaluate.*.limit=3",
        "modules.*.settings={epochs: 2}",
        "modules.pos.settings.lr=0.1",
    ]
    recipe = load_recipe(write(tmp_path, GOOD), changes)
    assert [module.limit for module in recipe.modules.values()] == [7, 7] and recipe.evaluate[0].limit == 3
    assert recipe.modules["nli"].settings == {"epochs": 2}, "a change of one module is none of the other"
    assert recipe.modules["pos"].settings == {"epochs": 2, "lr": 0.1}


def test_a_size_is_a_block_of_fields_that_set_still_overrides(tmp_path):
    sizes = "sizes: {small: {base: '${here}/tiny', seeds: [9], modules.*.limit: 5, modules.pos.limit: 6}}\n"
    path = write(tmp_path, GOOD + sizes)
    assert load_recipe(path).seeds == (1, 2)
    small = load_recipe(path, ["modules.pos.limit=8", "here=./there"], "small")
    assert small.seeds == (9,) and [module.limit for module in small.modules.values()] == [5, 8]
    assert small.base == str(Path.cwd() / "there" / "tiny")
    with pytest.raises(AdapterXLError, match=r"--size smal: .*it has: small\. Did you mean 'small'\?"):
        load_recipe(path, size="smal")
    with pytest.raises(AdapterXLError, match=r"--size small: .*it has: none"):
        load_recipe(write(tmp_path, GOOD), size="small")
    with pytest.raises(AdapterXLError, match="has no place 'modules.nil.limit'"):
        load_recipe(write(tmp_path, GOOD + "sizes: {small: {modules.nil.limit: 5}}\n"), size="small")


@pytest.mark.parametrize("change", ["epochs", "sheeds=[1]", "modules.nil.limit=7", "modules.nli.limit=[", "=3"])
def test_a_change_without_a_place_is_refused(change, tmp_path):
    with pytest.raises(AdapterXLError, match="--set"):
        load_recipe(write(tmp_path, GOOD), [change])


@pytest.mark.parametrize("name", ["nli_ner_to_pos", "peft_engine", "adapters_engine", "story"])
def test_the_shipped_recipes_are_sound(name, monkeypatch, tmp_path):
    from adapterxl.recipes.execute import RecipeRun

    monkeypatch.setenv("ADAPTERXL_SHARED", str(tmp_path))
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.base == str(tmp_path / "models" / "xlmr-mini")
    assert RecipeRun(recipe, tmp_path / "out").steps


@pytest.mark.parametrize("path", [DEMO, DEMO_QUICK, RECIPES / "miniature_effect.yaml"], ids=lambda path: path.stem)
def test_the_recipes_of_the_miniature_need_nothing_from_outside(path, tmp_path):
    from adapterxl.recipes.execute import RecipeRun

    recipe = load_recipe(path)
    assert recipe.base is None and recipe.data is None
    assert {step.spec.task for step in RecipeRun(recipe, tmp_path).steps} <= set(SOURCES)


def test_the_python_recipe_is_short_enough_to_be_read():
    text = (RECIPES / "nli_ner_to_pos.py").read_text(encoding="utf-8")
    compile(text, "nli_ner_to_pos.py", "exec")
    assert len(text.splitlines()) <= 60
