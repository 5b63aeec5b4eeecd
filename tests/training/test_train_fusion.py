"""Training a fusion: what learns, what stays, that it can be told again and gone on with, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import rows, scores

from adapterxl import Bottleneck, LoRA, Settings, TaskModule, evaluate, fuse, load, stack
from adapterxl.artifacts import read_manifest
from adapterxl.backbone import Backbone
from adapterxl.engines import verify
from adapterxl.errors import EngineError
from adapterxl.evaluation.scores import Scores
from adapterxl.evaluation.zero_shot import _module_info
from adapterxl.modules import FusionPart
from adapterxl.report.lineage import lineage
from adapterxl.training import loop as loop_module
from adapterxl.training import plan
from adapterxl.training.together import Together

Fit = Callable[..., TaskModule]
KINDS = {"lowrank": (LoRA(rank=2), LoRA(rank=3)), "adapterfusion": (Bottleneck(reduction=4), Bottleneck(reduction=8))}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory, on: Backbone, data: Path) -> dict[str, list[Path]]:
    """Two trained modules for each kind of fusion, as folders."""
    from adapterxl import train

    settings, found = Settings(max_steps=3, batch_size=8, lr=0.05), {}
    folder = tmp_path_factory.mktemp("members")
    for kind, methods in KINDS.items():
        found[kind] = [folder / kind / task for task in ("mnli", "panx")]
        for task, method, out in zip(("mnli", "panx"), methods, found[kind], strict=True):
            train(task, on=on, method=method, settings=settings, data=data, out=out, progress=False)
    return found


def fusion_of(module: TaskModule) -> FusionPart:
    (part,) = (part for part in module.parts if isinstance(part, FusionPart))
    return part


def member_digests(part: FusionPart) -> list[str]:
    return [one.digest() for parts in part.members for one in parts]


@pytest.mark.parametrize("new", [None, LoRA(rank=2), Bottleneck(reduction=8)], ids=["head", "lora", "bottleneck"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_fusion_the_head_and_the_new_part_learn_and_the_members_stay(
    kind: str, new: Any, members: dict[str, list[Path]], fit: Fit, on: Backbone, tmp_path: Path
) -> None:
    before = [load(path).parts[0].digest() for path in members[kind]]
    weights = {name: tensor.clone() for name, tensor in on.model.state_dict().items()}
    module = fit(start=fuse(*members[kind], kind=kind), method=new, out=tmp_path / "m", settings={"max_steps": 4})
    part = fusion_of(module)
    assert part.trained and member_digests(part) == before and part.trained_on == () and part.made_of is None
    assert (part.name, part.task, part.labels) == ("udpos-fusion", "udpos", ("mnli", "panx"))
    start = FusionPart("x", part.members, part.labels, kind).begun(on, torch.Generator().manual_seed(3), torch.float32)
    for name, tensor in part.tensors().items():
        assert torch.equal(tensor, start.tensors()[name]) == name.endswith("key.bias"), name
    assert module.parts[1:] == () if new is None else module.parts[1].trained_on == (part.digest(),)
    learned = sum(p.numel() for p in part.learnable().values()) + (0 if new is None else module.parts[1].size())
    assert module.head is not None
    assert module.training["parameters"] == learned + sum(t.numel() for t in module.head.tensors.values())
    assert module.training["method"] == ("fusion" if new is None else new.method)
    assert module.training["fusion"][0]["kind"] == kind and module.composition.startswith("fuse(mnli, panx")  # type: ignore[union-attr]
    assert all(torch.equal(weights[name], tensor) for name, tensor in on.model.state_dict().items())
    again = load(tmp_path / "m")
    assert again.digest() == module.digest() and member_digests(fusion_of(again)) == before
    tokens = rows(on)
    assert torch.equal(scores(on, module, tokens), scores(on, again, tokens))
    hub = kind == "adapterfusion" and new is None
    assert read_manifest(tmp_path / "m").layout == ("adapterhub-setup" if hub else "adapterxl")
    if hub:
        assert verify(tmp_path / "m", on=on).passed


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_fusion_and_another_seed_another(
    kind: str, members: dict[str, list[Path]], fit: Fit
) -> None:
    start = fuse(*members[kind], kind=kind)
    one, two = (fit(start=start, method=None) for _ in range(2))
    assert one.digest() == two.digest() != fit(start=start, method=None, settings={"seed": 2}).digest()


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_fusion_ends_bit_equal(
    kind: str, members: dict[str, list[Path]], fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "start": fuse(*members[kind], kind=kind), "method": LoRA(rank=2, dropout=0.1),
        "settings": {"max_steps": 6, "checkpoint_every": 2},
    }  # fmt: skip
    whole = fit(**given, out=tmp_path / "whole")
    step = Together._one_step

    def interrupted(self: Together) -> None:
        if self.live[0].step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Together, "_one_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(**given, out=tmp_path / "cut")
    again = fit(**given, out=tmp_path / "cut", resume=True)
    assert again.digest() == whole.digest() and again.training["steps"] == 6


def test_all_engines_train_the_same_adapterfusion(still: Path, fit: Fit) -> None:
    on = Backbone(still, dtype="fp64", device="cpu")
    below = [fit(t, on=on, method=m) for t, m in zip(("mnli", "panx"), KINDS["adapterfusion"], strict=True)]
    start = fuse(*below, kind="adapterfusion")
    settings = {"max_steps": 4, "accumulation": 2}
    for new in (None, Bottleneck(reduction=8)):
        one, other = (
            fit(on=on, start=start, method=new, engine=engine, settings=settings) for engine in ("packed", "adapters")
        )
        assert one.head is not None and other.head is not None
        ours, theirs = dict(one.head.tensors), dict(other.head.tensors)
        for mine, part in zip(one.parts, other.parts, strict=True):
            ours |= {f"{mine.kind}.{name}": tensor for name, tensor in mine.tensors().items()}
            theirs |= {f"{part.kind}.{name}": tensor for name, tensor in part.tensors().items()}
        for name, tensor in ours.items():
            assert float((tensor - theirs[name]).norm()) <= 1e-8 * float(theirs[name].norm()), name


def test_the_penalty_is_part_of_the_loss(
    members: dict[str, list[Path]], fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = fuse(*members["adapterfusion"], kind="adapterfusion")
    alone: list[float] = []
    losses = loop_module.row_losses

    def watched(*arguments: Any) -> torch.Tensor:
        found = losses(*arguments)
        alone.append(float(found))
        return found

    monkeypatch.setattr(loop_module, "row_losses", watched)
    penalties: list[float] = []
    penalty = FusionPart.penalty

    def seen(self: FusionPart) -> torch.Tensor | None:
        found = penalty(self)
        penalties.append(float(found))  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(FusionPart, "penalty", seen)
    fit(start=start, method=None, settings={"max_steps": 3, "accumulation": 2}, out=tmp_path / "m")
    lines = [json.loads(line) for line in (tmp_path / "m/training_log.jsonl").read_text().splitlines()]
    told = [line["loss"] for line in lines if "loss" in line]
    sums = [a + b for a, b in zip(alone, penalties, strict=True)]
    assert told == pytest.approx([(sums[i] + sums[i + 1]) / 2 for i in (0, 2, 4)], rel=1e-5)
    assert penalties[-1] > 1e-3 > penalties[0]  # the value starts at (nearly) the identity


def test_a_trained_fusion_is_frozen_when_something_is_trained_on_it(
    members: dict[str, list[Path]], fit: Fit, tmp_path: Path
) -> None:
    first = fit(start=fuse(*members["lowrank"]), method=None, out=tmp_path / "first")
    second = fit("panx", start=stack(tmp_path / "first"), method=LoRA(rank=2))
    assert second.parts[0].digest() == first.parts[0].digest()
    assert second.parts[1].trained_on == (first.parts[0].digest(),) and "fusion" not in second.training
    third = fit("panx", start=first, method=None)
    assert third.training["method"] == "none" and [p.digest() for p in third.parts] == [first.parts[0].digest()]


def test_parts_below_and_above_a_fusion_stay_in_their_places(
    members: dict[str, list[Path]], fit: Fit, tmp_path: Path
) -> None:
    low, high = members["adapterfusion"]
    start = stack(low, fuse(*members["lowrank"]), high)
    module = fit(start=start, method=None, out=tmp_path / "m")
    below, part, above = module.parts
    assert [below.digest(), above.digest()] == [load(path).parts[0].digest() for path in (low, high)]
    assert isinstance(part, FusionPart) and part.trained and part.trained_on == (below.digest(),)
    assert load(tmp_path / "m").digest() == module.digest()


def test_a_report_takes_the_fusion_for_the_trainings_own_part_and_not_what_stands_above_it(
    members: dict[str, list[Path]], fit: Fit, tmp_path: Path
) -> None:
    high = fit("udpos", method=LoRA(rank=2), out=tmp_path / "high")
    module = fit(start=stack(fuse(*members["lowrank"]), high), method=None, out=tmp_path / "m")
    saved = load(tmp_path / "m")
    found = lineage(_module_info(saved, saved))
    assert found is not None and found.own == fusion_of(module).digest()
    assert [digest for _, _, digest in found.parts] == [high.parts[0].digest()]


@pytest.mark.parametrize(("kind", "method"), [("lowrank", LoRA(rank=2)), ("adapterfusion", None)])
def test_a_plan_counts_the_fusion(
    kind: str, method: Any, members: dict[str, list[Path]], fit: Fit, on: Backbone, data: Path
) -> None:
    start = fuse(*members[kind], kind=kind)
    told = dict(plan("udpos", on=on, method=method, settings=Settings(max_steps=2), start=start, engine="packed",
                     data=data, train_from=None, train_languages=None, limit=None, progress=False).table())  # fmt: skip
    module = fit(start=start, method=method, settings={"max_steps": 2})
    learned = sum(p.numel() for p in fusion_of(module).learnable().values())
    new = 0 if method is None else module.parts[1].size()
    head = module.training["parameters"] - learned - new
    assert told["trained weights"] == f"{new:,} in the module, {learned:,} in the fusion, {head:,} in the head"
    assert told["on top of"] == "fuse"


@pytest.mark.parametrize("engine", ["peft", "adapters"])
def test_engines_without_low_rank_fusion_refuse_it_and_write_nothing(
    engine: str, members: dict[str, list[Path]], fit: Fit, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="no (low-rank )?fusion; use --engine packed"):
        fit(start=fuse(*members["lowrank"]), method=None, engine=engine, out=tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_hold_the_attention_by_language_layer_and_site(
    kind: str, members: dict[str, list[Path]], fit: Fit, on: Backbone, data: Path, tmp_path: Path
) -> None:
    module = fit(start=fuse(*members[kind], kind=kind), method=None, settings={"max_steps": 10})
    out = tmp_path / "scores.json"
    found = evaluate(module, on=on, task="udpos", data=data, progress=False, out=out)
    places = fusion_of(module).shared
    assert found.attention is not None and Scores.load(out) == found
    assert [(one.language, one.layer, one.site) for one in found.attention] == [
        (language, *place) for language in ("en", "de", "zh") for place in places
    ]
    assert {tuple(one.members) for one in found.attention} == {("mnli", "panx")}
    assert {one.fusion for one in found.attention} == {"udpos-fusion"}
    by_language = {one.language: one.tokens for one in found.attention}
    assert all(one.tokens == by_language[one.language] for one in found.attention)
    assert len({tuple(one.weights) for one in found.attention}) > 3
    # One language alone, in batches of one row each, says the same.
    again = evaluate(module, on=on, task="udpos", data=data, languages="de", tokens_per_batch=16, progress=False)
    ours = [one for one in found.attention if one.language == "de"]
    assert again.attention is not None
    for one, other in zip(ours, again.attention, strict=True):
        assert one.tokens == other.tokens and one.weights == pytest.approx(other.weights, abs=2e-6)


def test_scores_without_a_fusion_have_no_such_field(
    members: dict[str, list[Path]], on: Backbone, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.json"
    found = evaluate(members["lowrank"][1], on=on, task="panx", data=data, progress=False, out=out)
    assert found.attention is None and "attention" not in json.loads(out.read_text()) and Scores.load(out) == found


def test_retrieval_counts_the_attention_of_the_languages_own_texts(
    members: dict[str, list[Path]], fit: Fit, on: Backbone, data: Path
) -> None:
    module = fit(start=fuse(*members["lowrank"]), method=None)
    found = evaluate(module, on=on, task="tatoeba", data=data, layer=2, progress=False)
    assert found.attention is not None and {one.layer for one in found.attention} == {0, 1}
    texts = (data / "tatoeba/de.de.txt").read_text().splitlines()
    tokens = sum(len(on.tokenizer(text)["input_ids"]) for text in texts)
    assert {one.tokens for one in found.attention if one.language == "de"} == {tokens}
