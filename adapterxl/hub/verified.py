"""The files of a module folder, from a disk or a hub, after the checks that need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..artifacts.check import check_files, is_beside
from ..artifacts.files import Folder
from ..artifacts.manifest import Manifest, manifest_bytes
from ..artifacts.store import MANIFEST
from ..errors import ArtifactError
from .markdown import CARD

LONGEST_CARD = 1 << 20  # bytes
_TRIES = 100
# What a repository may hold beside a module, in addition to what a folder may: it is neither fetched nor deleted.
_BESIDE = (".gitignore", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE")


def read_files(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest, and the content of every file that it lists, of itself and of the card.

    Raises:
        ArtifactError: If the folder is not what its manifest says.
    """
    for left in range(_TRIES, 0, -1):  # a save may replace it meanwhile
        with Folder(folder) as opened:
            try:
                head = manifest_bytes(opened)
                names = {name for name in opened.names() if not is_beside(name)}
                checked = check_files(head, names, opened.read, folder)
                card = {CARD: opened.read(CARD, LONGEST_CARD)} if opened.has(CARD) else {}
                return checked.manifest, {**checked.files, MANIFEST: head, **card}
            except ArtifactError:
                if left == 1 or not opened.replaced:
                    raise
    raise AssertionError


def check_contents(contents: Mapping[str, bytes], where: str) -> None:
    """The same checks of files at hand; their sizes and digests are known to be right."""

    def read(name: str, most: int, size: int) -> bytes:
        if len(contents[name]) != size:
            raise ArtifactError(f"{where}/{name}: found {len(contents[name])} bytes, expected {size}.")
        return contents[name]

    names = {name for name in contents if not is_beside(name)}
    check_files(contents[MANIFEST], names, read, Path(where))


def may_lie_beside(name: str) -> bool:
    """Whether a repository may hold a file of this name that is no part of its module."""
    return is_beside(name) or name in _BESIDE
