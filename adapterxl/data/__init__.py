"""Task data: typed examples from the hub or from local files, strictly checked."""

from __future__ import annotations

from pathlib import Path

from adapterxl.data.hub import HubData
from adapterxl.data.index import LocalIndex
from adapterxl.data.schema import INDEX_NAME
from adapterxl.data.source import DataSource, FileDigest, Loaded, OnBadRow
from adapterxl.data.user_task import load_user_task
from adapterxl.errors import DataError, UsageError, did_you_mean

__all__ = [
    "DataSource",
    "FileDigest",
    "HubData",
    "Loaded",
    "LocalIndex",
    "OnBadRow",
    "hub_or_folder",
    "load_user_task",
    "open_data",
]


def open_data(data: str | Path | None) -> DataSource:
    """Return the source of task data: the hub for None, else a folder with `adapterxl-data.yaml`.

    Raises:
        UsageError: If `data` is no folder.
        DataError: If the folder has no index, or one that does not fit its schema.
    """
    if data is None:
        return HubData()
    folder = Path(data)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise UsageError(f"--data {folder}: found {found}, expected a folder with {INDEX_NAME}.")
    if not (folder / INDEX_NAME).is_file():
        names = sorted(entry.name for entry in folder.iterdir())
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
        raise DataError(
            f"{folder}: no {INDEX_NAME} in this folder, found: {listed}.{did_you_mean(INDEX_NAME, names)} "
            "Write one that names your files."
        )
    return LocalIndex.open(folder)


def hub_or_folder(data: str | Path | None, lock: str | Path | None, accept: bool) -> str | Path | HubData | None:
    """Return what `data`, a lock file and its acceptance name together: what flags and recipes give.

    Raises:
        UsageError: If the data is a folder, for which there is no lock.
    """
    if lock is None and not accept:
        return data
    if data is not None:
        given = "--accept-data" if lock is None else f"--lock {lock}"
        raise UsageError(f"{given}: is for data of the hub, found --data {data}, whose files are yours; leave one out.")
    return HubData(lock=lock, accept=accept)
