"""`--memory`: the plan that costs least quality and fits, the same effective batch, and a refusal that helps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterxl import LoRA, Settings, TaskModule
from adapterxl.backbone import Backbone
from adapterxl.cli import main
from adapterxl.errors import UsageError
from adapterxl.training import memory as memory_module
from adapterxl.training import plan
from adapterxl.training.cost import Cost, Options
from adapterxl.training.job import Job, prepare_job
from adapterxl.training.memory import _Plans, costliest
from adapterxl.training.settings import memory_bytes

Fit = Callable[..., TaskModule]
OTHERS: dict[str, Any] = dict(
    start=None, engine="packed", train_from=None, train_languages=None, limit=None, progress=False,
)  # fmt: skip


@pytest.fixture
def job(tiny_xlmr: Path, data: Path) -> Callable[..., Job]:
    """A job on a backbone whose weights are not loaded yet; `device` only changes what is planned."""

    def make(device: str = "cpu", load: bool = False, method: Any = None, **settings: Any) -> Job:
        on = Backbone(tiny_xlmr, device="cpu", load=load)
        on.device = torch.device(device)
        return prepare_job(
            "mnli", on=on, method=method or LoRA(rank=2), settings=Settings(**{"batch_size": 8, **settings}), data=data,
            name=None, **OTHERS,
        )  # fmt: skip

    return make


@pytest.fixture
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost by a formula, in place of the model of it: at once, and plain to see."""

    def cost(on: Backbone, options: Options, frozen: Any, new: Any, batches: Any, *, copies: int = 0) -> Cost:
        number = {"fp32": 4, "bf16": 2}[options.dtype]
        stays = options.embeddings == "device" or on.device.type == "cpu"
        kept = (
            number
            * max(sum(item.tokens for item in items) for _, items in batches)
            * (1 if options.checkpointing else 10)
        )
        matrices = 1000 * (options.bits or 8 * number) // 8
        return Cost(matrices, 300 * number * stays, 0, 500, kept, 10, 0, 300 * number * (not stays))

    monkeypatch.setattr(memory_module, "step_cost", cost)


@pytest.mark.usefixtures("simple")
def test_the_first_plan_in_order_of_quality_that_fits_is_taken(job: Callable[..., Job]) -> None:
    """Each budget is one byte less than the plan before takes: the next one is leaner, and its weights no better."""
    budget, chosen, plans = 10**12, [], _Plans(job("cuda"))
    while True:
        best = plans.first(budget, False)
        if best is None:
            break
        chosen.append(best.options)
        assert best.cost.total <= budget
        budget = best.cost.total - 1
    first, last = chosen[0], chosen[-1]
    assert (first.dtype, first.bits, first.embeddings, first.checkpointing, first.accumulation) == (
        "fp32", None, "device", False, 1
    )  # fmt: skip
    assert (last.dtype, last.bits, last.embeddings, last.checkpointing, last.accumulation) == (
        "bf16", 4, "cpu", True, 8
    )  # fmt: skip
    order = [memory_module.PRECISIONS.index((one.dtype, one.bits)) for one in chosen]
    assert order == sorted(order) and set(order) == {0, 1, 2, 3}
    assert {one.embeddings for one in chosen if one.dtype == "fp32"} == {"device", "cpu"}  # lossless ones first


def test_the_embeddings_of_a_cpu_stay_where_they_are(job: Callable[..., Job]) -> None:
    plans = _Plans(job("cpu"))
    assert {one.embeddings for one in plans.options(("fp32", None))} == {"device"}


@pytest.mark.parametrize(
    ("dtype", "bits", "left"),
    [("fp32", None, 4), ("bf16", None, 3), ("bf16", 8, 2), ("bf16", 4, 1), ("fp32", 4, 2), ("fp64", None, 1)],
)
def test_a_plan_never_takes_better_weights_than_were_asked_for(
    dtype: str, bits: int | None, left: int, job: Callable[..., Job]
) -> None:
    plans = _Plans(job())
    plans.on.dtype_name, plans.on.bits = dtype, bits
    found = plans.precisions(False)
    assert found[0] == (dtype, bits) and len(found) == left and plans.precisions(True) == found[:1]


@pytest.mark.parametrize("unit", ["batch_size", "tokens_per_batch"])
def test_smaller_batches_are_more_of_them(unit: str, job: Callable[..., Job]) -> None:
    given = job(**{"batch_size": None, unit: 8 if unit == "batch_size" else 256, "accumulation": 3})
    plans = _Plans(given)
    assert len(plans.cuts()) > 2
    for cut in plans.cuts():
        settings = plans.cut(cut)
        assert getattr(settings, unit) * settings.accumulation == getattr(given.settings, unit) * 3
    longest = max(item.tokens for item in given.rows.items)
    if unit == "tokens_per_batch":
        assert plans.cut(plans.cuts()[-1]).tokens_per_batch >= longest


