"""The lock of hub data: rows of first use are recorded, others are refused until they are accepted."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from datasets import Value
from repositories import at, write_repository

from adapterxl.data import HubData
from adapterxl.data.lock import Lock, Locked, default_lock
from adapterxl.errors import DataError
from adapterxl.tasks import Task, get_task


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return at(get_task("mnli"), write(tmp_path / "repo", "a"))


def write(folder: Path, premise: str) -> str:
    columns = {"premise": [premise], "hypothesis": ["b"], "label": [1]}
    features = {"premise": Value("string"), "hypothesis": Value("string"), "label": Value("int64")}
    return write_repository(folder, {("mnli", "train"): (columns, features)})


def hub(tmp_path: Path, number: int, *, accept: bool = False) -> HubData:
    """A hub client as a later process has it: another cache, the same lock."""
    return HubData(str(tmp_path / f"cache{number}"), lock=tmp_path / "lock.json", accept=accept)


def test_changed_rows_are_refused_until_accepted_and_then_are_the_right_ones(task, tmp_path):
    first = hub(tmp_path, 1).load(task, "train", "en")
    recorded = json.loads((tmp_path / "lock.json").read_text())["sources"]
    place = f"{task.hub[0].id} (config mnli, split train): en"
    assert recorded == {place: {"revision": None, "sha256": first.files[0].sha256, "rows": 1}}
    write(tmp_path / "repo", "changed")
    with pytest.raises(DataError, match=r"found 1 rows with digest .*expected 1 rows .*lock\.json.*--accept-data"):
        hub(tmp_path, 2).load(task, "train", "en")
    assert json.loads((tmp_path / "lock.json").read_text())["sources"] == recorded
    accepted = hub(tmp_path, 3, accept=True).load(task, "train", "en")
    assert accepted.examples[0].text == "changed" and "taken in place of" in accepted.warnings[0]
    assert hub(tmp_path, 4).load(task, "train", "en").warnings == ()


def test_another_revision_with_the_same_rows_is_no_difference(tmp_path):
    lock = Lock(tmp_path / "lock.json")
    assert lock.check("a", Locked(revision="1" * 40, sha256="0" * 64, rows=1)) is None
    assert lock.check("a", Locked(revision="2" * 40, sha256="0" * 64, rows=1)) is None


def test_sources_that_are_first_used_at_the_same_time_are_all_recorded(tmp_path):
    def use(number: int) -> None:
        Lock(tmp_path / "deep" / "lock.json").check(str(number), Locked(revision=None, sha256="0" * 64, rows=number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(40)))
    assert len(json.loads((tmp_path / "deep" / "lock.json").read_text())["sources"]) == 40


@pytest.mark.parametrize("content", ["", "{", '{"format": 2}', '{"sources": {"a": {"rows": 1}}}', "[]"])
def test_a_damaged_lock_is_refused_by_name(tmp_path, content):
    (tmp_path / "lock.json").write_text(content)
    with pytest.raises(DataError, match=r"lock\.json: no lock file that can be read: .*Restore it or delete it\."):
        Lock(tmp_path / "lock.json").check("a", Locked(revision=None, sha256="0" * 64, rows=1))


def test_a_lock_that_cannot_be_written_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written .*--lock"):
        Lock(tmp_path / "file" / "lock.json").check("a", Locked(revision=None, sha256="0" * 64, rows=1))


def test_the_default_lock_is_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAPTERXL_CACHE", str(tmp_path))
    assert default_lock().parent == tmp_path and HubData().lock.path == default_lock()
