"""Files that a hub gave, by sha256: only what was compared with its digest is kept, and it is compared at each use."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..artifacts.manifest import FileEntry
from ..artifacts.store import sha256
from ..data.lock import default_lock
from ..durable import write_file
from ..errors import HubError

_KEPT = 7 * 24 * 3600  # seconds that an unfinished file waits to be gone on with


class Blobs:
    """A folder of files, each named by its sha256; `<sha256>.part` is an unfinished one, of which nothing is known.

    Args:
        folder: By default `hub` in the cache, which ADAPTERXL_CACHE names.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_lock().parent / "hub"

    def get(self, entry: FileEntry) -> bytes | None:
        """The content, or None where it is not there; one that is no longer right is deleted."""
        path = self.folder / entry.sha256
        try:
            data = path.read_bytes() if path.exists() else None
            if data is not None and not right(data, entry):
                path.unlink()
                data = None
        except OSError as error:
            raise HubError(f"{path}: cannot be read ({error.strerror}). Delete it, or name another cache.") from error
        return data

    def put(self, data: bytes) -> None:
        """Keep a content that is known to be right."""
        path = self.folder / sha256(data)
        try:
            write_file(path, data)
        except OSError as error:
            raise HubError(f"{path}: cannot be written ({error.strerror}). Make room.") from error

    def keep(self, part: Path, digest: str) -> None:
        """Give a finished file, whose sha256 was compared, its place."""
        os.replace(part, self.folder / digest)

    @contextmanager
    def part(self, entry: FileEntry) -> Iterator[Path]:
        """The unfinished file of a content, for one user at a time; another gets one of its own, kept for nobody."""
        part, alone = self.folder / f"{entry.sha256}.part", True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("ab") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    alone = False
                    part = self.folder / f"{entry.sha256}.{os.getpid()}-{secrets.token_hex(4)}.part"
                try:
                    yield part
                finally:
                    if part.exists() and (not alone or part.stat().st_size == 0):
                        part.unlink()
        except OSError as error:
            raise HubError(f"{part}: cannot be written ({error.strerror or error}). Make room, or name another "
                           "place with ADAPTERXL_CACHE.") from error  # fmt: skip

    def sweep(self) -> None:
        """Delete unfinished files that nobody has gone on with for a week."""
        for part in self.folder.glob("*.part"):
            try:
                if time.time() - part.stat().st_mtime > _KEPT:
                    part.unlink()
            except OSError:
                continue  # finished meanwhile, or another user's: it is in nobody's way


def right(data: bytes, entry: FileEntry) -> bool:
    return len(data) == entry.size and sha256(data) == entry.sha256
