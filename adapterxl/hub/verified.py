"""The files of a module folder, from a disk or a hub, after the checks that need no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from ..artifacts import store
from ..artifacts.manifest import Manifest, read_manifest
from ..errors import ArtifactError
from .markdown import CARD


def read_files(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and the content of every file that it lists, of itself and of the card.

    Raises:
        ArtifactError: If the folder is not what its manifest says.
    """
    manifest = read_manifest(folder)
    files = {name: store.read(folder, name, entry.model_dump()) for name, entry in manifest.files.items()}
    files[store.MANIFEST] = store.read(folder, store.MANIFEST)
    if (folder / CARD).exists():
        files[CARD] = store.read(folder, CARD)
    return manifest, files


def checked(contents: Mapping[str, bytes], where: str) -> None:
    """The same checks of files at hand."""
    with tempfile.TemporaryDirectory() as place:
        for name, data in contents.items():
            path = Path(place) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            read_files(Path(place))
        except ArtifactError as error:
            raise ArtifactError(str(error).replace(place, where)) from error


def parsed(data: bytes, where: str) -> Manifest:
    """A manifest at hand."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / store.MANIFEST).write_bytes(data)
        try:
            return read_manifest(Path(place))
        except ArtifactError as error:
            raise ArtifactError(str(error).replace(place, where)) from error
