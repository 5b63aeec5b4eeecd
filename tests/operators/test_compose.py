"""Compositions: what counts once, what is refused, what is said, and that merging is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import make_module, make_part, rows, scores

from adapterxl.artifacts import TaskModule, load
from adapterxl.backbone import Backbone
from adapterxl.engines.packed import join_frozen
from adapterxl.errors import CompositionError, UsageError
from adapterxl.modules import Bottleneck, LoRA, LoRAPart
from adapterxl.modules.base import SITES
from adapterxl.operators import compose, merge, parse, stack


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def world(on: Backbone) -> dict[str, TaskModule]:
    """nli; ner, trained on nli; pos, trained alone; two bottlenecks; a head alone."""
    nli = make_part(LoRA(rank=4), "nli", on, 1)
    ner = make_part(LoRA(rank=3, alpha=9, sites=("query", "ffn_down"), layers=(1, 2)), "ner", on, 2, [nli])
    pos = make_part(LoRA(rank=2, sites=("query", "attention_output"), layers=(0, 1)), "pos", on, 3)
    one, two = (make_part(Bottleneck(), name, on, seed) for name, seed in (("one", 4), ("two", 5)))
    return {
        "nli": make_module(on, "nli", [nli], "classify"),
        "ner": make_module(on, "ner", [nli, ner], "tag"),
        "pos": make_module(on, "pos", [pos], "tag"),
        "one": make_module(on, "one", [one], "tag"),
        "two": make_module(on, "two", [two], "tag"),
        "bare": make_module(on, "bare", [], "tag"),
    }


def names(module: TaskModule) -> list[str]:
    return [part.name for part in module.parts]


def test_what_two_members_share_counts_once(world: dict[str, TaskModule]) -> None:
    merged = compose(merge(world["nli"], world["ner"]))
    assert names(merged) == ["nli", "ner"]
    assert [part.digest() for part in merged.parts] == [part.digest() for part in world["ner"].parts]
    stacked = compose(stack(world["ner"], world["pos"], "x"), known={"x": world["one"]})
    assert names(stacked) == ["nli", "ner", "pos", "one"]


@pytest.mark.parametrize("text", ["merge(nli, nli)", "stack(one, one)", "merge(merge(nli), nli)"])
def test_a_member_that_is_named_twice_is_refused(text: str, world: dict[str, TaskModule]) -> None:
    with pytest.raises(CompositionError, match="is there twice"):
        compose(text, known=world)


def test_another_order_than_the_trained_one_is_allowed_said_and_refused_by_strict(world: dict[str, TaskModule]) -> None:
    merged = compose("merge(ner, nli)", known=world)  # ner was trained on nli, and brings it along
    assert names(merged) == ["nli", "ner"]
    assert merged.notes[0] == "'nli' is already inside 'ner', and is counted once."
    with pytest.raises(CompositionError, match="already inside"):
        compose("merge(ner, nli)", known=world, strict=True)


def test_a_bottleneck_cannot_be_merged_and_stack_is_named(world: dict[str, TaskModule]) -> None:
    with pytest.raises(CompositionError, match="Use stack for 'one'"):
        merge(world["nli"], world["one"])  # at construction
    with pytest.raises(CompositionError, match="Use stack for 'one'"):
        merge(stack(world["nli"], world["one"]), world["pos"])
    with pytest.raises(CompositionError, match="Use stack"):
        compose("merge(nli, one)", known=world)


def test_a_head_alone_has_nothing_to_combine(world: dict[str, TaskModule]) -> None:
    with pytest.raises(CompositionError, match="'bare' has nothing to combine"):
        compose(stack(world["nli"], world["bare"]))


def test_another_order_than_the_trained_one_is_said_and_strict_refuses_it(world: dict[str, TaskModule]) -> None:
    assert not any("trained on" in note for note in compose("merge(nli, ner)", known=world, strict=True).notes)
    mixed = compose("merge(pos, ner)", known=world)
    assert "'nli' was trained on the plain backbone and here follows pos." in mixed.notes
    assert "'ner' was trained on nli and here follows pos, nli." in mixed.notes
    with pytest.raises(CompositionError, match="'nli' was trained on the plain backbone and here follows pos"):
        compose("merge(pos, ner)", known=world, strict=True)


def test_heads_left_behind_are_said(world: dict[str, TaskModule]) -> None:
    merged = compose("merge(nli, ner)", known=world)
    assert merged.head is None and merged.notes[-1] == "Heads not taken along: nli (classify), ner (tag)."
    assert merged.operator == "merge" and merged.composition == "merge(nli, ner)"
    assert compose("nli", known=world) is world["nli"]


def test_a_head_comes_along_when_it_is_asked_for_and_the_others_are_said(
    world: dict[str, TaskModule], on: Backbone, tmp_path: Path
) -> None:
    merged = compose("merge(nli, ner)", known=world, head="ner")
    assert merged.head is world["ner"].head and (merged.task, merged.kind) == ("ner", "tag")
    assert merged.notes[-2:] == (
        "The head is that of 'ner' (tag), which was trained on its own parts.",
        "Heads not taken along: nli (classify).",
    )
    tokens = rows(on)  # ner holds nli already, so nothing but the name has changed
    assert torch.equal(scores(on, merged, tokens), scores(on, world["ner"], tokens))
    merged.save(tmp_path / "merged")
    assert load(tmp_path / "merged").digest() == merged.digest() != compose("merge(nli, ner)", known=world).digest()
    inner = compose("stack(merge(nli, pos), one)", known=world, head="pos")
    assert inner.head is world["pos"].head
    assert inner.notes[-1] == "Heads not taken along: nli (classify), one (tag)."
    assert compose("nli", known=world, head="nli") is world["nli"]


def test_what_a_choice_head_needs_to_know_comes_along(world: dict[str, TaskModule], on: Backbone) -> None:
    many = replace(
        make_module(on, "many", world["pos"].parts, "choice"), training={"choices": 4, "train_from": "x", "lr": 1}
    )
    assert compose(merge(world["nli"], many), head="many").training == {"choices": 4, "train_from": "x"}


def test_a_head_that_is_not_there_or_not_one_is_refused(world: dict[str, TaskModule]) -> None:
    with pytest.raises(CompositionError, match=r"No member 'nlii' .*the members: nli \(classify\), ner \(tag\)"):
        compose("merge(nli, ner)", known=world, head="nlii")
    headless = replace(world["pos"], head=None, kind="")
    with pytest.raises(CompositionError, match=r"'pos' has no head to take along; .*pos \(no head\)"):
        compose(merge(world["nli"], headless), head="pos")
    with pytest.raises(CompositionError, match="'pos' has no head"):
        compose(headless, head="pos")
    twin = replace(world["pos"], name="nli")
    with pytest.raises(CompositionError, match="2 members are named 'nli', with different heads. Name a folder"):
        compose(merge(world["nli"], twin), head="nli")
    assert compose("merge(a, b)", known={"a": world["nli"], "b": twin}, head="b").head is twin.head


def test_modules_of_another_backbone_are_refused(world: dict[str, TaskModule]) -> None:
    other = replace(world["pos"], base={**world["pos"].base, "fingerprint": "0" * 64})
    with pytest.raises(CompositionError, match="0{12}.*cannot be composed"):
        compose(merge(world["nli"], other))


def test_modules_of_another_tokenizer_are_refused_and_those_that_do_not_tell_are_taken(
    world: dict[str, TaskModule],
) -> None:
    other = replace(world["pos"], base={**world["pos"].base, "tokenizer": "0" * 64})
    with pytest.raises(CompositionError, match="'nli' and 'pos' were trained with different tokenizers"):
        compose(merge(world["nli"], other))
    silent = replace(world["pos"], base={**world["pos"].base, "tokenizer": None})
    assert compose(merge(silent, world["nli"])).base["tokenizer"] == world["nli"].base["tokenizer"]


def test_a_missing_member_is_named_with_the_closest_one(world: dict[str, TaskModule]) -> None:
    with pytest.raises(CompositionError, match="No module folder 'nlii'. Did you mean 'nli'"):
        compose("merge(nlii, ner)", known=world)


def test_a_bad_name_is_refused_before_anything_is_loaded(world: dict[str, TaskModule]) -> None:
    with pytest.raises(UsageError, match="lower-case"):
        compose("merge(nli, absent)", known=world, name="Not A Name")


def test_the_order_of_members_changes_no_lora_weight(world: dict[str, TaskModule], on: Backbone) -> None:
    tokens = rows(on)
    one, other = (scores(on, compose(text, known=world), tokens) for text in ("merge(nli, pos)", "merge(pos, nli)"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-6), ("fp64", 1e-12)])
def test_a_merge_is_the_dense_sum_at_every_site(dtype: str, tolerance: float, tiny_xlmr: Path) -> None:
    on = Backbone(tiny_xlmr, dtype=dtype, device="cpu")
    raw, settings = [], (
        LoRA(rank=4, alpha=3), LoRA(rank=3, alpha=9, sites=("query", "ffn_down"), layers=(1, 2)), LoRA(rank=1, alpha=2),
    )  # fmt: skip
    for seed, method in enumerate(settings):
        generator = torch.Generator().manual_seed(seed)
        part = method.build(f"m{seed}", on, generator, on.dtype)
        for weight in part.parameters():
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=on.dtype))
        raw.append(part)
    modules = [make_module(on, part.name, [part.folded()]) for part in raw]
    merged = compose(merge(*modules))
    (whole,) = join_frozen(merged.parts)
    assert isinstance(whole, LoRAPart) and whole.rank(1, "query") == 8 and whole.rank(0, "query") == 5
    for layer in range(on.layers):
        for site, path in SITES.items():
            weight = on.model.get_submodule(f"encoder.layer.{layer}.{path}").weight.double()
            expected = weight.clone()
            for part in raw:
                found = part.factors(layer, site)
                if found is not None:
                    expected += part.scale * found[1].double() @ found[0].double()
            a, b = whole.factors(layer, site) or (None, None)
            assert a is not None and b is not None
            difference = (weight + b.double() @ a.double() - expected).norm() / (expected - weight).norm()
            assert float(difference.detach()) <= tolerance, (layer, site)


def test_merge_and_stack_of_lora_compute_the_same(world: dict[str, TaskModule], on: Backbone) -> None:
    tokens = rows(on)
    merged, stacked = (compose(f"{name}(nli, ner, pos)", known=world) for name in ("merge", "stack"))
    assert torch.equal(scores(on, merged, tokens), scores(on, stacked, tokens))
    assert merged.digest() == stacked.digest()


def test_the_order_of_stacked_bottlenecks_matters(world: dict[str, TaskModule], on: Backbone) -> None:
    tokens = rows(on)
    one, other = (scores(on, compose(text, known=world), tokens) for text in ("stack(one, two)", "stack(two, one)"))
    assert float((one - other).abs().max()) > 1e-4


def test_a_saved_composition_is_a_member_like_any_other(world: dict[str, TaskModule], tmp_path: Path) -> None:
    for name in ("nli", "ner"):
        world[name].save(tmp_path / "my modules" / name)
    text = f'merge("{tmp_path}/my modules/nli", "{tmp_path}/my modules/ner")'
    merged = compose(text)
    assert str(parse(text)) == text and merged.composition == "merge(nli, ner)"  # names, not folders
    merged.save(tmp_path / "merged")
    again = compose(merge(tmp_path / "merged", world["pos"]))
    assert names(again) == ["nli", "ner", "pos"]
    assert load(tmp_path / "merged").notes == merged.notes
