"""Readers see a whole module while others replace it; writers wait for each other or say who holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from writers import content, read_by_path, read_whole, run

from adapterxl import durable
from adapterxl.artifacts import store
from adapterxl.errors import ArtifactError

HOLD = """
import sys, time
from pathlib import Path
from adapterxl import durable
with durable._held(Path(sys.argv[1]), 0):
    (Path(sys.argv[1]).parent / ".module.tmp-{}".format("0" * 32)).mkdir()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    "writers, readers, reads", [(3, 2, 300), pytest.param(8, 4, 100_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_readers_see_whole_modules_only_while_writers_replace_them(
    writers: int, readers: int, reads: int, tmp_path: Path
) -> None:
    found, saves = run(tmp_path / "module", writers, readers, reads)
    print(dict(found), f"{saves} saves")
    assert found == {"whole": reads} and saves
    assert [path.name for path in tmp_path.iterdir()] == ["module"]


def test_the_same_without_an_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_exchange", lambda one, other: False)
    found, saves = run(tmp_path / "module", 2, 2, 300)
    assert found == {"whole": 300} and saves


@pytest.mark.slow
def test_a_reader_that_opens_file_after_file_by_path_can_meet_two_modules(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "module", 4, 2, 20_000, read_by_path)
    print(dict(found))
    assert found["whole"] < 20_000  # so the descriptor is what keeps ours whole


def test_a_second_writer_is_told_who_holds_the_folder_and_a_dead_ones_lock_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable.write_folder, "__kwdefaults__", durable.write_folder.__kwdefaults__ | {"wait": 0.05})
    folder, beside = tmp_path / "module", tmp_path / f".module.tmp-{'0' * 32}"
    store.publish(folder, content("old"))
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(ArtifactError, match=f"held by pid {holder.pid}, which is writing it.*Nothing was changed"):
            store.publish(folder, content("new"), overwrite=True)
        durable.sweep(tmp_path)
        assert beside.is_dir()  # it is in use
        holder.kill()
    assert read_whole(folder) == "whole" and beside.is_dir()
    store.publish(folder, content("new"), overwrite=True)
    assert (folder / "low/b.json").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["module"]


def test_what_dead_writers_left_is_swept_and_what_is_not_ours_is_not(tmp_path: Path) -> None:
    dead = [tmp_path / f".{name}.tmp-{'0' * 32}" for name in ("step-1", "step-2")]
    for folder in dead:
        (folder / "low").mkdir(parents=True)
    (tmp_path / f".x.json.tmp-{'1' * 32}").write_text("cut")
    (tmp_path / ".module.writing").write_text("1")
    mine = [tmp_path / name for name in (".module.tmp-1", ".git", "x.tmp-" + "0" * 32, ".module.lock")]
    for path in mine:
        path.write_text("mine")
    durable.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(mine)


def test_a_temporary_file_in_use_is_left_to_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with durable.new_file(path) as stream:
        stream.write(b"first")
        durable.write_file(path, b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_old_module_that_a_kill_left_beside_its_name_is_read_and_put_back(tmp_path: Path) -> None:
    store.publish(tmp_path / "module", content("old"))
    os.rename(tmp_path / "module", tmp_path / f".module.old-{'0' * 32}")
    assert read_whole(tmp_path / "module") == "whole"
    with pytest.raises(ArtifactError, match="already holds a module"):
        store.publish(tmp_path / "module", content("new"))
    assert (tmp_path / "module/low/b.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["module"]


def test_modes_are_kept_and_new_ones_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        store.publish(tmp_path / "module", content("old"))
        durable.write_file(tmp_path / "file", b"old")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("module", "module/low/b.json", "file")] == [
        0o750,
        0o640,
        0o640,
    ]
    (tmp_path / "module").chmod(0o770)
    (tmp_path / "file").chmod(0o604)
    store.publish(tmp_path / "module", content("new"), overwrite=True)
    durable.write_file(tmp_path / "file", b"new")
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("module", "file")] == [0o770, 0o604]
