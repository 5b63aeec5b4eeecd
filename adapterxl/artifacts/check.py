"""Is a module folder whole and what its manifest says? All of its files, without torch: see `check_folder`.

The order of checks: the manifest, the list of files, each file's size before it is read, its sha256 from the one
descriptor that it is read with, the header of tensors under its caps, its tensors one by one, finite values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ArtifactError
from .files import MOST_FILES, Folder
from .header import TensorInfo, check_finite, read_header, tensor_digests
from .manifest import Manifest, manifest_bytes, parse_manifest
from .store import MANIFEST, sha256
from .strict_json import short

MOST_BYTES = 1 << 33
CONFIGS = ("adapter_config.json", "head_config.json", "adapter_setup.json", "adapter_fusion_config.json")
_TEXTS = (".jsonl", ".md", ".txt", ".tsv", ".csv")
_BESIDE = ("README.md", ".gitattributes")
_IMAGES = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp")
_TRIES = 100


@dataclass(frozen=True)
class Checked:
    """A module folder that is what its manifest says.

    Attributes:
        files: The content of every file that the manifest lists, by name.
        headers: Of every safetensors file: name -> tensor.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    headers: Mapping[str, Mapping[str, TensorInfo]]


def check_folder(folder: str | Path) -> Manifest:
    """Check everything about a module folder that needs no torch, and give its manifest.

    Raises:
        ArtifactError: If the folder is not exactly what its manifest says: with the file, and the field or tensor.
    """
    return read_checked(folder).manifest


def read_checked(folder: str | Path) -> Checked:
    """As `check_folder`, with all that was read. A folder that a save replaces meanwhile is read again."""
    path = Path(folder)
    for left in range(_TRIES, 0, -1):
        with Folder(path) as opened:
            try:
                manifest = manifest_bytes(opened)
                names = {name for name in opened.names() if not is_beside(name)}
                return check_files(manifest, names, opened.read, path)
            except ArtifactError:
                if left == 1 or not opened.replaced:
                    raise
    raise AssertionError


def check_files(manifest: bytes, names: set[str], read: Callable[[str, int, int], bytes], where: Path) -> Checked:
    """The checks themselves, wherever the files are.

    Args:
        names: All files there are, but those that nobody minds.
        read: Name, most bytes and expected size -> content.
        where: The folder, for messages.
    """
    found = parse_manifest(manifest, where / MANIFEST)
    _check_list(found, names - {MANIFEST}, where)
    files: dict[str, bytes] = {}
    headers: dict[str, Mapping[str, TensorInfo]] = {}
    for name, entry in found.files.items():
        data = files[name] = read(name, MOST_BYTES, entry.size)
        if sha256(data) != entry.sha256:
            raise ArtifactError(f"{where / name}: its sha256 is not the one in {MANIFEST}. Fetch the module again.")
        if name.endswith(".safetensors"):
            header = headers[name] = read_header(data, where / name)
            if found.format > 1:
                _check_tensors(found, name, data, header, where)
            check_finite(data, header, where / name)
    return Checked(found, files, headers)


def _check_list(manifest: Manifest, names: set[str], where: Path) -> None:
    """Every file is listed, every listed file is there and of a kind that a module has."""
    at = where / MANIFEST
    total = sum(entry.size for entry in manifest.files.values())
    if len(manifest.files) > MOST_FILES or total > MOST_BYTES:
        raise ArtifactError(f"{at}: files: found {len(manifest.files):,} of {total:,} bytes, expected {MOST_FILES:,} "
                            f"of {MOST_BYTES:,} bytes at most.")  # fmt: skip
    for name in sorted(manifest.files):
        if not name.endswith((".safetensors", *_TEXTS)) and name.rpartition("/")[2] not in CONFIGS:
            raise ArtifactError(f"{at}: files: {short(name, 60)}: no kind of file that a module has.")
        if name not in names:
            raise ArtifactError(f"{where / name}: not found (or not a regular file); the module folder is not whole.")
    beyond = sorted(names - manifest.files.keys())
    if beyond:
        raise ArtifactError(
            f"{where / short(beyond[0], 60)}: is not in {MANIFEST}, which a module folder must not hold. Move it out."
        )
    if manifest.format > 1:
        said = {name for name in manifest.files if name.endswith(".safetensors")}
        odd = sorted(said ^ manifest.tensors.keys())
        if odd:
            raise ArtifactError(f"{at}: tensors: {short(odd[0], 60)}: is in only one of files and tensors.")


def _check_tensors(manifest: Manifest, name: str, data: bytes, header: Mapping[str, TensorInfo], where: Path) -> None:
    said, path = manifest.tensors[name], where / name
    odd = sorted(said.keys() ^ header.keys())
    if odd:
        which = "is not in the file" if odd[0] in said else f"is not in {MANIFEST}"
        raise ArtifactError(f"{path}: tensor {short(odd[0])}: {which}.")
    digests = tensor_digests(data, header)
    for key, one in header.items():
        entry = said[key]
        if (one.dtype, one.shape) != (entry.dtype, entry.shape):
            raise ArtifactError(
                f"{path}: tensor {short(key)}: found {one.dtype} {list(one.shape)}, {MANIFEST} says {entry.dtype} "
                f"{list(entry.shape)}."
            )
        if digests[key] != entry.sha256:
            raise ArtifactError(f"{path}: tensor {short(key)}: its sha256 is not the one in {MANIFEST}.")


def is_beside(name: str) -> bool:
    """What may lie in a folder without being part of the module: it is never read."""
    return name in _BESIDE or ("/" not in name and name.lower().endswith(_IMAGES))
