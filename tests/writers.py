"""Processes that replace one folder over and over while others read it: what the readers find."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Queue
from typing import Any

from adapterxl import durable
from adapterxl.artifacts import store
from adapterxl.errors import ArtifactError

Read = Callable[[Path], str]


def content(tag: str) -> dict[str, bytes]:
    """Files of one save; the manifest has their digests."""
    files = {"a.safetensors": tag.encode() * 500, "low/b.json": tag.encode(), "top/deep/c.json": tag.encode() * 9}
    listed = {name: store.sha256(data) for name, data in files.items()}
    return files | {store.MANIFEST: json.dumps(listed).encode()}


def read_whole(folder: Path) -> str:
    """Read by the descriptor of the folder; "whole", or what is wrong."""
    while True:
        opened = durable.open_folder(folder)
        try:
            listed = json.loads(_content(store.MANIFEST, opened))
            same = all(store.sha256(_content(name, opened)) == digest for name, digest in listed.items())
            return "whole" if same else "mixed"
        except FileNotFoundError:
            if os.path.samestat(os.fstat(opened), os.stat(folder)):
                return "torn"
        finally:
            os.close(opened)


def read_by_path(folder: Path) -> str:
    """Read one file after another by its path, as libraries do."""
    try:
        listed = json.loads((folder / store.MANIFEST).read_bytes())
        same = all(store.sha256((folder / name).read_bytes()) == digest for name, digest in listed.items())
    except (FileNotFoundError, NotADirectoryError):
        return "torn"
    return "whole" if same else "mixed"


def run(folder: Path, writers: int, readers: int, reads: int, read: Read = read_whole) -> tuple[Counter[str], int]:
    """What `reads` reads found by `readers` processes while `writers` saved, and how many saves there were."""
    fork = multiprocessing.get_context("fork")
    stop, found, saves = fork.Event(), fork.Queue(), fork.Queue()
    store.publish(folder, content("first"), overwrite=True)
    writing = [fork.Process(target=_write, args=(folder, number, stop, saves)) for number in range(writers)]
    reading = [fork.Process(target=_read, args=(folder, reads // readers, read, found)) for _ in range(readers)]
    for process in (*writing, *reading):
        process.start()
    total = sum((found.get() for _ in reading), Counter[str]())
    stop.set()
    count = sum(saves.get() for _ in writing)
    for process in (*writing, *reading):
        process.join()
    return total, count


def _write(folder: Path, number: int, stop: Event, saves: Queue[int]) -> None:
    count = 0
    while not stop.is_set():
        try:
            store.publish(folder, content(f"{number}.{count} "), overwrite=True)
            count += 1
        except ArtifactError as error:  # another one held it for long
            assert "held by pid" in str(error), error
    saves.put(count)


def _read(folder: Path, reads: int, read: Read, found: Queue[Any]) -> None:
    total = Counter[str]()
    for _ in range(reads):
        try:
            total[read(folder)] += 1
        except Exception as error:
            total[repr(error)] += 1
        time.sleep(0)
    found.put(total)


def _content(name: str, opened: int) -> bytes:
    def at(path: str, flags: int) -> int:
        return os.open(path, flags, dir_fd=opened)

    with open(name, "rb", opener=at) as stream:
        return stream.read()
