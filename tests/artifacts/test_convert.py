"""Pickled weights are opened by another process only, as tensors only; a hostile one is refused and nothing runs."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import adapters
import peft
import pytest
import torch
from foreign import adapter_model, difference, peft_model

from adapterxl.artifacts import import_folder
from adapterxl.artifacts.convert import convert
from adapterxl.backbone import Backbone
from adapterxl.cli import main
from adapterxl.errors import ArtifactError


@pytest.fixture(scope="module")
def pickled(tiny_xlmr: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An AdapterHub folder as the library writes it unless told otherwise, with its model."""
    folder, on = tmp_path_factory.mktemp("pickled") / "their", Backbone(tiny_xlmr, device="cpu")
    model = adapter_model(on, {"their": adapters.SeqBnConfig()}, "tag")
    model.save_adapter(str(folder), "their")
    return folder, model


def test_a_pickled_folder_is_named_with_the_command_and_imported_once_converted(
    pickled: tuple[Path, Any], xlmr: Backbone, tmp_path: Path
) -> None:
    folder, model = pickled
    with pytest.raises(
        ArtifactError, match=f"pytorch_adapter.bin: pickle .* never read.*adapterxl convert {folder} --out"
    ):
        import_folder(folder, on=xlmr)
    assert main(["convert", str(folder), "--out", str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "adapter.safetensors", "model_head.safetensors", "adapter_config.json", "head_config.json"
    }  # fmt: skip
    assert difference(xlmr, import_folder(tmp_path / "new", on=xlmr), model) <= 1e-5


def test_pickled_peft_folders_and_setups_are_converted(
    xlmr: Backbone, pickled: tuple[Path, Any], tmp_path: Path
) -> None:
    model = peft_model(xlmr, peft.LoraConfig(task_type="TOKEN_CLS", target_modules=["query"]))
    model.save_pretrained(tmp_path / "peft", safe_serialization=False)
    assert convert(tmp_path / "peft", tmp_path / "new") == ["adapter_model.bin"]
    assert difference(xlmr, import_folder(tmp_path / "new", on=xlmr), model) <= 1e-5
    (tmp_path / "setup").mkdir()
    shutil.copytree(pickled[0], tmp_path / "setup" / "their")
    (tmp_path / "setup" / "adapter_setup.json").write_text(
        '{"adapter_setup": {"type": "single", "children": ["their"]}, "head_setup": null}'
    )
    assert len(convert(tmp_path / "setup", tmp_path / "new-setup")) == 2
    assert difference(xlmr, import_folder(tmp_path / "new-setup", on=xlmr), pickled[1]) <= 1e-5


class _Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "raw", "list", "names", "damaged"])
def test_what_holds_more_than_tensors_is_refused_and_nothing_runs(
    form: str, pickled: tuple[Path, Any], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pickled[0], tmp_path / "evil"))
    target, mark = folder / "pytorch_adapter.bin", tmp_path / "mark"
    evil = {"weight": torch.ones(2), "evil": _Evil(f"touch {mark}")}
    if form == "raw":
        target.write_bytes(pickle.dumps(evil))
    elif form == "damaged":
        target.write_bytes(target.read_bytes()[:100])
    else:
        content = {"list": [torch.ones(2)], "names": {1: torch.ones(2)}}.get(form, evil)
        torch.save(content, target, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(
        ArtifactError, match="pytorch_adapter.bin: cannot be converted: .*Nothing of it was run"
    ) as caught:
        convert(folder, tmp_path / "new")
    assert "\n" not in str(caught.value) and not mark.exists() and not (tmp_path / "new").exists()
    if form in ("zip", "legacy", "raw"):
        if form == "raw":
            pickle.loads(target.read_bytes())
        else:
            torch.load(target, weights_only=False)
        assert mark.exists()  # who opens it otherwise, runs it


def test_the_converter_imports_nothing_of_ours_and_ours_opens_no_pickle() -> None:
    import adapterxl.artifacts

    folder = Path(adapterxl.artifacts.__file__).parent
    script = (folder / "convert_bin.py").read_text(encoding="utf-8")
    assert "import adapterxl" not in script and "from adapterxl" not in script and "from ." not in script
    assert script.count("torch.load(") == script.count("weights_only=True") == 1
    assert not any("torch.load" in path.read_text(encoding="utf-8") for path in folder.glob("*.py")
                   if path.name != "convert_bin.py")  # fmt: skip


def test_what_cannot_be_converted_is_said(pickled: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No folder"):
        convert(tmp_path / "absent", tmp_path / "new")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="nothing to convert"):
        convert(tmp_path / "empty", tmp_path / "new")
    both = Path(shutil.copytree(pickled[0], tmp_path / "both"))
    (both / "adapter.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="adapter.safetensors is there too"):
        convert(both, tmp_path / "new")
    linked = Path(shutil.copytree(pickled[0], tmp_path / "linked"))
    (linked / "pytorch_adapter.bin").rename(tmp_path / "elsewhere")
    (linked / "pytorch_adapter.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="not a regular file"):
        convert(linked, tmp_path / "new")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    with pytest.raises(ArtifactError, match="it is left as it is"):
        convert(pickled[0], tmp_path / "mine")
    assert not (tmp_path / "new").exists()
