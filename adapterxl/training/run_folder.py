"""The folder ``<out>.run`` of an unfinished training: held by one process at a time, on a disk that can take it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import TrainingError, UsageError

_LOCK = "lock"


def run_folder(out: Path, resume: bool, overwrite: bool) -> Path:
    """The folder of the run that writes `out`.

    Raises:
        UsageError: If an unfinished run is there that neither goes on nor is given up.
    """
    folder = out.with_name(f"{out.name}.run")
    if folder.exists() and not resume and not overwrite:
        raise UsageError(f"{folder}: an unfinished run is there. Go on with --resume, or start anew with --overwrite.")
    return folder


@contextmanager
def held(folder: Path, *, resume: bool) -> Iterator[None]:
    """Hold a run's folder; without `resume` it is emptied. A process that dies, however it does, lets go of it.

    Raises:
        TrainingError: If another process trains there, or it cannot be written to.
    """
    descriptor = _lock(folder)
    try:
        if not resume:
            for old in folder.iterdir():
                if old.name != _LOCK:
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
        yield
    finally:
        if _is(descriptor, folder / _LOCK):
            (folder / _LOCK).unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        os.close(descriptor)


def _lock(folder: Path) -> int:
    path = folder / _LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise TrainingError(
                f"{folder}: cannot be written to ({error.strerror or error}). Give another --out."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = os.read(descriptor, 20).decode().strip() or "unknown"
            os.close(descriptor)
            raise TrainingError(
                f"{folder}: another training writes there (process {pid}). Wait for it, or give another --out."
            ) from error
        # Whoever held it before may have removed it while we opened it.
        if _is(descriptor, path):
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        os.close(descriptor)


def _is(descriptor: int, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())


def check_space(folder: Path, checkpoint: int) -> None:
    """Refuse a disk that cannot take two checkpoints.

    Args:
        folder: Of the run; it is there.
        checkpoint: Bytes of one.

    Raises:
        TrainingError: With what is needed and what is there.
    """
    there = sum(file.stat().st_size for file in folder.rglob("state.*"))
    needed, free = max(checkpoint, 2 * checkpoint - there), shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"{folder}: {free / 1e6:,.1f} MB are free on its disk, but checkpoints need {needed / 1e6:,.1f} MB. Free "
            "some space, or give --out on another disk."
        )
