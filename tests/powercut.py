"""What a disk may hold after a power cut: the log of a piece of work, with what no sync confirmed lost at random.

The model: a file's bytes are safe once the file was synced, before that any write may be lost, cut or zeros; the names
in a folder are safe once the folder was synced, before that each change of them may be lost, whichever came first. A
rename or exchange within a folder happens wholly or not at all. This is what POSIX promises and less than ext4, xfs
and btrfs do. It is a model, no test of a disk.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from adapterxl import durable

Name = tuple[int, str]  # folder and name in it


@dataclass(frozen=True)
class Step:
    """One change, or a sync: of which object; new names; or the place and bytes of a write."""

    of: int
    names: dict[Name, int | None] = field(default_factory=dict)
    data: tuple[int, bytes] | None = None
    sync: bool = False


class Disk:
    """Records what is done below a folder. Objects have numbers of their own, as a system's are used again."""

    def __init__(self, root: Path) -> None:
        self.root, self.steps = root, list[Step]()
        self._numbers: dict[int, int] = {}
        self._last = 0
        self.names: dict[Name, int | None] = {}
        self.data: dict[int, bytes] = {}
        self.top = self._new(os.stat(root).st_ino)
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = Path(folder, name)
                number = self._new(path.stat().st_ino)
                self.names[self._numbers[os.stat(folder).st_ino], name] = number
                if path.is_file():
                    self.data[number] = path.read_bytes()

    def _new(self, inode: int) -> int:
        self._last += 1
        self._numbers[inode] = self._last
        return self._last

    def _at(self, path: Any, dir_fd: int | None) -> tuple[Name, int | None]:
        where = os.fstat(dir_fd) if dir_fd is not None else os.stat(os.path.dirname(path))
        name = self._numbers[where.st_ino], os.path.basename(path)
        try:
            return name, self._numbers.get(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_ino)
        except FileNotFoundError:
            return name, None

    def _renamed(self, names: dict[Name, int | None]) -> None:
        self.steps.append(Step(next(iter(names))[0], names=names))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note what is done by functions of `os`, and by the exchange of two names."""

        def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            there = not flags & os.O_CREAT or os.path.lexists(path)
            descriptor: int = real["open"](path, flags, mode, dir_fd=dir_fd)
            if not there:
                number = self._new(os.fstat(descriptor).st_ino)
                self._renamed({self._at(path, dir_fd)[0]: number})
            return descriptor

        def write(descriptor: int, data: Any) -> int:
            place, number = os.lseek(descriptor, 0, os.SEEK_CUR), self._numbers[os.fstat(descriptor).st_ino]
            done: int = real["write"](descriptor, data)
            self.steps.append(Step(number, data=(place, bytes(data[:done]))))
            return done

        def fsync(descriptor: int) -> None:
            real["fsync"](descriptor)
            self.steps.append(Step(self._numbers[os.fstat(descriptor).st_ino], sync=True))

        def mkdir(path: Any, *rest: Any) -> None:
            real["mkdir"](path, *rest)
            number = self._new(os.stat(path).st_ino)
            self._renamed({self._at(path, None)[0]: number})

        def rename(one: Any, other: Any) -> None:
            (before, number), (after, _) = self._at(one, None), self._at(other, None)
            real["rename"](one, other)
            self._renamed({before: None, after: number})

        def remove(function: str) -> Callable[..., None]:
            def call(path: Any, *, dir_fd: int | None = None) -> None:
                name, _ = self._at(path, dir_fd)
                real[function](path, dir_fd=dir_fd)
                self._renamed({name: None})

            return call

        def exchange(one: Path, other: Path) -> bool:
            (first, mine), (second, theirs) = self._at(one, None), self._at(other, None)
            done = swap(one, other)
            if done:
                self._renamed({first: theirs, second: mine})
            return done

        changed = {"open": opened, "write": write, "fsync": fsync, "mkdir": mkdir, "rename": rename, "replace": rename,
                   "unlink": remove("unlink"), "rmdir": remove("rmdir")}  # fmt: skip
        real, swap = {name: getattr(os, name) for name in changed}, durable._exchange
        with ExitStack() as stack:
            for name, function in changed.items():
                stack.enter_context(patch.object(os, name, function))
            stack.enter_context(patch.object(durable, "_exchange", exchange))
            yield

    def after_cut(self, chance: random.Random, cut: int | None = None) -> dict[str, bytes]:
        """The files below the root after a power cut before step `cut` (at random), by relative name.

        An empty folder stands as its name with a slash.
        """
        if cut is None:
            cut = chance.randrange(len(self.steps) + 1)
        kept = chance.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        names, data = dict(self.names), dict(self.data)
        for index, step in enumerate(self.steps[:cut]):
            safe = any(later.sync and later.of == step.of for later in self.steps[index + 1 : cut])
            lost = not safe and chance.random() >= kept
            if step.data is not None:
                place, written = step.data
                if lost:  # nothing of it, a part, or room without content
                    part = chance.randrange(len(written) + 1)
                    written = chance.choice((b"", written[:part], bytes(len(written))))
                before = data.get(step.of, b"").ljust(place, b"\0")
                data[step.of] = before[:place] + written + before[place + len(written) :]
            elif not lost:
                names.update(step.names)
        found: dict[str, bytes] = {}
        self._walk(self.top, "", names, data, found)
        return found

    def _walk(self, at: int, path: str, names: dict[Name, int | None], data: dict[int, bytes],
              found: dict[str, bytes]) -> None:  # fmt: skip
        inside = [(name, number) for (folder, name), number in names.items() if folder == at and number]
        files = {step.of for step in self.steps if step.data is not None} | self.data.keys()
        for name, number in inside:
            if number in files:
                found[path + name] = data.get(number, b"")
            else:
                self._walk(number, f"{path}{name}/", names, data, found)
        if path and not inside:
            found[path] = b""
