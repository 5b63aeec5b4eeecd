"""Masked language modelling beside a task: batches of plain text in the training of one module, answered by the
backbone's own head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SENTENCES

from adapterxl import Backbone, LoRA, TaskModule, evaluate, load, mix
from adapterxl.artifacts import inspect
from adapterxl.errors import UsageError
from adapterxl.training.loop import Loop
from adapterxl.training.sampling import Mix
from adapterxl.training.together import Together

Fit = Callable[..., TaskModule]


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    content = "name: words\nkind: mask\nreader: lines\ntrain: {de: [text.txt]}\nsource_language: de\n"
    (tmp_path / "words.yaml").write_text(content, encoding="utf-8")
    return str(tmp_path / "words.yaml")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets one task of every mix give all batches."""
    return lambda at: monkeypatch.setattr(Mix, "sampler", lambda *_: lambda number: at)


@pytest.mark.parametrize("first", ["udpos", "words"])
def test_the_module_keeps_the_head_of_the_task_alone(first: str, fit: Fit, text: str, tmp_path: Path) -> None:
    tasks = ("udpos", text) if first == "udpos" else (text, "udpos")
    fit(mix(*tasks, sampling="weights=2:1"), settings={"max_steps": 12}, out=tmp_path / "m")
    module = load(tmp_path / "m")
    assert (module.task, module.kind, list(module.heads)) == ("udpos", "tag", ["udpos"])
    assert module.head is module.heads["udpos"]
    assert module.training["parameters"] == module.size()  # the backbone's own head is no part of it
    told = module.training["mix"]["tasks"]
    assert told["words"]["kind"] == "mask" and {one["batches"] > 0 for one in told.values()} == {True}
    assert sum(one["batches"] for one in told.values()) == 12
    assert (
        "mix" in dict(inspect(tmp_path / "m"))["trained: mix"]
        or "words" in dict(inspect(tmp_path / "m"))["trained: mix"]
    )


def test_the_module_answers_the_task_and_starts_another(
    fit: Fit, text: str, tmp_path: Path, on: Backbone, data: Path
) -> None:
    fit(mix("udpos", text), out=tmp_path / "m")
    assert evaluate(tmp_path / "m", on=on, task="udpos", data=data, progress=False).task == "udpos"
    above = fit("panx", start=tmp_path / "m")
    assert [part.name for part in above.parts] == ["udpos-words", "panx"]


def test_where_one_of_them_gives_all_batches_it_is_what_that_one_gives_alone(
    fit: Fit, text: str, only: Callable[[int], None]
) -> None:
    alone = {"udpos": fit("udpos"), "words": fit(text, data=None)}
    for at, task in enumerate(alone):
        only(at)
        both = fit(mix("udpos", text), name=task)
        for name, tensor in alone[task].parts[0].tensors().items():
            assert torch.equal(both.parts[0].tensors()[name], tensor), (task, name)
    only(0)
    head, expected = fit(mix("udpos", text)).head, alone["udpos"].head
    assert head is not None and expected is not None and head.digest() == expected.digest()


def test_a_step_of_both_has_the_mean_of_their_gradients(
    still: Path, text: str, data: Path, monkeypatch: pytest.MonkeyPatch, fit: Fit
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    judge = Loop.judge

    def noted(self: Loop) -> None:
        seen.append({n: p.grad.clone() for n, p in self.parameters.items() if n[:6] == "module" and p.grad is not None})
        judge(self)

    monkeypatch.setattr(Loop, "judge", noted)
    monkeypatch.setattr(Mix, "sampler", lambda *_: lambda number: number % 2)
    on = Backbone(still, dtype="fp64", device="cpu")
    given: dict[str, Any] = {"on": on, "method": LoRA(rank=2), "name": "m"}
    fit("udpos", settings={"max_steps": 1}, **given)
    fit(text, settings={"max_steps": 1}, **given | {"data": None})
    fit(mix("udpos", text), settings={"max_steps": 1, "accumulation": 2}, **given)
    task, words, both = seen
    for name in both:
        assert torch.allclose(both[name], (task[name] + words[name]) / 2, rtol=1e-9, atol=1e-12), name
    assert any(words[name].abs().max() > 1e-6 for name in both)


def test_a_run_that_is_taken_up_again_draws_the_same_batches_and_masks(
    fit: Fit, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_steps": 6, "checkpoint_every": 3}
    mixed = mix("udpos", text, sampling="uniform")
    whole = fit(mixed, settings=settings, out=tmp_path / "whole")
    step = Together._one_step

    def stopped(self: Together) -> None:
        if self.loops[0].step == 4:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Together, "_one_step", stopped)
        fit(mixed, settings=settings, out=tmp_path / "cut")
    assert fit(mixed, settings=settings, out=tmp_path / "cut", resume=True).digest() == whole.digest()
    lines = [json.loads(line) for line in (tmp_path / "whole" / "training_log.jsonl").read_text().splitlines()]
    assert set(lines[-1]["batches"]) == {"udpos", "words"}


def test_a_trunk_cache_is_refused_in_a_mix_with_text_too(fit: Fit, text: str) -> None:
    with pytest.raises(UsageError, match="Trunk cache: masks are drawn anew"):
        fit(mix("udpos", text), settings={"trunk_cache": "fp32"}, method=LoRA(rank=2, layers=(2,)))


def test_two_texts_make_a_module_without_a_head(fit: Fit, text: str, tmp_path: Path) -> None:
    other = tmp_path / "more.yaml"
    other.write_text(Path(text).read_text().replace("name: words", "name: more"))
    module = fit(mix(text, str(other)), out=tmp_path / "m", data=None)
    assert load(tmp_path / "m").digest() == module.digest() and module.kind == "mask" and module.heads == {}
