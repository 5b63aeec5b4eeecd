"""Damaged, foreign and hostile folders are refused in one line, and nothing in the way is ever lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import LAYOUTS, parts_of
from safetensors.torch import load_file, save_file
from samples import make_module
from sealing import edit_manifest, mend

from adapterxl import durable
from adapterxl.artifacts import inspect, load, store
from adapterxl.artifacts.manifest import read_manifest
from adapterxl.backbone import Backbone
from adapterxl.engines import verify
from adapterxl.errors import ArtifactError, CompositionError, UsageError
from adapterxl.modules import LoRAPart

Saved = Callable[..., Path]
WEIGHTS = "adapter_model.safetensors"


def change(folder: Path, file: str, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a file, with its digest in the manifest mended."""
    tensors = load_file(folder / file)
    edit(tensors)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    mend(folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_changed_byte_in_any_file_is_refused(layout: str, saved: Saved) -> None:
    folder = saved(layout)
    for name in read_manifest(folder).files:
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(ArtifactError, match=r"sha256 is not the one"):
            load(folder)
        (folder / name).write_bytes(before)
    load(folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cut_or_missing_file_is_refused(layout: str, saved: Saved) -> None:
    folder = saved(layout)
    for name in read_manifest(folder).files:
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before[: len(before) // 2])
        with pytest.raises(ArtifactError, match=r"found \d+ bytes, expected \d+"):
            load(folder)
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match="not found"):
            load(folder)
        (folder / name).write_bytes(before)


def test_a_link_in_the_folder_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = saved("lora")
    (folder / WEIGHTS).rename(tmp_path / "elsewhere")
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="not a regular file"):
        load(folder)
    mixed = saved("mixed", name="mixed")
    (mixed / "parts").rename(tmp_path / "parts")
    (mixed / "parts").symlink_to(tmp_path / "parts")
    with pytest.raises(ArtifactError, match="not a regular file"):
        load(mixed)


def test_a_linked_manifest_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = saved("lora")
    (folder / store.MANIFEST).rename(tmp_path / "elsewhere.json")
    (folder / store.MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ArtifactError, match="not a regular file"):
        load(folder)


EXTRA = "base_model.model.roberta.encoder.layer.0.attention.self.query.lora_%s.weight"


def _more_ranks(tensors: dict[str, torch.Tensor]) -> None:
    a, b = EXTRA % "A", EXTRA % "B"
    tensors[a] = torch.cat((tensors[a], tensors[a][:1]))
    tensors[b] = torch.cat((tensors[b], tensors[b][:, :1]), dim=1).contiguous()


def _more_sites(tensors: dict[str, torch.Tensor]) -> None:
    for letter in "AB":
        name = EXTRA.replace("layer.0.attention.self.query", "layer.2.attention.output.dense") % letter
        tensors[name] = tensors[EXTRA % letter].clone()


@pytest.mark.parametrize(
    ("layout", "file", "edit", "said"),
    [
        ("lora", WEIGHTS, lambda t: t.update(other=torch.ones(2)), "other has no place"),
        ("lora-sequence", WEIGHTS, _more_ranks, "layer 0, query: ranks that belong to no part"),
        ("lora-one-site", WEIGHTS, lambda t: t.update({EXTRA % "A": torch.ones(1, 32), EXTRA % "B": torch.ones(32, 1)}),
         "layer 0, query: ranks that belong to no part"),
        ("lora", WEIGHTS, lambda t: t.pop(EXTRA % "A"), "found only lora_B"),
        ("lora", WEIGHTS, lambda t: (t.pop(EXTRA % "A"), t.pop(EXTRA % "B")), "are not in the weights"),
        ("lora", WEIGHTS, lambda t: t.pop("base_model.model.classifier.dense.bias"), "head weight .* is missing"),
        ("lora", WEIGHTS, lambda t: t[EXTRA % "A"].add_(1), "part 'nli' is not the one"),
        ("lora", WEIGHTS, lambda t: t[EXTRA % "B"][0].fill_(float("nan")), "not finite"),
        ("lora", WEIGHTS, lambda t: t["base_model.model.classifier.dense.bias"].add_(1), "the head is not the one"),
        ("bottleneck", "adapter.safetensors", lambda t: t.update(other=torch.ones(2)), "other has no place"),
        ("bottleneck", "adapter.safetensors", lambda t: t.pop(sorted(t)[0]), "1 tensors missing"),
        ("bottleneck", "adapter.safetensors", lambda t: t[sorted(t)[0]].add_(1), "part 'nli' is not the one"),
        ("bottleneck", "model_head.safetensors", lambda t: t.update(other=torch.ones(2)), "other has no place"),
        ("stack", "nli_2/model_head.safetensors", lambda t: t[sorted(t)[0]].add_(1), "the head is not the one"),
        ("mixed", "head.safetensors", lambda t: t.update(other=torch.ones(2)), "other has no place"),
        ("mixed", "head.safetensors", lambda t: t.pop("classifier.dense.bias"), "head weight .* is missing"),
        ("mixed", "parts/ner/adapter_model.safetensors", lambda t: t[min(t)].add_(1), "part 'ner' is not the one"),
    ],
)  # fmt: skip
def test_other_tensors_are_refused_even_when_the_files_digest_was_mended(
    layout: str, file: str, edit: Callable[[dict[str, torch.Tensor]], Any], said: str, saved: Saved, xlmr: Backbone
) -> None:
    folder = saved(layout)
    change(folder, file, edit)
    with pytest.raises(ArtifactError, match=said):
        load(folder)
    with pytest.raises(ArtifactError, match=said):
        verify(folder, on=xlmr, against="peft")


def test_a_vanilla_config_that_says_something_else_is_refused(saved: Saved) -> None:
    folder = saved("lora")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": config["r"] * 2}))
    with pytest.raises(ArtifactError, match=r"bytes, expected|sha256"):
        load(folder)
    mend(folder)
    with pytest.raises(ArtifactError, match="adapter_config.json: lora_alpha: found 8, expected 4"):
        load(folder)


def test_a_file_that_is_not_safetensors_is_refused(saved: Saved) -> None:
    folder = saved("lora")
    (folder / WEIGHTS).write_bytes(b"\x80\x04pickle")
    mend(folder)
    with pytest.raises(ArtifactError, match="not safetensors"):
        load(folder)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda m: m.update(format=3), "format: found 3, this adapterxl reads 1 to 2"),
        (lambda m: m.update(format=True), "format"),
        (lambda m: m.pop("base"), "base: Field required"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.update(name="../up"), "name"),
        (lambda m: m.update(layout="zip"), "layout"),
        (lambda m: m["base"].update(model_type="gpt2"), "base.model_type"),
        (lambda m: m["base"].update(fingerprint="abc"), "base.fingerprint"),
        (lambda m: m["head"].update(kind="poetry"), "head.kind"),
        (lambda m: m["head"].update(labels=["x", "y"]), "classifier.out_proj.bias: found .3,., expected .2,."),
        (lambda m: m["head"].update(labels=["z", "y", "x"]), "the head is not the one"),
        (lambda m: m["head"].update(file="../model.safetensors"), "head.file"),
        (lambda m: m["head"]["keys"].pop("classifier.dense.bias"), "classifier.dense.bias: found none"),
        (lambda m: m["files"].update({"/etc/hostname": {"size": 1, "sha256": "0" * 64}}), "files"),
        (lambda m: m["files"].update({"a/../b": {"size": 1, "sha256": "0" * 64}}), "files"),
        (lambda m: m["files"].pop(WEIGHTS), "is not in adapterxl.json"),
        (lambda m: m["parts"][0].update(kind="prompt"), "parts.0.kind"),
        (lambda m: m["parts"][0]["ranks"].update({"0.query": [0, 99]}), "ranks 0 to 99"),
        (lambda m: m["parts"][0]["ranks"].update({"0.nowhere": [0, 1]}), "0.nowhere"),
        (lambda m: m["parts"][0]["ranks"].update({"query": [0, 1]}), "parts.0.ranks"),
        (lambda m: m["parts"][1]["ranks"].update({"1.query": [0, 3]}), "do not follow"),
        (lambda m: m.update(parts=m["parts"][:1]), "ranks that belong to no part"),
        (lambda m: m.update(parts=m["parts"][::-1]), "do not follow"),
        (lambda m: m["parts"][0].update(digest="0" * 64), "digest differs"),
        (lambda m: m["parts"][0].update(where="../other"), "parts.0.where"),
        (lambda m: m["parts"][0].update(where="other"), "is used but not listed"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_field(
    edit: Callable[[dict[str, Any]], Any], said: str, saved: Saved
) -> None:
    folder = saved("lora-sequence")
    edit_manifest(folder, edit)
    with pytest.raises(ArtifactError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', "\xff"])
def test_an_unreadable_manifest_is_refused(content: str, saved: Saved) -> None:
    folder = saved("lora")
    (folder / store.MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtifactError, match=store.MANIFEST):
        load(folder)


def test_what_is_no_module_folder_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No module folder"):
        load(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="not a module folder"):
        load(tmp_path)


def test_weights_that_are_not_finite_are_never_written(xlmr: Backbone, tmp_path: Path) -> None:
    module = make_module(xlmr, "module", parts_of("lora", xlmr))
    part = module.parts[0]
    assert isinstance(part, LoRAPart)
    with torch.no_grad():
        part.b["0_query"][0, 0] = float("inf")
    with pytest.raises(ArtifactError, match="not finite"):
        module.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_inspect_tells_parts_base_and_digest(saved: Saved) -> None:
    told = dict(inspect(saved("lora-sequence")))
    assert told["layout"] == "peft" and told["digest"] == load(saved("lora-sequence", name="b")).digest()
    assert "trained on 2 earlier part(s)" in told["part pos"] and "layers 0-1" in told["part pos"]


def test_a_part_is_found_by_its_one_name(saved: Saved) -> None:
    module = load(saved("lora-sequence"))
    with pytest.raises(CompositionError, match="has 0 parts named 'nil'; its parts: nli, ner, pos"):
        module.part("nil")


def test_repeated_and_long_part_names_are_told_apart(xlmr: Backbone, tmp_path: Path) -> None:
    parts = parts_of("stack", xlmr)
    for part in parts:
        part.name = "n" * 64
    make_module(xlmr, "module", parts).save(tmp_path / "m")
    names = [part.name for part in load(tmp_path / "m").parts]
    assert len(set(names)) == 3 and all(len(name) <= 64 for name in names)


def test_what_is_in_the_way_is_left_alone(saved: Saved, tmp_path: Path) -> None:
    module = load(saved("lora"))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for target, said in (
        ("file", "not a module folder"),
        ("folder", "not a module folder"),
        ("link", "is a link"),
        ("file/below", "is a file"),
        ("file/far/below", "is a file"),
    ):
        for overwrite in (False, True):
            with pytest.raises(ArtifactError, match=said):
                module.save(tmp_path / target, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link", "module"]


def test_a_module_is_replaced_only_when_asked(saved: Saved, tmp_path: Path) -> None:
    folder = saved("lora")
    other = load(saved("bottleneck", name="other"))
    with pytest.raises(ArtifactError, match="--overwrite"):
        other.save(folder)
    other.save(folder, overwrite=True)
    assert load(folder).digest() == other.digest()
    assert not (folder / WEIGHTS).exists()
    (tmp_path / "empty").mkdir()
    other.save(tmp_path / "empty")
    assert load(tmp_path / "empty").digest() == other.digest()


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("failure", [OSError("disk"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("nth, there", [(1, False), (1, True), (2, True), (3, True)])
def test_a_save_that_breaks_off_leaves_the_old_module_or_none(
    failure: BaseException, nth: int, there: bool, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = load(saved("bottleneck", name="new"))
    target = saved("lora", name="target") if there else tmp_path / "target"
    before, names = _contents(tmp_path), sorted(p.name for p in tmp_path.iterdir())
    rename, calls = os.rename, []
    monkeypatch.setattr(durable, "_exchange", lambda one, other: False)

    def failing(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        if len(calls) == nth:
            raise failure
        rename(*arguments, **options)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(ArtifactError if isinstance(failure, OSError) else KeyboardInterrupt):
        new.save(target, overwrite=True)
    assert _contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_save_that_breaks_off_while_files_are_written_leaves_nothing(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = load(saved("mixed"))
    count = []

    def failing(descriptor: int) -> None:
        count.append(descriptor)
        if len(count) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ArtifactError, match="No space left on device"):
        new.save(tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["module"]


def test_a_module_cannot_be_saved_under_a_name_that_is_none(saved: Saved, tmp_path: Path) -> None:
    module = replace(load(saved("lora")), name="Not A Name")
    with pytest.raises(UsageError, match="'Not A Name'"):
        module.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_store_works_without_torch() -> None:
    script = "import sys; sys.modules['torch'] = None; import adapterxl.artifacts.store"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
