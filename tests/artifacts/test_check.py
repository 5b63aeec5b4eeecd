"""`check_folder` says whether a module folder is exactly what its manifest says, without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import LAYOUTS
from sealing import edit_manifest

from adapterxl.artifacts import load, read_manifest, store
from adapterxl.artifacts.check import check_folder
from adapterxl.artifacts.files import Folder
from adapterxl.artifacts.manifest import FORMAT, parse_manifest, seal
from adapterxl.artifacts.strict_json import canonical
from adapterxl.errors import ArtifactError

Saved = Callable[..., Path]
WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_every_layout_is_what_its_manifest_says(layout: str, saved: Saved) -> None:
    folder = saved(layout)
    manifest = check_folder(folder)
    assert manifest == read_manifest(folder) and manifest.format == FORMAT
    assert manifest.tensors.keys() == {name for name in manifest.files if name.endswith(".safetensors")}
    for part in manifest.parts:
        assert part.sites and part.layers is not None


def test_it_needs_no_torch(saved: Saved) -> None:
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['safetensors'] = None\n"
        "from adapterxl.artifacts.check import check_folder; print(check_folder(sys.argv[1]).name)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(saved())], capture_output=True, text=True)
    assert done.stdout.strip() == "module", done.stderr


def test_a_card_images_and_the_clients_cache_may_lie_beside_a_module_and_nothing_else(saved: Saved) -> None:
    folder = saved()
    (folder / ".cache/huggingface").mkdir(parents=True)
    for name in ("README.md", ".gitattributes", "plot.PNG", ".cache/huggingface/x.metadata"):
        (folder / name).write_bytes(b"x")
    check_folder(folder)
    for name in ("pytorch_model.bin", "modeling.py", "parts/plot.png", "notes.txt", "sub/.cache/x", ".hidden"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        with pytest.raises(ArtifactError, match="is not in adapterxl.json"):
            check_folder(folder)
        path.unlink()
        for parent in path.relative_to(folder).parents:
            if parent != Path("."):
                (folder / parent).rmdir()
    (folder / "empty").mkdir()
    with pytest.raises(ArtifactError, match="a folder with nothing in it"):
        check_folder(folder)


@pytest.mark.parametrize("name", [store.MANIFEST, WEIGHTS, "README.md"])
@pytest.mark.parametrize("kind", ["fifo", "link", "dangling", "folder", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(name: str, kind: str, saved: Saved, tmp_path: Path) -> None:
    folder = saved()
    path = folder / name
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").write_text("a card")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, 0o140600)
    else:
        path.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "absent"))
    with pytest.raises(ArtifactError, match=r"regular file|nothing in it"):
        check_folder(folder)


def test_a_file_is_never_read_beyond_the_size_that_the_manifest_says(saved: Saved) -> None:
    folder = saved()
    with (folder / WEIGHTS).open("r+b") as stream:
        stream.truncate(1 << 40)  # sparse: reading it would need a terabyte
    with pytest.raises(ArtifactError, match=r"found 1099511627776 bytes, expected \d+"):
        check_folder(folder)


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = saved("lora", name="old"), saved("bottleneck", name="new")
    read = Folder.read

    def replacing(self: Folder, name: str, most: int, size: int | None = None) -> bytes:
        if name == WEIGHTS and new.is_dir():
            old.rename(tmp_path / "gone")
            new.rename(old)
            shutil.rmtree(tmp_path / "gone")
        return read(self, name, most, size)

    monkeypatch.setattr(Folder, "read", replacing)
    assert check_folder(old).name == "new"


def test_a_manifest_is_read_in_its_one_spelling_and_with_its_own_digest_only(saved: Saved) -> None:
    folder = saved()
    path = folder / store.MANIFEST
    content = path.read_bytes()
    assert parse_manifest(content, path).dump() == content
    told = json.loads(content)
    path.write_text(json.dumps(told))
    with pytest.raises(ArtifactError, match="not in canonical JSON"):
        check_folder(folder)
    path.write_bytes(canonical(told | {"notes": ["other"]}))
    with pytest.raises(ArtifactError, match="digest: not that of the content"):
        check_folder(folder)
    path.write_bytes(canonical(seal(told | {"notes": ["other"]})))
    assert check_folder(folder).notes == ("other",)


def test_older_formats_are_read_newer_ones_and_unknown_fields_refused_and_x_fields_left_out(saved: Saved) -> None:
    folder = saved()
    path = folder / store.MANIFEST
    edit_manifest(folder, lambda told: told.update(x_mine={"any": ["thing"]}))
    assert load(folder).name == "module"

    def first_format(told: dict[str, object]) -> None:
        for field in ("digest", "tensors", "x_mine"):
            told.pop(field)
        told["format"] = 1

    edit_manifest(folder, first_format)
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=3))  # in any spelling
    assert load(folder).name == "module" and check_folder(folder).format == 1
    edit_manifest(folder, lambda told: told.update(surprise=1))
    with pytest.raises(ArtifactError, match="surprise: Extra inputs"):
        load(folder)
    edit_manifest(folder, lambda told: (told.pop("surprise"), told.update(format=FORMAT + 1)))
    with pytest.raises(ArtifactError, match=f"format: found {FORMAT + 1}, .* reads 1 to {FORMAT}. Update adapterxl"):
        load(folder)
