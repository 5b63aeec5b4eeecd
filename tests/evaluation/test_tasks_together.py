"""Tasks of one evaluation share batches: each gets what it gets alone, and rows that several heads read run once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import make_module, make_part, write_data

from adapterxl import Backbone, LoRA, TaskModule, evaluate
from adapterxl.cli import main
from adapterxl.data.prepare import Item
from adapterxl.engines import get_engine
from adapterxl.errors import ArtifactError, DataError, TaskError, UsageError
from adapterxl.evaluation import languages as languages_module
from adapterxl.evaluation.languages import vector_reader
from adapterxl.evaluation.predict import Reader, Request, answer, head_reader
from adapterxl.modules import FusionPart
from adapterxl.ragged import RaggedBatch, pack
from adapterxl.tasks import get_task

TRAINED = {"udpos": "udpos", "xnli": "mnli", "tydiqa": "tydiqa", "copa": "copa"}
TASKS = [*TRAINED, "tatoeba"]


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def mixed(on: Backbone, *, fused: bool = False) -> TaskModule:
    """A module as a mix of four tasks leaves it, one of each kind."""
    parts: list[Any] = [make_part(LoRA(rank=2), name, on, seed) for seed, name in ((1, "a"), (2, "b"))]
    if fused:
        part = FusionPart("f", [[one] for one in parts], "ab", "lowrank")
        part = part.begun(on, torch.Generator().manual_seed(1), on.dtype)
        for weight in part.parameters():
            weight.data.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
        parts = [part.finished(part.tensors())]
    heads = {}
    for number, name in enumerate(TRAINED):
        task = get_task(name)
        labels = task.labels if task.kind in ("classify", "tag") else ()
        heads[name] = make_module(on, name, [], task.kind, labels=labels, seed=number).head
    module = make_module(on, "mixed", parts, "")
    told = {name: {"train_from": trained} for name, trained in TRAINED.items()}
    return replace(
        module, task="udpos", kind="tag", head=heads["udpos"], heads=heads, training={"mix": {"tasks": told}, "seed": 4}
    )


@pytest.mark.parametrize("fused", [False, True])
def test_tasks_together_give_what_each_gives_alone(
    fused: bool, on: Backbone, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = mixed(on, fused=fused)
    options: Any = {"on": on, "data": data, "limit": 5, "progress": False}
    found = evaluate(module, task=TASKS, out=tmp_path / "together", **options)
    assert list(found) == TASKS and len(list((tmp_path / "together").iterdir())) == 2 * len(TASKS)
    monkeypatch.setattr(languages_module, "POOL", 1)
    for task in TASKS:
        alone = evaluate(module, task=task, out=tmp_path / f"{task}.json", **options)
        whose = {"seconds", "peak_memory_bytes", "attention"}
        assert found[task].model_dump(exclude=whose) == alone.model_dump(exclude=whose)
        ours, theirs = (folder / f"{task}.predictions.jsonl" for folder in (tmp_path / "together", tmp_path))
        assert ours.read_bytes() == theirs.read_bytes()
        assert json.loads((tmp_path / "together" / f"{task}.json").read_text())["task"] == task
        assert bool(alone.attention) == fused
        for one, other in zip(found[task].attention or (), alone.attention or (), strict=True):
            assert one.model_dump(exclude={"weights"}) == other.model_dump(exclude={"weights"})
            assert one.weights == pytest.approx(other.weights, abs=1e-5)


def test_rows_that_several_heads_read_run_once_at_each_depth(on: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, seen = get_engine("packed")(on, (), None), list[tuple[RaggedBatch, int | None]]()
    inner = engine.hidden

    def watching(batch: RaggedBatch, *, upto: int | None = None, **options: Any) -> Any:
        seen.append((batch, upto))
        return inner(batch, upto=upto, **options)

    monkeypatch.setattr(engine, "hidden", watching)

    def reader(kind: str, seed: int) -> Reader:
        head = make_module(on, kind, [], kind, seed=seed).head
        assert head is not None
        return head_reader(engine, head.build(on))

    def items(first: int, *positions: int) -> list[Item]:
        return [
            Item(n, [[first] * (10 + n % 4)], [[0] * (10 + n % 4)], [0] * len(positions) or 0, [*positions] or None,
                 [*positions] or None)
            for n in range(8)
        ]  # fmt: skip

    def choices() -> list[Item]:
        return [Item(n, [[7] * (3 + n), [8] * 5], [[0] * (3 + n), [0] * 5], 0) for n in range(4)]

    def requests() -> list[Request]:
        return [
            Request(items(7), one), Request(items(7, 1, 3), tags), Request(items(7, 2), tags), Request(items(8), two),
            Request(items(7), two), Request(items(7), span), Request(items(7), vectors), Request(choices(), choice),
        ]  # fmt: skip

    one, two, tags, span, choice = (
        reader(*x) for x in (("classify", 1), ("classify", 2), ("tag", 1), ("span", 1), ("choice", 1))
    )
    vectors = vector_reader(engine, 1)
    together, told = requests(), list[int]()
    answer(together, on, tokens_per_batch=30, done=told.append)
    assert sum(told) == 7 * 8 + 4
    rows = {upto: sum(batch.rows for batch, at in seen if at == upto) for upto in (None, 1)}
    assert rows == {None: 4 + 4 + 2 * 4, 1: 4}  # the four lengths of 7 and of 8, the choices; and again for the vectors
    # The last layer is whole only where a head looks at all tokens.
    assert sum(batch.rows for batch, _ in seen if batch.first_only) == 4 + 2 * 4
    for found, alone in zip(together, requests(), strict=True):
        answer([alone], on, tokens_per_batch=1000)
        for mine, other in zip(found.results, alone.results, strict=True):
            torch.testing.assert_close(torch.as_tensor(mine), torch.as_tensor(other), rtol=1e-4, atol=1e-5)


def test_the_places_of_some_rows_in_a_batch_are_those_of_their_tokens() -> None:
    rows = [[1, 2, 3], [4], [5, 6], [7, 8, 9]]
    whole, part = pack(rows), pack([rows[3], rows[2], rows[3]])
    places = whole.places([3, 2, 3], part)
    assert whole.input_ids[places].tolist() == part.input_ids.tolist() == [5, 6, 7, 8, 9, 7, 8, 9]


def test_all_is_checked_before_anything_runs(on: Backbone, data: Path, tmp_path: Path) -> None:
    module, out = mixed(on), tmp_path / "out"

    def refused(error: type[Exception], text: str, task: list[str], **options: Any) -> None:
        with pytest.raises(error, match=text):
            evaluate(module, on=on, task=task, data=data, progress=False, **{"out": out, **options})
        assert list(tmp_path.iterdir()) == []

    refused(UsageError, "tasks: found udpos, udpos; expected one or more, each once", ["udpos", "udpos"])
    refused(UsageError, "tasks: found none", [])
    refused(UsageError, r"s.json: expected a folder", ["udpos", "xnli"], out=tmp_path / "s.json")
    refused(TaskError, "has no head for panx", ["udpos", "panx"])
    refused(TaskError, "No language 'zh' for xnli", ["udpos", "xnli"], languages=["zh"])
    refused(UsageError, "hidden states 0 to 3", ["udpos", "tatoeba"], layer=9)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="is a file, so 'udpos.json' cannot be written below it"):
        evaluate(module, on=on, task=["udpos"], data=data, out=tmp_path / "file", progress=False)


def test_scores_of_another_module_are_not_replaced_unless_asked(on: Backbone, data: Path, tmp_path: Path) -> None:
    options: Any = {"on": on, "data": data, "limit": 2, "languages": ["en"], "progress": False, "out": tmp_path}
    first = evaluate(mixed(on), task=["xnli"], **options)
    assert list(first) == ["xnli"] and first["xnli"].seconds > 0
    before = (tmp_path / "xnli.json").read_bytes()
    with pytest.raises(UsageError, match=r"xnli\.json: holds scores of 'mixed' on xnli"):
        evaluate(mixed(on, fused=True), task=["udpos", "xnli"], **options)
    assert (tmp_path / "xnli.json").read_bytes() == before and not (tmp_path / "udpos.json").exists()
    evaluate(mixed(on, fused=True), task=["udpos", "xnli"], overwrite=True, **options)
    assert (tmp_path / "xnli.json").read_bytes() != before and (tmp_path / "udpos.json").exists()


def test_a_task_is_written_when_it_is_done(on: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data")
    (data / "xnli/test-fr.csv").write_text("premise,hypothesis,label\na,b,maybe\n")
    monkeypatch.setattr(languages_module, "POOL", 1)
    with pytest.raises(DataError, match=r"test-fr\.csv:2"):
        evaluate(mixed(on), on=on, task=["udpos", "xnli"], data=data, out=tmp_path / "out", progress=False)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"udpos.json", "udpos.predictions.jsonl"}


def test_the_shell_scores_several_tasks_into_a_folder(
    on: Backbone, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed(on).save(tmp_path / "m")
    options = ["--base", str(on.folder), "--data", str(data), "--device", "cpu", "--languages", "en", "--limit", "2"]
    code = main(["evaluate", str(tmp_path / "m"), "--task", "udpos, xnli", "--out", str(tmp_path / "out"), *options])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"udpos.json", "xnli.json"}
    assert "udpos" in printed.out and "xnli" in printed.out and f"saved: {tmp_path / 'out'}" in printed.out
    assert printed.err.count("note:") == 1  # xnli's head was trained on mnli: said once
