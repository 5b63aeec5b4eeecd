"""Write and read whole folders of small files: staged beside the target, published by rename, checked by digest.

Imports no torch, so that tools can check an artifact without it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

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
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
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
    """Write `files` (relative name -> content) as `folder`: all of them, or nothing.

    They are written and synced in a hidden folder beside the target, which then takes the target's name.
    The manifest is written last, so a folder without one was never whole. On an error or interruption the
    target is what it was before. Only a kill between the two renames that replace a module leaves it under its
    hidden ``.old-`` name.
    """
    folder = folder.absolute()
    check_target(folder, overwrite)
    staged = folder.parent / f".{folder.name}.tmp-{uuid.uuid4().hex}"
    old = folder.parent / f".{folder.name}.old-{uuid.uuid4().hex}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: (name == MANIFEST, name)):
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                stream.write(files[name])
                stream.flush()
                os.fsync(stream.fileno())
        if folder.exists():
            os.rename(folder, old)
        os.rename(staged, folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror or error}). Nothing was changed.") from error
    finally:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
