"""Where adapterxl keeps what it can make again, and how its processes keep out of each other's way there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache, which need not be there yet; ADAPTERXL_CACHE names another one."""
    return Path(os.environ.get("ADAPTERXL_CACHE") or Path.home() / ".cache" / "adapterxl")


@contextmanager
def alone(beside: Path) -> Iterator[None]:
    """Keep other processes that name the same file out; the system lets go of it when a process ends, however it does.

    Raises:
        OSError: If the file or its folder cannot be made.
    """
    beside.parent.mkdir(parents=True, exist_ok=True)
    with beside.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
