"""Languages share batches: each gets what it gets alone, rows of one length lie together, and equal rows run once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import make_module, make_part, write_data

from adapterxl import evaluate
from adapterxl.artifacts import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.data.prepare import Item
from adapterxl.engines import get_engine
from adapterxl.evaluation import languages as languages_module
from adapterxl.evaluation.predict import Request, answer, head_reader
from adapterxl.modules import FusionPart, LoRA
from adapterxl.ragged import RaggedBatch
from adapterxl.tasks import get_task


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def fused(on: Backbone, task: str) -> TaskModule:
    """A module with a fusion and a head for a task; no head for retrieval."""
    import torch

    found = get_task(task)
    members = [[make_part(LoRA(rank=2), name, on, seed)] for seed, name in ((1, "a"), (2, "b"))]
    part = FusionPart("f", members, "ab", "lowrank").begun(on, torch.Generator().manual_seed(1), on.dtype)
    for weight in part.parameters():
        weight.data.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    part = part.finished(part.tensors())
    kind = "" if found.kind == "retrieve" else found.kind
    module = make_module(on, task, [part], kind, labels=found.labels if kind in ("classify", "tag") else ())
    module.training["train_from"] = task
    return module


@pytest.mark.parametrize(
    ("task", "chosen"), [("udpos", ["en", "de", "zh"]), ("xquad", ["en", "zh"]), ("tatoeba", ["de", "fr"])]
)
def test_languages_together_give_what_each_gives_alone(
    task: str, chosen: list[str], on: Backbone, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(name: str, wanted: list[str]) -> Any:
        return evaluate(fused(on, task), on=on, task=task, data=data, languages=wanted, progress=False,
                        train_from=task if task == "xquad" else None, out=tmp_path / f"{name}.json")  # fmt: skip

    together = scored("together", chosen)
    alone = [scored(language, [language]) for language in chosen]
    assert together.records == [record for one in alone for record in one.records]
    lines = [(tmp_path / f"{language}.predictions.jsonl").read_text() for language in chosen]
    assert (tmp_path / "together.predictions.jsonl").read_text() == "".join(lines)
    apart = [one for each in alone for one in each.attention]
    assert len(together.attention) == len(apart) > 0
    for mine, other in zip(together.attention, apart, strict=True):
        assert (mine.language, mine.layer, mine.site, mine.tokens) == (
            other.language, other.layer, other.site, other.tokens)  # fmt: skip
        assert mine.weights == pytest.approx(other.weights, abs=1e-5)
    monkeypatch.setattr(languages_module, "POOL", 1)
    assert scored("one-by-one", chosen).records == together.records


def test_no_more_languages_are_held_than_fill_a_pool(on: Backbone, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    load, run = languages_module.HeadSet.__init__, languages_module.answer

    def loading(self: Any, task: Any, examples: Any, split: str, language: str, *rest: Any) -> None:
        load(self, task, examples, split, language, *rest)
        steps.append(language)

    def running(*arguments: Any, **options: Any) -> None:
        steps.append("run")
        run(*arguments, **options)

    monkeypatch.setattr(languages_module.HeadSet, "__init__", loading)
    monkeypatch.setattr(languages_module, "answer", running)
    for pool, expected in ((1, "en run de run zh run"), (10**6, "en de zh run")):
        monkeypatch.setattr(languages_module, "POOL", pool)
        evaluate(fused(on, "udpos"), on=on, task="udpos", data=data, progress=False)
        assert " ".join(steps) == expected
        steps.clear()


def test_batches_are_of_one_length_over_languages_and_equal_rows_run_once(on: Backbone) -> None:
    engine, seen = get_engine("packed")(on, (), None), list[RaggedBatch]()
    inner = engine.hidden

    def watching(batch: RaggedBatch, **options: Any) -> Any:
        seen.append(batch)
        return inner(batch, **options)

    engine.hidden = watching  # type: ignore[method-assign]
    head = make_module(on, "m", [], "classify").head
    assert head is not None
    reader = head_reader(engine, head.build(on))

    def rows(first: int) -> list[Item]:
        return [Item(n, [[first] * (10 + n % 4)], [[0] * (10 + n % 4)], 0) for n in range(8)]

    requests = [Request(rows(7), reader), Request(rows(8), reader), Request(rows(7), reader)]
    answer(requests, on, tokens_per_batch=26)
    assert [len(batch.runs) for batch in seen] == [1, 1, 1, 1]  # two languages, four lengths, two rows of each: 8 rows
    assert sum(batch.rows for batch in seen) == 8 and None not in requests[2].results
    assert requests[0].results == requests[2].results
    assert requests[0].results[:4] == requests[0].results[4:]
