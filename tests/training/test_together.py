"""Trainings that run together give what each gives alone, end when they end, and go on after an interruption."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import norm_distance
from torch import Tensor

from adapterxl import Bottleneck, DoRA, LoRA, Settings, TaskModule, fuse, load, merge, stack, train
from adapterxl.backbone import Backbone
from adapterxl.errors import TrainingError, UsageError
from adapterxl.ragged import join, pack
from adapterxl.training import loop as loop_module
from adapterxl.training.together import Together
from adapterxl.training.train import plan

Train = Callable[..., Any]
Jobs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def exact(still: Path) -> Backbone:
    """A backbone in float64 without dropout."""
    return Backbone(still, dtype="fp64", device="cpu")


@pytest.fixture(scope="module")
def run(exact: Backbone, data: Path) -> Train:
    """Train with the packed engine; keywords as of `train`."""

    def of(task: Any, **options: Any) -> Any:
        return train(task, **{"on": exact, "data": data, "progress": False} | options)

    return of


@pytest.fixture(scope="module")
def below(run: Train) -> dict[str, TaskModule]:
    """Modules to train on top of."""
    short = Settings(max_steps=4, batch_size=8, lr=0.05)
    return {
        "lora": run("mnli", method=LoRA(rank=2), settings=short),
        "other": run("udpos", method=LoRA(rank=3, sites=("query", "ffn_down")), settings=short),
        "seq_bn": run("panx", method=Bottleneck(reduction=8), settings=short),
    }


def tensors(module: TaskModule) -> Iterator[tuple[str, Tensor]]:
    for index, part in enumerate(module.parts):
        yield from ((f"{index}.{name}", tensor) for name, tensor in part.tensors().items())
    assert module.head is not None
    yield from ((f"head.{name}", tensor) for name, tensor in module.head.tensors.items())


def table(below: dict[str, TaskModule], steps: int) -> Jobs:
    """Jobs of all kinds: task, method, starting point, batches, length, schedule, early stop."""

    def settings(**values: Any) -> Settings:
        return Settings(**{"max_steps": steps, "batch_size": 8, "lr": 0.01} | values)

    return {
        "classify-lora": {"task": "mnli", "method": LoRA(rank=2), "settings": settings()},
        "tag-dora": {"task": "udpos", "method": DoRA(rank=3), "settings": settings(batch_size=5, accumulation=2)},
        "span-seq-bn": {
            "task": "tydiqa", "method": Bottleneck(reduction=8), "settings": settings(max_steps=steps - 5, lr=0.03),
        },
        "choice-lora": {
            "task": "copa", "method": LoRA(rank=4, alpha=2, sites=("value", "ffn_up"), layers=(1, 2)),
            "settings": settings(warmup=0.0, weight_decay=0.1, seed=3),
        },
        "tag-head": {"task": "panx", "method": None, "settings": settings(batch_size=None, tokens_per_batch=64)},
        "merged": {
            "task": "udpos", "method": LoRA(rank=2), "start": merge(below["lora"], below["other"]),
            "settings": settings(accumulation=3, max_grad_norm=0.1),
        },
        "stacked": {
            "task": "mnli", "method": Bottleneck(variant="par_bn"), "start": stack(below["seq_bn"], below["lora"]),
            "limit": 20, "settings": settings(epochs=4, max_steps=None),
        },
        "fused": {"task": "panx", "method": None, "start": fuse(below["lora"], below["other"]), "settings": settings()},
        "patient": {"task": "udpos", "method": LoRA(rank=2), "settings": settings(eval_every=3, patience=2, lr=0.3)},
    }  # fmt: skip


@pytest.mark.parametrize("steps", [14, pytest.param(50, marks=pytest.mark.slow)])
def test_jobs_together_give_what_each_gives_alone(steps: int, run: Train, below: dict[str, TaskModule]) -> None:
    jobs = table(below, steps)
    together = run(jobs)
    assert list(together) == list(jobs)
    worst: dict[str, float] = {}
    for name, own in jobs.items():
        alone = run(own["task"], name=name, **{key: value for key, value in own.items() if key != "task"})
        for key in ("steps", "tokens", "stopped_early", "dev_score", "rows"):
            assert together[name].training[key] == alone.training[key], (name, key)
        for (label, found), (_, expected) in zip(tensors(together[name]), tensors(alone), strict=True):
            worst[name, label] = norm_distance(found, expected)
    assert max(worst.values()) <= 1e-8, max(worst.items(), key=lambda item: item[1])
    print(*(f"{name}: {max(v for (job, _), v in worst.items() if job == name):.0e}" for name in jobs), sep=", ")
    assert together["patient"].training["stopped_early"] and together["patient"].training["steps"] < steps
    assert together["stacked"].training["steps"] == 12 and together["span-seq-bn"].training["steps"] == steps - 5
    assert together["merged"].training["together"] == list(jobs)


def test_a_plan_of_several_is_that_of_each_with_the_backbone_counted_once(exact: Backbone, data: Path) -> None:
    given: dict[str, Any] = {"on": exact, "data": data, "method": LoRA(rank=2), "settings": Settings(batch_size=8)}
    each = {task: plan(task, **given) for task in ("udpos", "mnli")}
    joint = plan(["udpos", "mnli"], **given)
    assert joint.table()[:-1] == [line for task, one in each.items() for line in (("module", task), *one.table())]
    matrices = each["mnli"].cost.matrices
    assert joint.cost.matrices == matrices > 0
    assert sum(one.cost.total for one in each.values()) - joint.cost.total >= matrices
    one_by_one = plan(["udpos", "mnli"], engine="peft", **given)
    assert one_by_one.cost == max((one.cost for one in each.values()), key=lambda cost: cost.total)
    with pytest.raises(UsageError, match="memory plans for one training"):
        plan(["udpos", "mnli"], **given | {"settings": Settings(memory="1GB")})


def test_joined_batches_keep_their_rows_and_tokens_in_order() -> None:
    first, second = pack([[1, 2, 3], [4], [5, 6]]), pack([[7, 8], [9]])
    both = join([first, second])
    assert both.group_rows == (3, 2) and both.group_tokens == (6, 3)
    assert both.lengths == (1, 2, 3, 1, 2) and both.order == (1, 2, 0, 4, 3)
    assert both.input_ids.tolist() == [*first.input_ids.tolist(), *second.input_ids.tolist()]
    again = pack([[1, 2, 3], [4], [5, 6], [7, 8], [9]], groups=[0, 0, 0, 1, 1])
    assert (again.lengths, again.order, again.group_rows) == (both.lengths, both.order, both.group_rows)
    assert torch.equal(again.input_ids, both.input_ids) and torch.equal(again.positions, both.positions)


NOISY: Jobs = {
    "udpos": {"settings": Settings(max_steps=9, batch_size=8, lr=0.01, accumulation=2, checkpoint_every=4)},
    "mnli": {"settings": Settings(max_steps=5, batch_size=8, lr=0.01, checkpoint_every=3)},
    "ner": {"task": "panx", "settings": Settings(max_steps=40, batch_size=8, lr=0.3, eval_every=2, patience=2)},
}


@pytest.mark.parametrize("at", [2, 6, 9])
def test_an_interrupted_joint_run_ends_bit_equal_dropout_included(
    at: int, run: Train, on: Backbone, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"on": on, "method": LoRA(rank=2, dropout=0.2)}
    whole = run(NOISY, **given, out=tmp_path / "whole")
    step, calls = Together._one_step, []

    def cut(self: Together) -> None:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Together, "_one_step", cut)
        run(NOISY, **given, out=tmp_path / "cut")
    done = {name for name in NOISY if (tmp_path / "cut" / name).is_dir()}
    assert done == {name for name, module in whole.items() if module.training["steps"] < at}
    again = run(NOISY, **given, out=tmp_path / "cut", resume=True)
    assert {name: module.digest() for name, module in again.items()} == {n: m.digest() for n, m in whole.items()}
    for name in NOISY:
        lines = [
            [(line["step"], line.get("loss"), line.get("dev_score")) for line in map(json.loads, text.splitlines())]
            for text in ((tmp_path / out / name / "training_log.jsonl").read_text() for out in ("whole", "cut"))
        ]
        assert lines[0] == lines[1], name
    assert not list((tmp_path / "cut").glob("*.run"))


def test_a_kill_between_the_states_of_two_jobs_takes_both_back_to_the_same_step(
    run: Train, on: Backbone, tmp_path: Path
) -> None:
    given: dict[str, Any] = {
        "on": on, "method": LoRA(rank=2, dropout=0.2), "settings": Settings(max_steps=9, lr=0.01, checkpoint_every=3),
    }  # fmt: skip
    whole = run(["udpos", "mnli"], **given)
    write, calls = loop_module.write_checkpoint, []

    def killed(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 4:  # the second job's second
            raise OSError("killed")
        write(*arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr(loop_module, "write_checkpoint", killed)
        run(["udpos", "mnli"], **given, out=tmp_path)
    kept = {path.parent.parent.name: path.name for path in tmp_path.glob("*.run/checkpoints/step-3")}
    assert set(kept) == {"udpos.run", "mnli.run"} and (tmp_path / "udpos.run/checkpoints/step-6").is_dir()
    again = run(["udpos", "mnli"], **given, out=tmp_path, resume=True)
    assert {name: module.digest() for name, module in again.items()} == {n: m.digest() for n, m in whole.items()}


def test_a_job_that_fails_leaves_and_the_others_end(run: Train, tmp_path: Path) -> None:
    good = {"settings": Settings(max_steps=6, batch_size=8, lr=0.01), "method": LoRA(rank=2)}
    bad = {"task": "udpos", "settings": Settings(max_steps=6, batch_size=8, lr=1e200), "method": LoRA(rank=2)}
    with pytest.raises(TrainingError, match="^wild: Step 2: the .* is .*no module is written.*a lower --lr"):
        run({"mnli": good, "wild": bad, "panx": good}, out=tmp_path)
    assert [path.name for path in (tmp_path / "wild.run/checkpoints").iterdir()] == ["step-1"]
    for task in ("mnli", "panx"):
        alone = dict(tensors(run(task, **good)))
        for name, tensor in tensors(load(tmp_path / task)):
            assert norm_distance(tensor, alone[name]) <= 1e-8
    assert not (tmp_path / "wild").exists() and not (tmp_path / "mnli.run").exists()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_bad_step_that_is_seen_late_was_never_made(
    accumulation: int, run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where figures are only looked at now and then."""
    given = {
        "method": LoRA(rank=2),
        "settings": Settings(max_steps=9, batch_size=8, lr=0.01, accumulation=accumulation, checkpoint_every=7),
    }
    whole, losses, calls = run("udpos", **given), loop_module.row_losses, []

    def broken(*arguments: Any) -> Tensor:
        calls.append(1)
        return losses(*arguments) * (math.nan if len(calls) == 4 * accumulation else 1)

    monkeypatch.setattr(Together, "_looks", lambda self: any(loop.must_look() for loop in self.live))
    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "row_losses", broken)
        with pytest.raises(TrainingError, match="Step 4: the loss is nan"):
            run("udpos", **given, out=tmp_path / "m")
    assert len(calls) == 7 * accumulation  # three steps later
    assert [path.name for path in (tmp_path / "m.run/checkpoints").iterdir()] == ["step-3"]
    assert run("udpos", **given, out=tmp_path / "m", resume=True).digest() == whole.digest()


