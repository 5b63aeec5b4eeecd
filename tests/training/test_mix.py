"""A mix is one module with a head for each task: who gives the batches, what is kept, and which head answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import make_module, make_part, rows, scores

from adapterxl import Backbone, Bottleneck, LoRA, TaskModule, compose, evaluate, load, merge, mix
from adapterxl.artifacts import inspect, read_manifest
from adapterxl.artifacts.manifest import seal
from adapterxl.artifacts.strict_json import canonical
from adapterxl.cli import main
from adapterxl.engines import verify
from adapterxl.errors import ArtifactError, CompositionError, TaskError, UsageError
from adapterxl.report.lineage import lineage
from adapterxl.training import plan
from adapterxl.training.sampling import Mix, read_mix
from adapterxl.training.together import Together

Fit = Callable[..., TaskModule]
FOUR = mix("mnli", "udpos", "tydiqa", "xnli", sampling="uniform")


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("proportional", [0.1, 0.3, 0.6]),
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("temperature=1", [0.1, 0.3, 0.6]),
        ("temperature = 2", (np.sqrt([0.1, 0.3, 0.6]) / np.sqrt([0.1, 0.3, 0.6]).sum()).tolist()),
        ("temperature=1e9", [1 / 3, 1 / 3, 1 / 3]),
        ("capped=200", [100 / 500, 200 / 500, 200 / 500]),
        ("capped=1e9", [0.1, 0.3, 0.6]),
        ("weights = 2:1:1", [0.5, 0.25, 0.25]),
    ],
)
def test_each_task_is_drawn_as_often_as_its_sampling_says(sampling: str, expected: list[float]) -> None:
    mixed, sizes = mix("a", "b", "c", sampling=sampling), [100, 300, 600]
    assert mixed.shares(sizes) == pytest.approx(expected, abs=1e-6)
    draw = mixed.sampler(sizes, seed=1)
    drawn = [draw(number) for number in range(4000)]
    found = np.bincount(drawn, minlength=3) / 4000
    assert np.abs(found - expected).max() < 0.03  # four standard errors of a share
    other = mixed.sampler(sizes, seed=2)
    assert drawn[:50] == [draw(n) for n in range(50)] != [other(n) for n in range(50)]


@pytest.mark.parametrize(
    "sampling",
    [
        "proportionl",
        "temperature",
        "temperature=0",
        "temperature=x",
        "capped=-1",
        "uniform=2",
        "capped=inf",
        "weights",
        "weights=1",
        "weights=1:2:3",
        "weights=1:0",
        "weights=a:b",
        "weights=1:inf",
    ],
)
def test_a_sampling_that_is_none_is_refused(sampling: str) -> None:
    with pytest.raises(UsageError, match=f"sampling: found '{sampling}'"):
        mix("a", "b", sampling=sampling)


def test_a_mix_is_a_value_with_a_text() -> None:
    mixed = mix("squad", "mnli", sampling="temperature=2")
    assert str(mixed) == "mix(squad, mnli, sampling=temperature=2)" and read_mix(str(mixed)) == mixed
    assert read_mix(" mix( squad,'mnli' ) ") == mix("squad", "mnli") and mixed.name == "squad-mnli"
    assert read_mix("mix(squad, mnli)", "uniform").sampling == "uniform"
    for text in ("mix(squad", "mix(squad,,mnli)", "mix(squad)", "mix(squad, squad)", "mix()"):
        with pytest.raises(UsageError, match="mix"):
            read_mix(text)
    with pytest.raises(UsageError, match="leave out --sampling"):
        read_mix(str(mixed), "uniform")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, on: Backbone, data: Path) -> Path:
    from adapterxl import Settings, train

    out = tmp_path_factory.mktemp("mixed") / "m"
    settings = Settings(max_steps=24, batch_size=8, lr=0.01, log_every=4, accumulation=2)
    train(FOUR, on=on, method=LoRA(rank=2), settings=settings, data=data, out=out, progress=False)
    return out


def test_tasks_with_the_same_labels_share_a_head_and_all_are_kept(mixed: Path, on: Backbone) -> None:
    module, manifest = load(mixed), read_manifest(mixed)
    assert {task: (head.kind, len(head.labels)) for task, head in module.heads.items()} == {
        "mnli": ("classify", 3), "udpos": ("tag", 17), "tydiqa": ("span", 0), "xnli": ("classify", 3),
    }  # fmt: skip
    assert module.heads["mnli"] is module.heads["xnli"] is module.head and module.task == "mnli"
    assert module.parts[0].task == str(FOUR) and len(module.parts) == 1
    trained = module.training["parameters"]
    assert (
        trained
        == module.size()
        == module.parts[0].size()
        + sum(tensor.numel() for task in ("mnli", "udpos", "tydiqa") for tensor in module.heads[task].tensors.values())
    )
    assert list(manifest.heads) == list(module.heads) and manifest.heads["udpos"].file == "heads.safetensors"
    told = dict(inspect(mixed))
    assert told["head mnli"].endswith("(one for mnli, xnli)") and told["head tydiqa"] == "span: no labels"
    assert verify(mixed, on=on).passed  # vanilla peft loads the root, with the first task's head


def test_the_log_and_the_manifest_tell_how_many_batches_each_task_gave(mixed: Path) -> None:
    lines = [json.loads(line) for line in (mixed / "training_log.jsonl").read_text().splitlines()]
    for line in lines:
        assert sum(line["batches"].values()) == 2 * line["step"] and list(line["batches"]) == list(FOUR.tasks)
    told = load(mixed).training["mix"]
    assert told["sampling"] == "uniform" and {one["share"] for one in told["tasks"].values()} == {0.25}
    assert {task: one["batches"] for task, one in told["tasks"].items()} == lines[-1]["batches"]
    assert told["tasks"]["xnli"]["train_from"] == "mnli" and told["tasks"]["udpos"]["rows"] == 60
    draw = FOUR.sampler([1] * 4, seed=1)
    assert [*lines[-1]["batches"].values()] == np.bincount([draw(number) for number in range(48)], minlength=4).tolist()


@pytest.mark.parametrize("task", ["udpos", "xnli", "tydiqa"])
def test_the_head_of_the_task_answers_it(task: str, mixed: Path, on: Backbone, data: Path, tmp_path: Path) -> None:
    module = load(mixed)
    found = evaluate(mixed, on=on, task=task, data=data, progress=False, out=tmp_path / "s.json")
    alone = module.for_task(task)
    assert alone.heads == {} and alone.head is module.heads[task] and alone.kind == alone.head.kind
    alone.save(tmp_path / "alone")
    again = evaluate(tmp_path / "alone", on=on, task=task, data=data, progress=False)
    assert [r.value for r in found.records] == [r.value for r in again.records]
    assert found.module.digest == module.digest() and found.module.task == ("mnli" if task == "xnli" else task)
    assert lineage(found.module) is not None  # the folder is known again


def test_a_task_without_a_head_is_refused_and_told_what_is_there(mixed: Path, on: Backbone, data: Path) -> None:
    heads = r"has no head for panx; it has those of mnli \(classify\), tydiqa \(span\), udpos \(tag\), xnli"
    with pytest.raises(TaskError, match=heads):
        evaluate(mixed, on=on, task="panx", data=data, progress=False)
    with pytest.raises(TaskError, match="no head for xquad"):
        evaluate(mixed, on=on, task="xquad", data=data, progress=False)
    found = evaluate(mixed, on=on, task="xquad", data=data, train_from="tydiqa", progress=False)
    assert found.train_from == "tydiqa"
    assert evaluate(mixed, on=on, task="tatoeba", data=data, progress=False).task == "tatoeba"  # needs none


def test_compositions_take_all_heads_of_a_member_or_that_of_one_task(mixed: Path, on: Backbone, tmp_path: Path) -> None:
    other = make_module(on, "other", [make_part(LoRA(rank=2), "other", on, 3)])
    plain = compose(merge(mixed, other))
    assert plain.head is None and plain.heads == {} and any("classify, span, tag" in note for note in plain.notes)
    whole = compose(merge(mixed, other), head=str(mixed))
    assert list(whole.heads) == list(load(mixed).heads) and load(whole.save(tmp_path / "w").path).heads  # type: ignore[arg-type]
    one = compose(merge(mixed, other), head="udpos")
    assert one.kind == "tag" and one.task == "udpos" and one.heads == {}
    alone = compose(str(mixed), head="tydiqa").save(tmp_path / "qa")
    assert load(tmp_path / "qa").kind == "span" and alone.parts[0].digest() == load(mixed).parts[0].digest()
    with pytest.raises(CompositionError, match="No member 'panx'"):
        compose(merge(mixed, other), head="panx")


def test_the_dev_score_is_the_mean_over_the_tasks(fit: Fit) -> None:
    module = fit(mix("udpos", "mnli"), method=None)
    each = module.training["dev_scores"]
    assert each.keys() == {"udpos", "mnli"}
    assert module.training["dev_score"] == pytest.approx(sum(each.values()) / 2, abs=1e-6)


def test_a_head_that_no_batch_was_for_is_as_it_began(fit: Fit) -> None:
    given: dict[str, Any] = {"method": None, "settings": {"max_steps": 1, "weight_decay": 0.5}}
    first = FOUR.sampler([1] * 4, seed=1)(0)
    begun, task = fit(FOUR, **given), list(FOUR.tasks)[first]
    other = fit(FOUR, **given | {"settings": {"max_steps": 1, "weight_decay": 0.0, "lr": 0.5}})
    same = {name for name in begun.heads if begun.heads[name].digest() == other.heads[name].digest()}
    assert str(task) not in same and len(same) >= 2


def test_an_interrupted_mix_ends_bit_equal(fit: Fit, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "method": Bottleneck(reduction=8, dropout=0.1),
        "settings": {"max_steps": 9, "checkpoint_every": 4, "eval_every": 3, "patience": 2},
    }
    mixed, step = mix("udpos", "copa", "mnli", sampling="temperature=2"), Together._one_step
    whole = fit(mixed, **given, out=tmp_path / "whole")

    def cut(self: Together) -> None:
        if self.live[0].step == 5:
            raise KeyboardInterrupt
        step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Together, "_one_step", cut)
        fit(mixed, **given, out=tmp_path / "cut")
    again = fit(mixed, **given, out=tmp_path / "cut", resume=True)
    assert again.digest() == whole.digest() and again.training["mix"] == whole.training["mix"]
    logs = [(tmp_path / name / "training_log.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    told = [[(one["step"], one.get("batches"), one.get("dev_scores")) for one in map(json.loads, log)] for log in logs]
    assert told[0] == told[1] and any(one[1] for one in told[0]) and any(one[2] for one in told[0])


def test_a_mix_and_other_jobs_run_together(fit: Fit, on: Backbone) -> None:
    found: Any = fit([mix("udpos", "mnli"), "panx"])
    assert list(found) == ["udpos-mnli", "panx"] and list(found["udpos-mnli"].heads) == ["mnli", "udpos"]
    tokens = rows(on)
    assert scores(on, found["udpos-mnli"].for_task("mnli"), tokens).shape == (len(tokens), 3)


@pytest.mark.parametrize("engine", ["peft", "adapters"])
def test_vanilla_engines_train_a_mix_too(engine: str, fit: Fit) -> None:
    method = Bottleneck(reduction=8) if engine == "adapters" else LoRA(rank=2)
    module = fit(mix("udpos", "mnli"), engine=engine, method=method)
    assert list(module.heads) == ["mnli", "udpos"]


def test_a_plan_of_a_mix_has_the_steps_of_the_training(on: Backbone, data: Path, fit: Fit) -> None:
    from adapterxl import Settings

    chosen, mixed = Settings(epochs=1.5, tokens_per_batch=128), mix("udpos", "copa")
    told = dict(plan(mixed, on=on, method=LoRA(rank=2), settings=chosen, start=None, engine="packed", data=data,
                     train_from=None, train_languages=None, limit=None, progress=False).table())  # fmt: skip
    module = fit(
        mixed,
        method=LoRA(rank=2),
        settings={"epochs": 1.5, "tokens_per_batch": 128, "max_steps": None, "batch_size": None},
    )
    assert told["steps"].startswith(f"{module.training['steps']} of") and told["task"].startswith("mix(udpos, copa")
    assert told["trained weights"].endswith(f"{module.size() - module.parts[0].size():,} in the head")


@pytest.mark.parametrize(
    ("mixed", "options", "error", "said"),
    [
        (mix("udpos", "tatoeba"), {}, TaskError, "evaluated, not trained"),
        (mix("udpos", "mnli"), {"train_from": "panx"}, UsageError, "a mix has several"),
        (mix("udpos", "mnly"), {}, TaskError, "Did you mean 'mnli'"),
        ("mix(udpos", {}, UsageError, "cannot be read"),
    ],
)
def test_a_mix_that_cannot_be_trained_is_refused(
    mixed: Mix | str, options: dict[str, Any], error: type[Exception], said: str, fit: Fit, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        fit(mixed, **options, out=tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_heads_that_were_changed_are_refused(mixed: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "m"
    shutil.copytree(mixed, folder)
    path = folder / "adapterxl.json"
    told = json.loads(path.read_text())
    path.write_bytes(canonical(seal(told | {"heads": told["heads"] | {"xnli": told["heads"]["udpos"]}})))
    assert load(folder).digest() != load(mixed).digest()
    others = {task: told["heads"]["udpos"] for task in told["heads"]}
    path.write_bytes(canonical(seal(told | {"heads": others})))
    with pytest.raises(ArtifactError, match="is not one of the tasks' heads"):
        load(folder)
    path.write_bytes(canonical(seal(told | {"heads": {k: v for k, v in told["heads"].items() if k != "udpos"}})))
    with pytest.raises(ArtifactError, match="has no place in this module"):
        load(folder)


def test_the_command_line_trains_a_mix(on: Backbone, data: Path, tmp_path: Path, capsys: Any) -> None:
    given = ["--base", str(on.folder), "--data", str(data), "--device", "cpu", "--max-steps", "2", "--rank", "2"]
    out = tmp_path / "m"
    assert main(["train", "mix(udpos, mnli)", "--sampling", "temperature=2", *given, "--out", str(out)]) == 0
    assert load(out).training["mix"]["sampling"] == "temperature=2" and load(out).name == "udpos-mnli"
    assert main(["train", "udpos", "--sampling", "uniform", *given, "--out", str(tmp_path / "n")]) == 1
    assert "--sampling is of a mix" in capsys.readouterr().err
