"""A folder that serves as hub: `<folder>/someone/name` is a module folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ..artifacts import store
from ..errors import HubError
from .verified import read_files

_DEEPEST = 3  # folders between the hub and a module


class FolderHub:
    """Modules in a folder. It keeps one state of each, so there are no revisions."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def read(self, repo: str) -> dict[str, bytes]:
        """Every file of a module, checked.

        Raises:
            HubError: If the folder does not have it.
            ArtifactError: If it is not what its manifest says.
        """
        if not (self.folder / repo / store.MANIFEST).is_file():
            raise HubError(f"{self.folder}: no module '{repo}' in this folder. See: adapterxl search {self.folder}")
        return read_files(self.folder / repo)[1]

    def write(self, repo: str, contents: Mapping[str, bytes]) -> None:
        """Publish a module in place of what was there."""
        store.publish(self.folder / repo, contents, overwrite=True)

    def modules(self) -> Iterator[Path]:
        """Folders with a manifest, in order of their names.

        Raises:
            HubError: If there is no such folder.
        """
        if not self.folder.is_dir():
            raise HubError(f"{self.folder}: no such folder. Give a folder of modules, or the word hub.")
        for depth in range(_DEEPEST + 1):
            found = self.folder.glob("/".join(["*"] * depth + [store.MANIFEST]))
            yield from sorted(path.parent for path in found if not path.parent.name.startswith("."))
