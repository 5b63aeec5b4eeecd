"""A kill or an error at any call of a save leaves the old or the new, whole, and the next save works."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from faults import Outcome, Work, at_every_call, at_every_system_call, can_trace, counted

from adapterxl import durable
from adapterxl.artifacts import store
from adapterxl.errors import ArtifactError, UsageError
from adapterxl.evaluation.scores import write_whole
from adapterxl.training.checkpoint import Checkpoint, read_checkpoints, write_checkpoint

OLD = {"a.safetensors": b"old " * 9, "README.md": b"old", store.MANIFEST: b"{old}"}
NEW = {"a.safetensors": b"new weights " * 9, "low/b.json": b"{}", "top/deep/c.json": b"{1}", store.MANIFEST: b"{new}"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seen(place: Path) -> str:
    """What a reader finds under the name `module`."""
    try:
        descriptor = durable.open_folder(place / "module")
    except FileNotFoundError:
        return "none"
    found = contents(Path(f"/proc/self/fd/{descriptor}"))
    os.close(descriptor)
    return "old" if found == OLD else "new" if found == NEW else f"mixed: {sorted(found)}"


def save(place: Path) -> None:
    store.publish(place / "module", NEW, overwrite=True)


def save_old(place: Path) -> None:
    store.publish(place / "module", OLD)


def of_step(step: int) -> Checkpoint:
    return Checkpoint(step, {"parameter.x": torch.full((7, 3), float(step))}, {"request": "r", "seen": step})


def newest(place: Path) -> str:
    found = read_checkpoints(place / "run")
    if not found:
        return "none"
    good = of_step(found[0].step)
    same = found[0].values == good.values and torch.equal(found[0].tensors["parameter.x"], good.tensors["parameter.x"])
    return {5: "old", 10: "new"}[found[0].step] if same else "mixed"


def text(place: Path) -> str:
    path = place / "scores.json"
    return path.read_text() if path.exists() else "none"


def nothing(place: Path) -> None:
    """There is nothing before."""


WORKS = {
    "save, new": Work("save, new", nothing, save, seen, frozenset({"none", "new"})),
    "save, overwrite": Work("save, overwrite", save_old, save, seen, frozenset({"old", "new"})),
    "save, overwrite without exchange": Work("without exchange", save_old, save, seen, frozenset({"old", "new"})),
    "checkpoint, new": Work("checkpoint, new", nothing, lambda place: write_checkpoint(place / "run", of_step(10)),
                            newest, frozenset({"none", "new"})),
    "checkpoint, next": Work("checkpoint, next", lambda place: write_checkpoint(place / "run", of_step(5)),
                             lambda place: write_checkpoint(place / "run", of_step(10)), newest,
                             frozenset({"old", "new"})),
    "file, new": Work("file, new", nothing, lambda place: write_whole(place / "scores.json", ["n", "ew"]), text,
                      frozenset({"none", "new"})),
    "file, overwrite": Work("file, overwrite", lambda place: (place / "scores.json").write_text("old"),
                            lambda place: write_whole(place / "scores.json", ["n", "ew"]), text,
                            frozenset({"old", "new"})),
}  # fmt: skip


@pytest.fixture
def ram() -> Iterator[Path]:
    """A folder where a sync costs nothing, where there is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def work(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Work:
    if "without" in request.param:
        monkeypatch.setattr(durable, "_exchange", lambda one, other: False)
    return WORKS[request.param]


def held(outcome: Outcome) -> None:
    print(dict(outcome.tried), f"{sum(outcome.tried.values())} points tried, {len(outcome.broken)} did not hold")
    assert not outcome.broken, "\n".join(outcome.broken)
    assert outcome.tried["kill"] > 5


@pytest.mark.parametrize(
    "work, faults",
    [
        ("save, overwrite", ("kill", "EIO", "short")),
        ("save, overwrite without exchange", ("kill",)),
        ("checkpoint, next", ("kill",)),
        ("file, overwrite", ("kill", "ENOSPC from then on", "short")),
    ],
    indirect=["work"],
)
def test_a_fault_at_any_call_leaves_the_old_or_the_new_whole(work: Work, faults: tuple[str, ...], ram: Path) -> None:
    held(at_every_call(work, ram, faults))


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS, indirect=True)
def test_every_fault_at_every_call_leaves_the_old_or_the_new_whole(work: Work, ram: Path) -> None:
    held(at_every_call(work, ram))


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="strace is not there, or not allowed")
@pytest.mark.parametrize("work", WORKS, indirect=True)
def test_every_fault_at_every_system_call_leaves_the_old_or_the_new_whole(work: Work, ram: Path) -> None:
    held(at_every_system_call(work, ram))


def test_a_save_that_removes_the_old_first_is_found_out(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(staged: Path, folder: Path, token: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)

    monkeypatch.setattr(durable, "_put", put)
    assert "left none" in " ".join(at_every_call(WORKS["save, overwrite"], ram, ("kill",)).broken)


def test_a_full_disk_is_told_in_figures_before_and_while_something_is_written(tmp_path: Path) -> None:
    save_old(tmp_path)
    with patch.object(os, "statvfs", lambda path: SimpleNamespace(f_blocks=9, f_bavail=2, f_frsize=10)):
        with pytest.raises(ArtifactError, match=r"No space left on device: need 118 bytes, have 20 bytes\). Nothing"):
            save(tmp_path)
        with counted([], 1, "ENOSPC"), pytest.raises(UsageError, match=r"No space left on device: have 20 bytes"):
            write_whole(tmp_path / "scores.json", ["new"])
    assert (seen(tmp_path), sorted(path.name for path in tmp_path.iterdir())) == ("old", ["module"])


def test_a_save_that_the_disk_does_not_confirm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_old(tmp_path)
    sync = durable.sync

    def failing(folder: Path) -> None:
        if folder == tmp_path:
            raise OSError(5, "Input/output error")
        sync(folder)

    monkeypatch.setattr(durable, "sync", failing)
    with pytest.raises(ArtifactError, match="Input/output error.* It is in place, but the disk did not confirm it"):
        save(tmp_path)
    assert seen(tmp_path) == "new"
