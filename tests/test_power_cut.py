"""After a power cut at any time there is the old or the new, whole; and what was said to be saved is there."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from powercut import Disk, Step

from adapterxl import durable
from adapterxl.artifacts import store

OLD = {"a.safetensors": b"old " * 9, "README.md": b"old", store.MANIFEST: b"{old}"}
NEW = {"a.safetensors": b"new weights " * 9, "low/b.json": b"{}", "top/deep/c.json": b"{1}", store.MANIFEST: b"{new}"}
STATES = 150


def save(place: Path) -> None:
    store.publish(place / "module", NEW, overwrite=True)


def state(found: dict[str, bytes]) -> str:
    """What is under the name; if nothing is, what a save without an exchange left beside it."""
    places = {name.partition("/")[0] for name in found}
    place = next((name for name in sorted(places, reverse=True) if name.startswith(("module", ".module.old-"))), None)
    if place is None:
        return "none"
    inside = {name.removeprefix(f"{place}/"): data for name, data in found.items() if name.startswith(place)}
    return "old" if inside == OLD else "new" if inside == NEW else "mixed"


def sampled(disk: Disk, states: int) -> Counter[str]:
    chance = random.Random(7)
    return Counter(state(disk.after_cut(chance)) for _ in range(states))


def recorded(place: Path, there: bool) -> Disk:
    if there:
        store.publish(place / "module", OLD)
    disk = Disk(place)
    with disk.recording():
        save(place)
    assert state(disk.after_cut(random.Random(1), len(disk.steps))) == "new"  # what was said to be saved is there
    return disk


@pytest.mark.parametrize("states", [STATES, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["new", "overwrite", "overwrite without exchange"])
def test_after_a_power_cut_there_is_the_old_or_the_new(
    how: str, states: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "without" in how:
        monkeypatch.setattr(durable, "_exchange", lambda one, other: False)
    found = sampled(recorded(tmp_path, "overwrite" in how), states)
    print(how, dict(found))
    assert found.keys() == ({"none", "new"} if how == "new" else {"old", "new"})


def test_two_saves_one_killed_between_exchange_and_sync_keep_the_promise(tmp_path: Path) -> None:
    store.publish(tmp_path / "module", OLD)
    disk = Disk(tmp_path)
    with disk.recording():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable, "_tidy", lambda folder, token="": None)  # killed before anything is tidied
            save(tmp_path)
        save(tmp_path)
    assert sampled(disk, STATES).keys() == {"old", "new"}


@pytest.mark.parametrize("forgotten", ["files", "folders", "the parent"])
def test_a_save_that_forgets_to_sync_is_found_out(forgotten: str, tmp_path: Path) -> None:
    disk = recorded(tmp_path, there=True)
    files = {step.of for step in disk.steps if step.data is not None}

    def kind(step: Step) -> str:
        return "files" if step.of in files else "the parent" if step.of == disk.top else "folders"

    disk.steps = [step for step in disk.steps if not (step.sync and kind(step) == forgotten)]
    assert sampled(disk, STATES)["mixed"]


def test_a_file_is_the_old_or_the_new_after_a_power_cut(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_bytes(b"old")
    disk, chance = Disk(tmp_path), random.Random(3)
    with disk.recording():
        durable.write_file(tmp_path / "scores.json", [b"new", b" scores"])
    found = Counter(disk.after_cut(chance)["scores.json"] for _ in range(STATES))
    assert found.keys() == {b"old", b"new scores"}
