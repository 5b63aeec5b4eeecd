"""A kill, a full disk or a failing one at any call of a pull leaves the old or the new, whole; the next pull works."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from faults import Outcome, Work, at_every_call, at_every_system_call, can_trace
from hub_server import Hub
from layouts import parts_of
from samples import LABELS, make_module

from adapterxl.backbone import Backbone
from adapterxl.errors import AdapterXLError
from adapterxl.hub import Patience, pull
from adapterxl.hub.transport import Wire
from adapterxl.hub.verified import read_files

REPO = "someone/pos"
QUICK = Patience(deadline=60, timeout=20, attempts=2, backoff=0.01)


@pytest.fixture(params=["new", "overwrite"])
def work(request: pytest.FixtureRequest, hub: Hub, xlmr: Backbone, tmp_path: Path,
         monkeypatch: pytest.MonkeyPatch) -> Work:  # fmt: skip
    """A pull into `place/out`, whose cache and lock file are in `place` too."""
    for name, seed in (("old", 1), ("new", 2)):
        make_module(xlmr, "pos", parts_of("lora", xlmr), "tag", labels=LABELS, seed=seed).save(tmp_path / name)
    contents = {name: read_files(tmp_path / name)[1] for name in ("old", "new")}
    hub.serve_repository(REPO, contents["new"])
    # In one thread: what forks and traces a process sees no other.
    monkeypatch.setattr(Wire, "within", lambda self, what, work: work())

    def prepare(place: Path) -> None:
        if request.param == "overwrite":
            shutil.copytree(tmp_path / "old", place / "out")

    def run(place: Path) -> None:
        os.environ["ADAPTERXL_CACHE"] = str(place / "cache")  # monkeypatch puts back what it was
        pull(REPO, place / "out", overwrite=True, patience=QUICK)

    def state(place: Path) -> str:
        if not (place / "out").exists():
            return "none"
        try:
            found = read_files(place / "out")[1]
        except AdapterXLError as error:
            return f"mixed: {error}"
        return next((name for name, files in contents.items() if files == found), "mixed")

    before = "old" if request.param == "overwrite" else "none"
    return Work(f"pull, {request.param}", prepare, run, state, frozenset({before, "new"}), litter="*.part")


def held(outcome: Outcome) -> None:
    print(dict(outcome.tried), f"{sum(outcome.tried.values())} points tried, {len(outcome.broken)} did not hold")
    assert not outcome.broken, "\n".join(outcome.broken)
    assert sum(outcome.tried.values()) > 20


@pytest.mark.slow
def test_every_fault_at_every_call_of_a_pull_leaves_the_old_or_the_new_whole(work: Work, tmp_path: Path) -> None:
    held(at_every_call(work, tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(not can_trace(), reason="strace is not there, or not allowed")
def test_a_kill_or_a_full_disk_at_every_system_call_of_a_pull_leaves_the_old_or_the_new_whole(
    work: Work, tmp_path: Path
) -> None:
    held(at_every_system_call(work, tmp_path, ("kill", "ENOSPC")))
