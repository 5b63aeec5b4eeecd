"""AdapterFusion in folders that vanilla adapters wrote: imported it answers as the library does, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import pytest
from adapters.composition import AdapterCompositionBlock, Fuse, Stack
from foreign import adapter_model, difference, edit_json, edit_tensors, first, hugging_face, randomise

from adapterxl.artifacts import import_folder, load
from adapterxl.backbone import Backbone
from adapterxl.engines import to_adapters
from adapterxl.errors import ArtifactError
from adapterxl.modules import FusionPart

SETUP, CONFIG, WEIGHTS = "adapter_setup.json", "adapter_fusion_config.json", "model_adapter_fusion.safetensors"
SINGLE: dict[str, Any] = {
    "low": adapters.SeqBnConfig(reduction_factor=4),
    "One": adapters.SeqBnConfig(reduction_factor=8),
    "two": adapters.SeqBnConfig(reduction_factor=5),
    "upper": adapters.SeqBnConfig(reduction_factor=8, leave_out=[0]),
    "upper2": adapters.SeqBnConfig(reduction_factor=4, leave_out=[0]),
    "top": adapters.SeqBnConfig(reduction_factor=16),
    "par": adapters.ParBnConfig(),
}
SETUPS: dict[str, AdapterCompositionBlock] = {
    "alone": Fuse("One", "two"),
    "above": Stack("low", Fuse("One", "two")),
    "below": Stack(Fuse("One", "two"), "top"),
    "some layers": Fuse("upper", "upper2"),
    "between": Stack("low", Fuse("One", "two"), "top"),
}


def saved(on: Backbone, folder: Path, setup: AdapterCompositionBlock, *names: str) -> tuple[Path, Any]:
    """A setup folder of a model with the adapters of these names, and the model."""
    model = adapter_model(on, {name: SINGLE[name] for name in names}, "tag")
    for block in (setup, *setup.children):
        if isinstance(block, Fuse):
            model.add_adapter_fusion(block)
    model.set_active_adapters(setup)
    model.active_head = names[-1]
    randomise(model, 5)
    model.save_adapter_setup(str(folder), setup, head_setup=names[-1], use_safetensors=True)
    return folder, model


def written(on: Backbone, folder: Path, name: str = "alone") -> tuple[Path, Any]:
    return saved(on, folder, SETUPS[name], *SETUPS[name].flatten())


@pytest.mark.parametrize("name", SETUPS)
def test_a_fusion_comes_along_and_answers_as_in_the_library(name: str, on: Backbone, tmp_path: Path) -> None:
    folder, model = written(on, tmp_path / "theirs", name)
    module = import_folder(folder, on=on)
    part = next(part for part in module.parts if isinstance(part, FusionPart))
    assert part.trained and len(part.labels) == 2 and module.kind == "tag"
    assert [inner.name for member in part.members for inner in member] == [label.lower() for label in part.labels]
    assert difference(on, module, model) <= 1e-5
    module.save(tmp_path / "ours")
    assert load(tmp_path / "ours").digest() == module.digest()
    if isinstance(SETUPS[name], Fuse):  # what an AdapterHub setup of ours holds
        assert difference(on, module, to_adapters(module, on=on)) <= 1e-5


def test_a_fusion_of_a_bare_model_has_other_names_and_the_same_meaning(on: Backbone, tmp_path: Path) -> None:
    model = hugging_face(on, "")
    adapters.init(model)
    for name in ("One", "two"):
        model.add_adapter(name, config=SINGLE[name])
    model.add_adapter_fusion(Fuse("One", "two"))
    model.set_active_adapters(Fuse("One", "two"))
    randomise(model)
    model.save_adapter_setup(str(tmp_path / "theirs"), Fuse("One", "two"), use_safetensors=True)
    assert difference(on, import_folder(tmp_path / "theirs", on=on), model) <= 1e-5


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another formula": (
        lambda folder: edit_json(folder / "One,two" / CONFIG, config={"key": True, "query_before_ln": True}),
        "config: query_before_ln: found true, expected false",
    ),
    "an unknown field": (lambda folder: edit_json(folder / "One,two" / CONFIG, gate=1), "gate"),
    "other members": (
        lambda folder: edit_json(folder / "One,two" / CONFIG, adapter_names=["two", "One"]), "adapter_names: found"
    ),
    "another width": (lambda folder: edit_json(folder / "One,two" / CONFIG, hidden_size=7), "hidden_size: found 7"),
    "no weights": (lambda folder: (folder / "One,two" / WEIGHTS).unlink(), WEIGHTS),
    "a missing tensor": (
        lambda folder: edit_tensors(folder / "One,two" / WEIGHTS, lambda t: t.pop(first(t, ".layer.1.", "query.bias"))),
        "query.bias is missing",
    ),
    "an extra tensor": (
        lambda folder: edit_tensors(folder / "One,two" / WEIGHTS, lambda t: t.update(odd=t[first(t, "bias")] + 1)),
        "tensor odd has no place",
    ),
    "another shape": (
        lambda folder: edit_tensors(
            folder / "One,two" / WEIGHTS, lambda t: t.update({first(t, "key.weight"): t[first(t, "key.weight")][1:]})
        ),
        "key.weight: found",
    ),
    "a fusion of stacks": (
        lambda folder: edit_json(
            folder / SETUP,
            adapter_setup={"type": "Fuse", "children": [
                {"type": "Stack", "children": [{"type": "single", "children": [name]} for name in ("One", "two")]}]},
        ),
        "a Fuse of something else than two or more single adapters",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_fusion_that_would_be_computed_otherwise_is_refused_by_file_and_field(
    what: str, xlmr: Backbone, tmp_path: Path
) -> None:
    folder, _ = written(xlmr, tmp_path / "theirs")
    spoil, said = BAD[what]
    spoil(folder)
    with pytest.raises(ArtifactError, match=said) as error:
        import_folder(folder, on=xlmr)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_fusion_of_parallel_bottlenecks_is_refused(xlmr: Backbone, tmp_path: Path) -> None:
    folder, _ = saved(xlmr, tmp_path / "theirs", Fuse("One", "par"), "One", "par")
    with pytest.raises(ArtifactError, match="par_bn"):
        import_folder(folder, on=xlmr)
