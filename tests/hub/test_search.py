"""Modules are found by task, base and language, on a hub and in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import Fault, Hub

import adapterxl as axl
from adapterxl.cli import main
from adapterxl.errors import HubError, UsageError
from adapterxl.hub import Patience, push, search

QUICK = Patience(deadline=20, timeout=5, attempts=2, backoff=0.01)


@pytest.fixture
def modules(saved: Callable[..., Path], score: Callable[..., axl.Scores], tmp_path: Path) -> dict[str, Path]:
    """Two modules, and scores of the first."""
    pos, nli = saved("lora", name="udpos"), saved("stack", kind="classify", name="xnli")
    score(pos, {"en": 0.9, "de": 0.6}).save(tmp_path / "udpos.json")
    return {"udpos": pos, "xnli": nli}


def publish(modules: dict[str, Path], **where: object) -> None:
    scores = modules["udpos"].parent / "udpos.json"
    push(modules["udpos"], "someone/pos", base="org/tiny", scores=[scores], **where)  # type: ignore[arg-type]
    push(modules["xnli"], "other/nli", base="org/tiny", **where)  # type: ignore[arg-type]


def test_the_hub_is_searched_by_tags(hub: Hub, modules: dict[str, Path]) -> None:
    publish(modules, patience=QUICK)
    hub.serve_repository("other/model", {"README.md": b"---\ntags: [xnli]\n---\n"})
    found = {one.place: one for one in search(patience=QUICK)}
    assert found.keys() == {"someone/pos", "other/nli"}
    pos = found["someone/pos"]
    assert (pos.task, pos.base, pos.languages, pos.made_by) == ("udpos", "org/tiny", ("en", "de"), "lora")
    assert pos.score == "token_accuracy 60.0" and pos.size and pos.size > 10_000
    assert [one.place for one in search(task="xnli", patience=QUICK)] == ["other/nli"]
    assert [one.place for one in search(language="de", patience=QUICK)] == ["someone/pos"]
    assert len(search(base="org/tiny", patience=QUICK)) == 2 and not search(base="org/other", patience=QUICK)
    assert len(search(limit=1, patience=QUICK)) == 1


def test_a_hub_that_ignores_the_filter_does_not_widen_the_search(hub: Hub, modules: dict[str, Path]) -> None:
    publish(modules, patience=QUICK)
    everything = search(patience=QUICK)

    def ignoring(handler, code, data, sent) -> None:  # type: ignore[no-untyped-def]
        handler.path = "/api/models"
        handler.reply(*handler.answer())

    hub.faults = [Fault("GET /api/models?", ignoring)]
    assert len(everything) == 2 and [one.place for one in search(task="udpos", patience=QUICK)] == ["someone/pos"]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[1]"])
def test_an_answer_that_is_no_list_is_refused(body: bytes, hub: Hub) -> None:
    hub.faults = [Fault("GET /api/models?", lambda handler, *_: handler.reply(200, body, {}))]
    with pytest.raises(HubError, match="search: the hub's answer is"):
        search(patience=QUICK)


def test_a_folder_is_searched_by_manifests(
    own_cache: Path, modules: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    publish(modules, hub=place)
    found = {one.place: one for one in search(place)}
    assert found.keys() == {str(place / "someone" / "pos"), str(place / "other" / "nli")}
    pos = found[str(place / "someone" / "pos")]
    assert pos.task == "udpos" and pos.languages == ("en", "de") and pos.score == "token_accuracy 60.0"
    fingerprint = axl.load(modules["udpos"]).base["fingerprint"]
    assert len(search(place, base=fingerprint[:10])) == 2 and len(search(place, base="tiny-xlmr")) == 2
    assert len(search(place, task="xnli")) == 1 and len(search(place, language="de")) == 1
    (place / "other" / "nli" / "adapterxl.json").write_text("{}", encoding="utf-8")
    capsys.readouterr()
    assert len(search(place)) == 1 and "left out: " in capsys.readouterr().err


def test_what_was_looked_for_is_said_when_nothing_is_found(
    own_cache: Path, modules: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["search", str(tmp_path), "--task", "xnil", "--language", "de"]) == 0
    said = capsys.readouterr().out
    assert said == f"nothing found in {tmp_path} with task xnil, language de. Did you mean 'xnli'?\n"
    assert main(["search", str(tmp_path), "--task", "udpos"]) == 0
    table = capsys.readouterr().out
    assert "udpos" in table and "mean score" in table


def test_arguments_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="found an empty text"):
        search(tmp_path, task="")
    with pytest.raises(UsageError, match="limit: found 0"):
        search(tmp_path, limit=0)
