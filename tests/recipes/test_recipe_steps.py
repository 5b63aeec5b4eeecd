"""A recipe is resumed step by step: done ones are kept, changed ones are never replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import make_module, make_part

from adapterxl.backbone import Backbone
from adapterxl.errors import ArtifactError, UsageError
from adapterxl.modules import LoRA, LoRAPart
from adapterxl.operators import compose
from adapterxl.recipes.execute import resolve
from adapterxl.recipes.schema import Recipe
from adapterxl.recipes.steps import Step, unroll


def recipe(**changes):
    content = {
        "base": "base",
        "seeds": [1, 2],
        "defaults": {"epochs": 1},
        "modules": {"nli": {"task": "mnli", "limit": 10}, "pos": {"task": "udpos", "start": "merge(nli)"}},
        "evaluate": [{"module": ["none", "pos"], "task": "udpos"}],
    }
    return Recipe.model_validate(content | changes)


def by_key(found: list[Step]) -> dict[str, Step]:
    return {step.key: step for step in found}


def finish(step: Step) -> None:
    step.result.parent.mkdir(parents=True, exist_ok=True)
    step.result.write_text("result")
    step.mark(done=True)


def test_steps_come_in_order_and_the_plain_backbone_is_scored_once(tmp_path):
    keys = [step.key for step in unroll(recipe(), tmp_path)]
    assert keys == [
        "seed1.nli", "seed1.pos", "seed1.scores.none.udpos", "seed1.scores.pos.udpos",
        "seed2.nli", "seed2.pos", "seed2.scores.pos.udpos",
    ]  # fmt: skip


def test_a_finished_step_is_kept(tmp_path):
    for step in unroll(recipe(), tmp_path):
        assert not step.is_done(overwrite=False)
        finish(step)
    assert all(step.is_done(overwrite=False) for step in unroll(recipe(), tmp_path))


def test_a_result_without_a_record_is_not_taken_for_a_finished_step(tmp_path):
    step = unroll(recipe(), tmp_path)[0]
    step.result.mkdir(parents=True)
    with pytest.raises(ArtifactError, match="no finished step of this recipe made it.*--overwrite"):
        step.is_done(overwrite=False)
    assert not step.is_done(overwrite=True)


def test_a_step_is_built_on_its_expression_with_all_its_options(tmp_path, tiny_xlmr):
    on = Backbone(tiny_xlmr, device="cpu")
    text = "svd(average(nli, qa, weights=[0.75, 0.5]), rank=3)"
    content = {"nli": {"task": "mnli"}, "qa": {"task": "tydiqa"}, "pos": {"task": "udpos", "start": text}}
    steps = by_key(unroll(recipe(modules=content, seeds=[1]), tmp_path))
    for seed, name in enumerate(("nli", "qa")):
        make_module(on, name, [make_part(LoRA(rank=2), name, on, seed)]).save(tmp_path / "seed1" / name)
    built_on = resolve(steps["seed1.pos"])
    assert str(built_on) == text
    (part,) = compose(built_on).parts
    assert isinstance(part, LoRAPart) and {part.factors(*key)[0].shape[0] for key in part.keys} == {3}


def test_two_heads_of_one_composition_are_scored_apart(tmp_path):
    scored = [{"module": "merge(nli, pos)", "task": "udpos", "head": head} for head in ("pos", "nli")]
    keys = [step.key for step in unroll(recipe(seeds=[1], evaluate=scored), tmp_path)]
    assert keys[2:] == [f"seed1.scores.merge-nli-pos.udpos.head-{head}" for head in ("pos", "nli")]


def test_a_record_without_its_result_is_run_again(tmp_path):
    step = unroll(recipe(), tmp_path)[0]
    finish(step)
    step.result.unlink()
    assert not step.is_done(overwrite=False)


def test_another_request_is_refused_and_the_change_is_named(tmp_path):
    for step in unroll(recipe(), tmp_path):
        finish(step)
    changed = recipe(modules={"nli": {"task": "mnli", "limit": 11}, "pos": {"task": "udpos", "start": "merge(nli)"}})
    steps = by_key(unroll(changed, tmp_path))
    with pytest.raises(ArtifactError, match=r"another request \(changed: limit\).*--overwrite"):
        steps["seed1.nli"].is_done(overwrite=False)
    assert not steps["seed1.nli"].is_done(overwrite=True)
    # What is built on it changes with it, all the way to the scores.
    for key in ("seed1.pos", "seed1.scores.pos.udpos"):
        with pytest.raises(ArtifactError, match="changed: built_on"):
            steps[key].is_done(overwrite=False)
    assert steps["seed1.scores.none.udpos"].is_done(overwrite=False)


def test_a_default_setting_is_part_of_every_request(tmp_path):
    before, after = unroll(recipe(), tmp_path), unroll(recipe(defaults={"epochs": 2}), tmp_path)
    changed = [a.key for a, b in zip(before, after, strict=True) if a.digest != b.digest]
    assert changed == [step.key for step in before if "none" not in step.key]


def test_a_damaged_record_is_named(tmp_path):
    step = unroll(recipe(), tmp_path)[0]
    finish(step)
    step.record.write_text("{")
    with pytest.raises(ArtifactError, match="seed1.nli.json: not a record"):
        step.is_done(overwrite=False)


def test_two_steps_never_write_one_file(tmp_path):
    twice = [{"module": "pos", "task": "udpos"}, {"module": "pos", "task": "udpos", "limit": 5}]
    with pytest.raises(UsageError, match="two steps would write"):
        unroll(recipe(evaluate=twice), tmp_path)
    layers = [{"module": "pos", "task": "tatoeba", "layer": layer} for layer in (1, 2)]
    assert len({step.result for step in unroll(recipe(evaluate=layers), tmp_path)}) == 8


def test_a_foreign_folder_counts_by_its_manifest(tmp_path):
    folder = tmp_path / "foreign"
    modules = {"pos": {"task": "udpos", "start": f'merge("{folder}")'}}
    with pytest.raises(ArtifactError, match="is not a module folder"):
        unroll(recipe(modules=modules), tmp_path)
    folder.mkdir()
    (folder / "adapterxl.json").write_text("{}")
    one = unroll(recipe(modules=modules), tmp_path)[0].digest
    (folder / "adapterxl.json").write_text('{"other": 1}')
    assert unroll(recipe(modules=modules), tmp_path)[0].digest != one


def test_the_record_says_what_was_asked(tmp_path):
    step = unroll(recipe(), tmp_path)[0]
    finish(step)
    recorded = json.loads(Path(step.record).read_text())
    assert recorded["step"] == "seed1.nli"
    assert recorded["request"]["task"] == "mnli" and recorded["request"]["settings"] == {"epochs": 1}


@pytest.mark.parametrize(
    ("own", "expected"),
    [({"max_steps": 5}, {"max_steps": 5, "batch_size": 32}), ({"epochs": 2}, {"epochs": 2, "batch_size": 32}),
     ({"tokens_per_batch": 64}, {"epochs": 1, "tokens_per_batch": 64})],
)  # fmt: skip
def test_a_modules_own_steps_take_the_place_of_the_epochs_of_all(own, expected, tmp_path):
    modules = {"nli": {"task": "mnli", "settings": own}}
    found = unroll(recipe(modules=modules, evaluate=[], defaults={"epochs": 1, "batch_size": 32}), tmp_path)
    assert found[0].request["settings"] == expected


def test_a_mix_is_a_task_like_others_and_known_by_the_rows_of_all_its_tasks(tmp_path):
    mixed = {"both": {"task": "mix(mini_qa, mini_xnli, sampling=uniform)"}}
    step = unroll(recipe(modules=mixed, evaluate=[{"module": ["both"], "task": "mini_qa"}]), tmp_path)[0]
    assert {"mini_qa", "mini_xnli"} <= set(step.request["content"]) and "mix(mini_qa" in step.title
    with pytest.raises(UsageError, match="sampling: found 'even'"):
        unroll(recipe(modules={"both": {"task": "mix(mini_qa, mini_nli, sampling=even)"}}, evaluate=[]), tmp_path)