def test_the_costliest_batch_is_one_that_the_run_has(job: Callable[..., Job]) -> None:
    given = job(max_steps=3)
    tasks = [(given.new_heads()[0], given.rows.items)]
    ((_, found),) = costliest(given.on, tasks, given.settings)
    assert len(found) == 8
    assert sum(i.tokens for i in found) <= sum(sorted(i.tokens for i in given.rows.items)[-8:])
    ((_, everything),) = costliest(given.on, tasks, given.settings.model_copy(update={"max_steps": 100}))
    assert sum(i.tokens for i in everything) >= sum(i.tokens for i in found)


def test_a_plan_that_changes_no_number_trains_the_same_module(fit: Fit, still: Path, capsys: Any) -> None:
    plain = fit("mnli", on=Backbone(still, device="cpu"))
    on = Backbone(still, device="cpu")
    module = fit("mnli", on=on, settings={"memory": "1800KB"})
    assert on.dtype_name == "fp32" and on.checkpointing  # it was loaded, so it keeps its precision
    assert module.training["checkpointing"] and module.training["settings"]["memory"] == "1800KB"
    assert module.digest() == plain.digest()
    said = capsys.readouterr().err
    assert "note: plan for 1800KB: fp32, checkpointing" in said and "kept for the backward pass" in said


@pytest.mark.usefixtures("simple")
def test_weights_that_wait_take_the_precision_of_the_plan(fit: Fit, tiny_xlmr: Path) -> None:
    on = Backbone(tiny_xlmr, device="cpu", load=False)
    module = fit("mnli", on=on, settings={"memory": "2KB"})
    assert on.loaded and on.bits == 4 and on.dtype_name == "bf16"
    assert module.training["bits"] == 4 and module.training["dtype"] == "bf16"


@pytest.mark.usefixtures("simple")
def test_what_does_not_fit_is_refused_with_the_nearest_plan(job: Callable[..., Job], fit: Fit, on: Backbone) -> None:
    with pytest.raises(UsageError) as refused:
        job(memory="1KB")
    said = str(refused.value)
    assert said.startswith("No plan fits into 1KB. The nearest one takes ")
    assert "bf16 with 4-bit matrices, checkpointing, 8 batches of 1 row a step. Give --memory 1MB, or train" in said
    assert "(--layers 1-2), which takes" in said and said.count("\n") == 0
    with pytest.raises(UsageError, match=r"it is loaded in fp32\): --dtype bf16.*--batch-size"):
        fit("mnli", on=on, settings={"memory": "3KB"})


@pytest.mark.usefixtures("simple")
def test_the_nearest_plan_that_a_refusal_names_does_fit(job: Callable[..., Job]) -> None:
    with pytest.raises(UsageError) as refused:
        job(memory="1KB", method=LoRA(rank=2, layers=(2,)))
    wanted = str(refused.value).split("Give --memory ")[1].split(",")[0].split(" ")[0]
    assert job(memory=wanted).settings.memory == wanted


def test_other_engines_have_no_plan(fit: Fit) -> None:
    with pytest.raises(UsageError, match="--memory plans for the packed engine, not for peft"):
        fit("mnli", engine="peft", settings={"memory": "4GB"})


def test_without_the_extra_a_plan_has_no_bits(job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "available", lambda: False)
    assert _Plans(job()).precisions(False) == [("fp32", None), ("bf16", None)]


@pytest.mark.parametrize(("text", "count"), [("4GB", 4e9), ("3.5GiB", 3.5 * 2**30), ("800 MB", 8e8), ("1KB", 1000)])
def test_sizes_are_read_as_they_are_written(text: str, count: float) -> None:
    assert memory_bytes(text) == count == math.floor(count)


@pytest.mark.parametrize("text", ["4", "4gb", "GB", "-1GB", "4 TB", "", "0GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a size such as 4GB"):
        Settings(memory=text)


def test_a_dry_run_shows_the_breakdown(tiny_xlmr: Path, data: Path, capsys: Any) -> None:
    command = ["train", "mnli", "--base", str(tiny_xlmr), "--data", str(data), "--device", "cpu", "--dry-run"]
    assert main([*command, "--batch-size", "8", "--memory", "1GB"]) == 0
    printed = capsys.readouterr()
    on = Backbone(tiny_xlmr, device="cpu", load=False)
    lines = plan("mnli", on=on, data=data, method=LoRA(), settings=Settings(batch_size=8), **OTHERS).table()
    shown = dict(lines)
    for what in ("frozen matrices", "token embeddings", "kept for the backward pass", "memory"):
        assert f"{what}: {shown[what]}" in printed.out
    assert "plan for 1GB: fp32, 8 rows" in printed.err
    assert not on.loaded
