"""fuse: what it takes and refuses, in Python and as text; an untrained fusion goes nowhere but into a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import make_module, make_part
from typer.testing import CliRunner

from adapterxl import evaluate, fuse, merge, parse, stack
from adapterxl.artifacts import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.cli import app
from adapterxl.errors import CompositionError
from adapterxl.modules import Bottleneck, FusionPart, LoRA
from adapterxl.operators import OPERATORS, compose

DELTA = sorted(set(OPERATORS) - {"merge", "stack", "fuse"})
UNTRAINED = ("fuse(nli, pos)", "stack(one, fuse(nli, pos))", "stack(fuse(one, two), fuse(nli, pos))")


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def world(on: Backbone) -> dict[str, TaskModule]:
    """nli; ner, trained on nli; pos, alone; bottlenecks; a head alone; a trained fusion with a part on top."""
    import torch

    nli = make_part(LoRA(rank=4), "nli", on, 1)
    ner = make_part(LoRA(rank=3, sites=("query",)), "ner", on, 2, [nli])
    pos = make_part(LoRA(rank=2), "pos", on, 3)
    one, two = (make_part(Bottleneck(), name, on, seed) for name, seed in (("one", 4), ("two", 5)))
    wide = make_part(Bottleneck(variant="double_seq_bn"), "wide", on, 6)
    begun = FusionPart("done", [[nli], [pos]], ["nli", "pos"], "lowrank").begun(on, torch.Generator(), on.dtype)
    done = begun.finished({})
    top = make_part(LoRA(rank=2), "top", on, 7, [done])
    found = {"nli": [nli], "ner": [nli, ner], "pos": [pos], "one": [one], "two": [two], "wide": [wide], "bare": []}
    return {name: make_module(on, name, parts) for name, parts in (found | {"done": [done, top]}).items()}


def test_a_fusion_has_one_text_in_python_and_everywhere_else() -> None:
    assert str(fuse("a", "b")) == "fuse(a, b)" == str(parse("fuse(a, b, kind=lowrank, rank=3)"))
    assert fuse("a", "b", kind="adapterfusion") == parse("fuse(a, b, kind=adapterfusion)")
    assert str(fuse("a", merge("b", "c"), rank=2)) == "fuse(a, merge(b, c), rank=2)"
    assert hash(fuse("a", "b", rank=2)) == hash(parse(" fuse( a,b,rank = 2 )")) != hash(fuse("a", "b"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fuse(a)", "fuse takes at least 2 members, found 1. Use a single module as it is"),
        ("fuse(a, fuse(b, c))", r"a fusion is not fused again. Fuse all members at once: fuse\(a, b, c\)"),
        ("merge(a, fuse(b, c))", r"Put the fusion last: stack\(..., fuse\(...\)\)"),
        *((f"{name}(fuse(b, c))", "Put the fusion last") for name in DELTA),
        ("fuse(a, b, kind=full)", "kind: found full, expected one of lowrank, adapterfusion"),
        ("fuse(a, b, rank=0)", "rank: found 0, expected a whole number from 1"),
        ("fuse(a, b, rank=2.5)", "rank: found 2.5"),
        ("fuse(a, b, kind=adapterfusion, rank=4)", "kind=adapterfusion has full matrices and no rank. Leave rank out"),
        ("fuse(a, b, width=2)", "fuse has no option 'width'"),
    ],
)
def test_what_cannot_work_is_refused_as_soon_as_it_is_written(text: str, said: str) -> None:
    with pytest.raises(CompositionError, match=said) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "kind", "said"),
    [
        (("nli", "bare"), None, "'bare' has nothing to combine: it is a head alone. Leave it out"),
        (("nli", "nli"), None, "'nli' is there twice"),
        (("pos", "done"), None, r"'done' holds a fusion.*fuse\(a, b, c\), or train on top of it: stack"),
        (("nli", "pos"), "adapterfusion", "found: lora. Use kind=lowrank"),
        (("one", "nli"), "adapterfusion", "found: lora. Use kind=lowrank"),
        (("one", "wide"), "adapterfusion", "not. Use kind=lowrank"),
    ],
)
def test_members_that_do_not_fit_are_refused_in_python_and_from_names(
    members: tuple[str, ...], kind: str | None, said: str, world: dict[str, TaskModule]
) -> None:
    with pytest.raises(CompositionError, match=said):
        fuse(*(world[name] for name in members), kind=kind)
    with pytest.raises(CompositionError, match=said):
        compose(fuse(*members, kind=kind), known=world, untrained=True)


def test_modules_that_share_no_place_are_refused_with_stack_named(world: dict[str, TaskModule]) -> None:
    with pytest.raises(CompositionError, match="no two of its members .nli, one. act at the same place.* Use stack"):
        compose(fuse(world["nli"], world["one"]), untrained=True)


@pytest.mark.parametrize("operator", sorted(set(OPERATORS) - {"stack", "fuse"}))
def test_a_module_that_holds_a_fusion_is_refused_where_weights_are_combined(
    operator: str, world: dict[str, TaskModule]
) -> None:
    with pytest.raises(CompositionError, match="'done' holds a fusion.*Put the fusion last"):
        compose(f"{operator}(done)", known=world)


def test_a_member_brings_all_its_parts_in_order_and_says_other_company(world: dict[str, TaskModule]) -> None:
    module = compose(fuse(world["ner"], world["pos"], merge(world["pos"], world["ner"])), untrained=True)
    (part,) = module.parts
    assert isinstance(part, FusionPart) and not part.trained and part.labels == ("ner", "pos", "merge(pos, ner)")
    assert [[one.name for one in parts] for parts in part.members] == [["nli", "ner"], ["pos"], ["pos", "nli", "ner"]]
    assert module.composition == "fuse(ner, pos, merge(pos, ner))"
    assert [note for note in module.notes if "was trained on" in note] == [
        "'nli' was trained on the plain backbone and here follows pos.",
        "'ner' was trained on nli and here follows pos, nli.",
    ]
    assert any("Heads not taken along: ner (tag), pos (tag)" in note for note in module.notes)
    with pytest.raises(CompositionError, match="without --strict"):
        compose(module.composition, known=world, untrained=True, strict=True)
    assert compose(fuse(world["ner"], world["pos"]), untrained=True, strict=True).notes


@pytest.mark.parametrize("text", UNTRAINED)
def test_an_untrained_fusion_is_composed_by_training_alone(
    text: str, world: dict[str, TaskModule], on: Backbone
) -> None:
    said = r"has not been trained.*adapterxl train TASK --start '.*fuse.*' --method none"
    with pytest.raises(CompositionError, match=said):
        compose(text, known=world)
    with pytest.raises(CompositionError, match=said):
        evaluate(fuse(world["nli"], world["pos"]), on=on, task="mini_bitext", progress=False)
    part = compose(text, known=world, untrained=True).parts[-1]
    assert part.made_of and part.made_of["operator"] == "fuse"  # so nobody says that it was trained elsewhere


def test_compose_refuses_it_in_one_line_and_writes_nothing(world: dict[str, TaskModule], tmp_path: Path) -> None:
    for name in ("nli", "pos"):
        world[name].save(tmp_path / name)
    text = f'fuse("{tmp_path}/nli", "{tmp_path}/pos")'
    done: Any = CliRunner().invoke(app, ["compose", text, "--out", str(tmp_path / "out")])
    assert done.exit_code != 0 and not (tmp_path / "out").exists()
    assert "adapterxl train TASK --start" in str(done.exception or done.output)


def test_a_trained_fusion_is_stacked_with_its_weights(world: dict[str, TaskModule]) -> None:
    done = world["done"].parts[0]
    module = compose(stack(world["done"], world["one"]))
    assert [part.name for part in module.parts] == ["done", "top", "one"]
    assert module.parts[0] is done and module.parts[0].digest() == done.digest()
    assert [note for note in module.notes if "'top'" in note] == []
