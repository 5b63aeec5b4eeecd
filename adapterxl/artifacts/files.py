"""Regular files of a folder that nobody vouches for, read through one descriptor of the folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ..durable import open_folder
from ..errors import ArtifactError
from .strict_json import short

MOST_FILES, _MOST_FOLDERS = 2_000, 4
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW  # a FIFO would wait for a writer


class Folder:
    """A folder, opened once. All is read relative to its descriptor: when another one takes its name meanwhile, what is
    read is still the old one.

    Args:
        path: The folder; it may be a link, what is in it may not.

    Raises:
        ArtifactError: If it is no folder, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = open_folder(path)
        except (OSError, ValueError) as error:
            if isinstance(error, PermissionError):
                raise ArtifactError(f"{path}: cannot be opened ({error.strerror}).") from error
            raise ArtifactError(f"No module folder '{path}'.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def replaced(self) -> bool:
        """Whether another folder, or none, has its name by now."""
        try:
            return not os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return True

    def has(self, name: str) -> bool:
        """Whether something of this name is there, whatever it is."""
        try:
            os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except (OSError, ValueError):
            return False
        return True

    def read(self, name: str, most: int, size: int | None = None) -> bytes:
        """All bytes of a regular file, from one descriptor.

        Args:
            name: Relative, with "/" between folders; no link is followed.
            most: Its largest size.
            size: The size that it must have; compared before anything is read.

        Raises:
            ArtifactError: If it is missing, no regular file, of another size, or changes while it is read.
        """
        path = self.path / name
        with self._opened(name) as descriptor:
            found = os.fstat(descriptor).st_size
            if size is not None and found != size:
                raise ArtifactError(f"{path}: found {found} bytes, expected {size}. Fetch the module again.")
            if found > most:
                raise ArtifactError(f"{path}: found {found:,} bytes, expected {most:,} at most.")
            with os.fdopen(os.dup(descriptor), "rb") as stream:
                data = stream.read(found + 1)
        if len(data) != found:
            raise ArtifactError(f"{path}: changed while it was read. Load it again.")
        return data

    def names(self) -> list[str]:
        """Every file of the folder and those below it, sorted; `.cache/` of the hub's client is left out.

        Raises:
            ArtifactError: For what is neither a regular file nor a folder with one in it, and for too much.
        """
        found: list[str] = []
        self._list("", found, 0)
        return sorted(found)

    def _list(self, under: str, found: list[str], depth: int) -> None:
        before = len(found)
        with self._opened(under, os.O_DIRECTORY) if under else self._root() as descriptor:
            entries = []
            with os.scandir(descriptor) as scanned:
                for entry in scanned:
                    entries.append((entry.name, entry.stat(follow_symlinks=False).st_mode))
                    if len(entries) + len(found) > MOST_FILES:
                        raise ArtifactError(f"{self.path}: more than {MOST_FILES:,} files, which no module has.")
        for name, mode in sorted(entries):
            path = f"{under}{name}"
            if stat.S_ISDIR(mode) and depth < _MOST_FOLDERS:
                if path != ".cache":
                    self._list(f"{path}/", found, depth + 1)
            elif stat.S_ISREG(mode):
                found.append(path)
            else:
                raise ArtifactError(f"{self.path / short(path)}: not a regular file; a module folder holds no other.")
        if under and len(found) == before:
            raise ArtifactError(f"{self.path / short(under)}: a folder with nothing in it. Remove it.")

    @contextmanager
    def _root(self) -> Iterator[int]:
        yield self._descriptor

    @contextmanager
    def _opened(self, name: str, kind: int = 0) -> Iterator[int]:
        """A descriptor of something below, reached without following a link; a regular file, or what `kind` says."""
        path, opened = self.path / name, [self._descriptor]
        try:
            *folders, last = name.rstrip("/").split("/")
            try:
                for step in folders:
                    opened.append(os.open(step, _FLAGS | os.O_DIRECTORY, dir_fd=opened[-1]))
                opened.append(os.open(last, _FLAGS | kind, dir_fd=opened[-1]))
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EMFILE, errno.EIO):
                    raise ArtifactError(f"{path}: cannot be read ({error.strerror}).") from error
                raise ArtifactError(
                    f"{path}: not found (or not a regular file); the module folder is not whole."
                ) from error
            if not kind and not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
                raise ArtifactError(f"{path}: not a regular file.")
            yield opened[-1]
        finally:
            for descriptor in opened[1:]:
                os.close(descriptor)
