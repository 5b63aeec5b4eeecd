"""`verify_deep` walks a module's ancestors by digest and makes again what operators made; what was changed is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from layouts import parts_of
from samples import make_module, make_part
from sealing import edit_manifest

from adapterxl.artifacts import TaskModule, load, read_manifest
from adapterxl.backbone import Backbone
from adapterxl.errors import ArtifactError
from adapterxl.modules import LoRA, LoRAPart
from adapterxl.operators import add, average, compose, dare, merge, prune, stack, svd, ties
from adapterxl.operators.lineage import verify_deep

Folder = Callable[..., Path]


@pytest.fixture
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture
def store(on: Backbone, tmp_path: Path) -> Path:
    """Three trained modules in a folder."""
    for seed, name in enumerate(("nli", "ner", "pos")):
        make_module(on, name, [make_part(LoRA(rank=2 + seed), name, on, seed)]).save(tmp_path / name)
    return tmp_path


def made(expression: object, out: Path, name: str) -> TaskModule:
    return compose(expression, name=name).save(out / name)  # type: ignore[arg-type]


def test_a_composition_records_its_parents_by_digest_and_what_was_made_on_the_way(store: Path) -> None:
    made(merge(average(store / "nli", store / "ner", weights=[1, 3]), store / "pos"), store, "both")
    lineage = read_manifest(store / "both").lineage
    assert lineage is not None and lineage.operator == "merge"
    first, second = lineage.parents
    assert first.made is not None and first.made.operator == "average" and first.made.options == {"weights": [1, 3]}
    assert [one.digest for one in first.made.parents] == [load(store / n).digest() for n in ("nli", "ner")]
    assert (second.name, second.digest) == ("pos", load(store / "pos").digest())
    assert load(store / "both").lineage == load(load(store / "both").save(store / "again").path).lineage  # type: ignore[arg-type]


def test_concatenations_are_made_again_bit_for_bit_and_the_others_within_a_tolerance(store: Path) -> None:
    nli, ner = store / "nli", store / "ner"
    for name, expression in {
        "merge": merge(nli, ner), "stack": stack(nli, ner), "add": add(nli, ner, weights=[1, -1]),
        "average": average(nli, ner), "svd": svd(merge(nli, ner), rank=2), "ties": ties(nli, ner),
        "dare": dare(nli, ner), "prune": prune(nli),
    }.items():  # fmt: skip
        made(expression, store, name)
        lines = verify_deep(store / name)
        assert any("made again, equal" in line for line in lines), name
        assert f"{store / name}: its weights are its parts', bit for bit" in lines
        assert f"{nli}: its weights are its parts', bit for bit" in lines  # parents are walked too


def test_a_changed_grandparent_is_named(store: Path, on: Backbone) -> None:
    made(merge(store / "nli", store / "ner"), store, "two")
    made(svd(store / "two", rank=3), store, "small")
    assert len(verify_deep(store / "small")) == 8  # of each of the four: its weights, and where they are from
    make_module(on, "nli", [make_part(LoRA(rank=2), "nli", on, 99)]).save(store / "nli", overwrite=True)
    with pytest.raises(
        ArtifactError, match=r"its parent 'nli' \(.*an ancestor of 'small' by small <- two, was changed"
    ):
        verify_deep(store / "small")
    shutil.rmtree(store / "nli")
    with pytest.raises(ArtifactError, match=r"'nli' .* is not here. Name a folder .*--among"):
        verify_deep(store / "small")


def test_a_damaged_parent_is_named(store: Path) -> None:
    made(merge(store / "nli", store / "ner"), store, "two")
    path = store / "ner/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"its parent 'ner' .* is damaged: .*sha256"):
        verify_deep(store / "two")


def test_weights_that_the_parents_do_not_give_are_refused(store: Path, on: Backbone) -> None:
    honest = made(average(store / "nli", store / "ner"), store, "mean")
    part = honest.parts[0]
    assert isinstance(part, LoRAPart)
    with torch.no_grad():
        part.b["1_query"].mul_(1 + 1e-3)
    honest.save(store / "mean", overwrite=True)
    with pytest.raises(ArtifactError, match=r"average of 'nli', 'ner': layer 1, query: delta W differs by 1.0e-03"):
        verify_deep(store / "mean")
    made(merge(store / "nli", store / "ner"), store, "two")
    lie = {"operator": "merge", "parents": [load(store / n).as_parent() for n in ("nli", "pos")]}
    edit_manifest(store / "two", lambda told: told.update(lineage=lie))
    with pytest.raises(ArtifactError, match="merge of 'nli', 'pos' gives another part 'pos' than the 'ner' in it"):
        verify_deep(store / "two")
    lie = {"operator": "os.system", "parents": lie["parents"]}
    edit_manifest(store / "two", lambda told: told.update(lineage=lie))
    with pytest.raises(ArtifactError, match=r"lineage.operator: found 'os.system', which is no operator"):
        verify_deep(store / "two")


def test_a_doras_vanilla_weights_are_made_again_with_the_backbone(store: Path, on: Backbone) -> None:
    plain = make_part(LoRA(rank=2), "dora", on, 5)
    assert isinstance(plain, LoRAPart)
    factors = {key: pair for key in plain.keys if (pair := plain.factors(*key)) is not None}
    part = LoRAPart("dora", factors, rows={key: 1 + torch.rand(len(pair[1])) for key, pair in factors.items()})
    make_module(on, "dora", [part]).save(store / "dora", on=on)
    assert "with --base only" in verify_deep(store / "dora")[0]
    assert "bit for bit" in verify_deep(store / "dora", on=on)[0]


def test_modules_without_recorded_parents_say_so(store: Path, on: Backbone) -> None:
    assert verify_deep(store / "nli")[-1] == f"{store / 'nli'}: was trained on the plain backbone"
    make_module(on, "b", parts_of("stack", on)).save(store / "b")
    assert len(verify_deep(store / "b", [store])) == 2
    with pytest.raises(ArtifactError, match="to look for parents in"):
        verify_deep(store / "b", [store / "absent"])
