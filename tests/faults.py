"""Faults at every call that changes a disk: what there is to hit in a piece of work, and what it leaves after each hit.

`at_every_call` hits the functions of `os` in a forked process: a kill, an error once or from then on, a short write.
`at_every_system_call` has strace(1) hit the system calls themselves. Both need nothing but a `Work`, so they serve
whatever writes: give it what to do in a folder, and what may be there afterwards.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from adapterxl import durable
from adapterxl.errors import AdapterXLError

CALLS = ("open", "write", "pwrite", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "chmod", "ftruncate",
         "close")  # fmt: skip
SYSTEM_CALLS = ("openat", "write", "pwrite64", "fsync", "rename", "renameat2", "mkdir", "unlink", "unlinkat", "rmdir",
                "chmod", "ftruncate", "flock", "close")  # fmt: skip
FAULTS = ("kill", "ENOSPC", "EIO", "EINTR", "short", "ENOSPC from then on", "EIO from then on")
_MAKING = ("open", "write", "pwrite", "mkdir")  # what a full disk refuses
_KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Work:
    """Something to be hit.

    Attributes:
        name: For messages.
        prepare: Makes the folder's state before.
        run: Does the work there; an AdapterXLError is a clean refusal.
        state: What is there, such as "old" or "new"; whatever is mixed or cut has another name.
        allowed: States that a hit may leave.
        litter: Names that the next run must have swept away, as a pattern.
    """

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    state: Callable[[Path], str]
    allowed: frozenset[str]
    litter: str = ".*"


@dataclass
class Outcome:
    """Points tried, and what was wrong at those that did not hold."""

    tried: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def check(self, work: Work, place: Path, point: str, ended: int) -> None:
        """What a hit left; then the work is done again, unharmed."""
        self.tried[point.rpartition(": ")[2]] += 1
        state = work.state(place)
        if ended not in (0, 1, _KILLED):
            self.broken.append(f"{point}: ended with {ended}")
        if state not in work.allowed or (ended == 0 and state != "new"):
            self.broken.append(f"{point}: ended with {ended} and left {state}")
        try:
            work.run(place)
        except AdapterXLError as error:
            self.broken.append(f"{point}: the next one failed: {error}")
        state, litter = work.state(place), sorted(path.name for path in place.rglob(work.litter))
        if state != "new" or litter:
            self.broken.append(f"{point}: the next one left {state} and {litter}")
        shutil.rmtree(place)


def at_every_call(work: Work, tmp: Path, faults: tuple[str, ...] = FAULTS) -> Outcome:
    """Try every fault at every call of `os` that the work makes."""
    outcome, place = Outcome(), tmp / "place"
    with _fresh(work, place), counted([]) as made:
        work.run(place)
    for fault in faults:
        for number, call in enumerate(made):
            if fault == "short" and call not in ("write", "pwrite"):
                continue
            if fault == "ENOSPC from then on" and call not in _MAKING:
                continue
            place.mkdir()
            work.prepare(place)
            child = os.fork()
            if not child:
                with counted([], number, fault):
                    _end(work, place)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            outcome.check(work, place, f"{work.name}: {call} ({number}): {fault}", ended)
    return outcome


@contextmanager
def counted(made: list[str], hit: int | None = None, fault: str = "") -> Iterator[list[str]]:
    """Note the calls that change a disk, by name; do harm at one of them."""

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            number = len(made)
            made.append(name)
            lasting = "from then on" in fault and (name in _MAKING or "EIO" in fault)
            if hit is None or number < hit or (number > hit and not lasting):
                return original(*arguments, **options)
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "short":
                return original(arguments[0], arguments[1][: max(1, len(arguments[1]) // 2)], *arguments[2:])
            if name == "close":
                original(*arguments)  # Linux closes whatever it answers
            code = getattr(errno, fault.split()[0])
            raise OSError(code, os.strerror(code), *[a for a in arguments[:1] if isinstance(a, str | Path)])

        return call

    patches = [patch.object(os, name, wrapped(name, getattr(os, name))) for name in CALLS]
    patches.append(patch.object(fcntl, "flock", wrapped("flock", fcntl.flock)))
    patches.append(patch.object(durable, "_exchange", wrapped("exchange", durable._exchange)))
    for each in patches:
        each.start()
    try:
        yield made
    finally:
        for each in patches:
            each.stop()


def at_every_system_call(
    work: Work, tmp: Path, faults: tuple[str, ...] = ("kill", "ENOSPC", "EIO", "EINTR")
) -> Outcome:
    """Have strace try every fault at every system call that the work makes. (It knows no short write.)"""
    outcome, place, log = Outcome(), tmp / "place", tmp / "strace.log"
    with _fresh(work, place):
        work.run(place)  # whatever is loaded at first use is loaded now
    with _fresh(work, place):
        assert _traced(work, place, log, []) == 0
        made = Counter(re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE))
    for fault in faults:
        for call, times in made.items():
            for number in range(1, times + 1):
                how = "signal=KILL" if fault == "kill" else f"error={fault}"
                place.mkdir()
                work.prepare(place)
                ended = _traced(work, place, log, ["-e", f"inject={call}:{how}:when={number}"])
                outcome.check(work, place, f"{work.name}: {call} ({number}): {fault}", ended)
    return outcome


def can_trace() -> bool:
    """Whether strace is there and allowed to hit something."""
    strace = shutil.which("strace")
    probe = ["strace", "-o", os.devnull, "-e", "inject=mkdir:error=EIO", "mkdir", "/"]
    return strace is not None and b"Input/output" in subprocess.run(probe, capture_output=True).stderr


def _traced(work: Work, place: Path, log: Path, options: list[str]) -> int:
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER: any process may trace
        os.read(wait, 1)
        _end(work, place)
    command = ["strace", "-p", str(child), "-o", str(log), "-e", f"trace={','.join(SYSTEM_CALLS)}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None and b"attached" in tracer.stderr.readline()
        os.write(go, b".")
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(wait)
    os.close(go)
    return ended


@contextmanager
def _fresh(work: Work, place: Path) -> Iterator[None]:
    place.mkdir()
    work.prepare(place)
    yield
    shutil.rmtree(place)


def _end(work: Work, place: Path) -> None:
    """Do the work and end this forked process: 0 done, 1 refused in one line, 3 anything else."""
    try:
        work.run(place)
    except AdapterXLError as error:
        os._exit(1 if "\n" not in str(error) else 3)
    except BaseException:
        os._exit(3)
    os._exit(0)
