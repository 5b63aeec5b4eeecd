"""Write and read whole folders of small files: staged beside the target, published by rename, checked by digest.

Imports no torch, so that tools can check an artifact without it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from .. import durable
from ..errors import ArtifactError

MANIFEST = "adapterxl.json"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_target(folder: Path, overwrite: bool) -> None:
    """Refuse a target that is in the way, before any work is done for it.

    Raises:
        ArtifactError: If `folder` exists and is not an empty folder, and is not a module folder that may be
            overwritten.
    """
    if folder.is_symlink():
        raise ArtifactError(f"{folder}: is a link. Give the folder itself as --out.")
    try:
        free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be read ({error.strerror}). Nothing was changed.") from error
    if not free:
        if not (folder / MANIFEST).is_file():
            raise ArtifactError(
                f"{folder}: exists and is not a module folder; it is left as it is. Give another --out."
            )
        if not overwrite:
            raise ArtifactError(f"{folder}: already holds a module. Give another --out, or --overwrite to replace it.")
    check_writable(folder)


def check_writable(target: Path) -> None:
    """Refuse a file or folder to be written below something that is no folder or cannot be written to."""
    parent = _existing_parent(target)
    if not parent.is_dir():
        raise ArtifactError(f"{parent}: is a file, so '{target.name}' cannot be written below it. Give another --out.")
    if not os.access(parent, os.W_OK):
        raise ArtifactError(f"{parent}: cannot be written to. Give another --out.")


def publish(folder: Path, files: Mapping[str, bytes], overwrite: bool = False) -> None:
    """Write `files` (relative name -> content) as `folder`: all of them, or nothing (`durable.write_folder`).

    The manifest is written last, so a folder without one was never whole. A second writer waits for the first, and
    then is refused or replaces its module, whole.

    Raises:
        ArtifactError: If something is in the way, the disk is full, another process keeps on writing the folder, or
            the system refuses; it says whether the new module is in place.
    """
    check_target(folder, overwrite)
    try:
        durable.write_folder(folder, files, MANIFEST, check=lambda: check_target(folder, overwrite))
    except OSError as error:
        new = _content(folder / MANIFEST) == files.get(MANIFEST)
        state = "It is in place, but the disk did not confirm it." if new else "Nothing was changed."
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror or error}). {state}") from error


def read(folder: Path, name: str, expected: Mapping[str, object] | None = None) -> bytes:
    """Content of one regular file of a module folder, compared with its size and sha256 when given.

    Raises:
        ArtifactError: If it is missing, is not a regular file inside the folder, or differs.
    """
    path = folder / name
    if path.resolve() != folder.resolve() / name or not path.is_file():
        raise ArtifactError(f"{path}: not found (or not a regular file); the module folder is not whole.")
    data = path.read_bytes()
    if expected is not None:
        if len(data) != expected["size"]:
            raise ArtifactError(
                f"{path}: found {len(data)} bytes, expected {expected['size']}. Fetch the module again."
            )
        if sha256(data) != expected["sha256"]:
            raise ArtifactError(f"{path}: its sha256 is not the one in {MANIFEST}. Fetch the module again.")
    return data


def _existing_parent(folder: Path) -> Path:
    parent = folder.absolute().parent
    while not parent.exists():
        parent = parent.parent
    return parent


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