def test_no_figure_is_waited_for_between_lines_of_the_log(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = loop_module.Loop.look
    monkeypatch.setattr(loop_module.Loop, "look", lambda self: (looked.append(self.step + 1), look(self)))
    monkeypatch.setattr(Together, "_looks", lambda self: any(loop.must_look() for loop in self.live))
    run("udpos", settings=Settings(max_steps=8, batch_size=8, log_every=3, eval_every=4), method=None)
    assert looked == [3, 4, 6, 8]


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ({}, "none given"),
        ([], "none given"),
        ({"mnli": {"methd": None}}, "mnli: found 'methd'. Did you mean 'method'"),
        ({"Bad Name": {"task": "mnli"}}, "lower-case"),
        (["mnli", "mnli"], "'mnli' is named twice. Give a dict"),
    ],
)
def test_jobs_that_cannot_be_read_are_refused(jobs: Any, said: str, run: Train, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        run(jobs, out=tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_with_dropout_a_job_together_is_distributed_as_alone(run: Train, on: Backbone, tmp_path: Path) -> None:
    """Per seed, only the masks differ. Over 40 seeds the mean difference of each figure is within 3.5 standard errors
    of 0 (p = 0.001 each), and the variances over the masks are within a factor of 3 (99.9 % for 39 degrees)."""
    figures: dict[str, dict[str, list[list[float]]]] = {"alone": {}, "together": {}}

    def add(how: str, name: str, module: TaskModule, log: Path) -> None:
        lines = [json.loads(line) for line in (log / "training_log.jsonl").read_text().splitlines()]
        loss = [line["loss"] for line in lines if "loss" in line]
        part = torch.cat([tensor.flatten() for tensor in module.parts[0].tensors().values()])
        row = [sum(loss) / len(loss), loss[-1], float(part.norm()), float(part.double().mean())]
        figures[how].setdefault(name, []).append(row)

    for seed in range(1, 41):
        given: dict[str, Any] = {
            "on": on, "method": LoRA(rank=2, dropout=0.3),
            "settings": Settings(max_steps=12, batch_size=8, lr=0.01, log_every=1, seed=seed),
        }  # fmt: skip
        for name, module in run(["udpos", "mnli"], **given, out=tmp_path / f"{seed}").items():
            add("together", name, module, tmp_path / f"{seed}" / name)
            alone = run(name, **given, out=tmp_path / f"{seed}-{name}")
            add("alone", name, alone, tmp_path / f"{seed}-{name}")
    for name in ("udpos", "mnli"):
        one, other = (torch.tensor(figures[how][name], dtype=torch.float64) for how in ("alone", "together"))
        difference = other - one
        assert (difference.std(0) > 0).all(), name  # masks do differ
        t = difference.mean(0) / (difference.std(0) / len(difference) ** 0.5)
        assert (t.abs() < 3.5).all(), (name, t.tolist())
        ratio = other.var(0) / one.var(0)
        assert ((ratio > 1 / 3) & (ratio < 3)).all(), (name, ratio.tolist())
