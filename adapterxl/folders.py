"""Where adapterxl keeps what it can make again, and how its processes keep out of each other's way there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):  # nothing was written to it
            os.close(descriptor)
