"""Modules go to a hub and come back: what is sent, what is recorded, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import CHECKOUT  # type: ignore[import-not-found]
from hub_server import TOKEN, Fault, Handler, Hub
from huggingface_hub import ModelCard, constants

import adapterxl as axl
from adapterxl.cli import main
from adapterxl.errors import AdapterXLError, ArtifactError, HubError, UsageError
from adapterxl.hub import Patience, pull, push

REPO = "someone/pos"
QUICK = Patience(deadline=20, timeout=5, attempts=3, backoff=0.01)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def at_head(hub: Hub) -> dict[str, bytes]:
    there = hub.repositories[REPO]
    return there.commits[there.branches["main"]]


@pytest.mark.parametrize("layout", ["lora-sequence", "stack"])
def test_a_module_comes_back_from_a_hub_byte_for_byte(
    layout: str, hub: Hub, saved: Callable[..., Path], tmp_path: Path
) -> None:
    folder = saved(layout)
    before = content(folder)
    done = push(folder, REPO, licence="apache-2.0", base="org/tiny", patience=QUICK)
    there = hub.repositories[REPO]
    assert done.commit == there.branches["main"] and done.url == f"{hub.address}/{REPO}/commit/{done.commit}"
    assert len(there.commits) == 2, "one commit beside the first, of the hub itself"
    assert at_head(hub).keys() == before.keys() | {"README.md", ".gitattributes"}
    pulled = pull(REPO, tmp_path / "back", patience=QUICK)
    assert pulled.commit == done.commit and pulled.folder == tmp_path / "back"
    assert content(tmp_path / "back") == before | {"README.md": at_head(hub)["README.md"]}
    assert all(not path.is_symlink() for path in (tmp_path / "back").rglob("*"))
    assert axl.load(pulled).digest() == axl.load(folder).digest()
    assert content(folder) == before, "what is pushed stays as it is"


def test_the_card_that_is_sent_has_all_metadata(hub: Hub, saved: Callable[..., Path], score: Callable[..., axl.Scores],
                                                tmp_path: Path) -> None:  # fmt: skip
    folder = saved("lora")
    score(folder).save(tmp_path / "scores.json")
    push(folder, REPO, scores=[tmp_path / "scores.json"], licence="apache-2.0", base="org/tiny", patience=QUICK)
    data = ModelCard(at_head(hub)["README.md"].decode()).data
    assert (data.license, data.base_model, data.base_model_relation) == ("apache-2.0", "org/tiny", "adapter")
    assert data.library_name == "peft" and data.pipeline_tag == "token-classification"
    assert {"adapterxl", "lora", "pos", "base_model:adapter:org/tiny"} <= set(data.tags)
    assert data.language == ["en", "de", "zh"] and data.metrics == ["accuracy"] and data.eval_results
    assert "adapterxl pull someone/pos --out pos" in at_head(hub)["README.md"].decode()


def test_a_card_that_is_there_stays_and_gets_the_metadata_that_it_lacks(hub: Hub, saved: Callable[..., Path]) -> None:
    folder = saved("lora")
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [mine]\n---\n# Mine\n", encoding="utf-8")
    push(folder, REPO, patience=QUICK)
    front, text = at_head(hub)["README.md"].decode().split("---\n")[1:]
    data = yaml.safe_load(front)
    assert text == "# Mine\n" and data["license"] == "mit" and data["library_name"] == "peft"
    assert data["tags"][0] == "mine" and "adapterxl" in data["tags"]


def test_a_card_whose_metadata_cannot_be_read_is_named(hub: Hub, saved: Callable[..., Path]) -> None:
    folder = saved("lora")
    (folder / "README.md").write_text("---\ntags: [\n---\n# Mine\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"README.md: its metadata, between the lines ---, cannot be read"):
        push(folder, REPO, patience=QUICK)
    assert not hub.requests


def test_nothing_is_sent_twice_and_what_is_gone_is_removed(
    hub: Hub, saved: Callable[..., Path], tmp_path: Path
) -> None:
    first = push(saved("mixed"), REPO, patience=QUICK)
    again = push(tmp_path / "pos", REPO, patience=QUICK)
    assert (again.changed, again.removed, again.commit) == ((), (), first.commit)
    commits = hub.asked("/commit/main")
    later = push(saved("lora", name="other"), REPO, message="A smaller one", patience=QUICK)
    assert commits == 1 and hub.asked("/commit/main") == 2
    assert later.removed and "adapterxl.json" in later.changed and "README.md" in later.changed
    assert at_head(hub).keys() == {".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors",
                                   "adapterxl.json"}  # fmt: skip
    assert hub.repositories[REPO].messages[later.commit or ""] == "A smaller one"


def test_a_dry_run_sends_nothing_and_says_what_it_would(
    hub: Hub, saved: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved("lora")
    assert main(["push", str(folder), REPO, "--dry-run"]) == 0
    assert "would send adapter_model.safetensors" in capsys.readouterr().out
    assert REPO not in hub.repositories and all(method == "GET" for method, _, _ in hub.requests)


def test_a_branch_is_made_and_a_private_repository_is_for_its_owners(
    hub: Hub, saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("lora")
    push(folder, REPO, private=True, revision="trial/1", patience=QUICK)
    there = hub.repositories[REPO]
    assert there.private and there.branches["main"] != there.branches["trial/1"]
    with pytest.raises(HubError, match="no adapterxl.json, so it is no module"):
        pull(REPO, tmp_path / "main", patience=QUICK)
    assert pull(REPO, tmp_path / "trial", revision="trial/1", patience=QUICK).commit == there.branches["trial/1"]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match=f"{REPO}@main: status 401 .* log in"):
        pull(REPO, tmp_path / "other", patience=QUICK)


def test_a_repository_of_something_else_is_left_as_it_is(hub: Hub, saved: Callable[..., Path]) -> None:
    commit = hub.serve_repository(REPO, {"config.json": b"{}", "train.py": b""})
    with pytest.raises(HubError, match=r"holds other files \(config.json, train.py\) and no adapterxl.json"):
        push(saved("lora"), REPO, patience=QUICK)
    assert hub.repositories[REPO].branches["main"] == commit


def test_a_damaged_folder_is_refused_before_the_hub_is_asked(hub: Hub, saved: Callable[..., Path]) -> None:
    folder = saved("lora")
    weights = bytearray((folder / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors: its sha256"):
        push(folder, REPO, patience=QUICK)
    assert not hub.requests


def test_a_token_is_never_sent_in_a_file_nor_told_in_an_error(
    hub: Hub, saved: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved("lora")
    (folder / "README.md").write_text(f"---\ntags: []\n---\nUse {TOKEN}\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match="looks like a hub token") as refused:
        push(folder, REPO, patience=QUICK)
    assert TOKEN not in str(refused.value) and not hub.requests
    (folder / "README.md").unlink()

    def echo(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
        told = f"token {handler.headers['Authorization']} may not"
        handler.reply(403, json.dumps({"error": told}).encode(), {"X-Error-Message": told})

    hub.faults = [Fault("/commit/main", echo)]
    assert main(["push", str(folder), REPO]) == 1
    said = capsys.readouterr()
    assert "status 403 for /api/models/someone/pos/commit/main" in said.err and said.err.count("error:") == 1
    assert TOKEN not in said.err + said.out
    for path, data in content(folder).items():
        assert TOKEN.encode() not in data, path


@pytest.mark.parametrize(
    ("match", "code", "says"),
    [
        ("GET /api/models/", 503, r"someone/pos: status 503 for /api/models/someone/pos/revision/main \(3 tries\)"),
        ("/preupload/", 500, r"status 500 for .*/preupload/main \(3 tries\)"),
        ("/commit/", 412, "status 412 for .*/commit/main. It was changed meanwhile"),
        ("/commit/", 403, "status 403 for .*/commit/main. The token may not"),
        ("/api/validate-yaml", 429, "status 429 for /api/validate-yaml"),
    ],
)
def test_a_hub_that_does_not_take_a_push_is_named_with_status_and_path(
    match: str, code: int, says: str, hub: Hub, saved: Callable[..., Path]
) -> None:
    hub.faults = [Fault(match, lambda handler, *_: handler.reply(code, b"{}", {}))]
    with pytest.raises(HubError, match=says):
        push(saved("lora"), REPO, patience=QUICK)


def test_a_commit_whose_answer_is_lost_is_made_once(hub: Hub, saved: Callable[..., Path]) -> None:
    hub.faults = [Fault("/commit/", lambda handler, *_: handler.reply(503, b"{}", {}), times=1)]
    done = push(saved("lora"), REPO, patience=QUICK)
    assert done.commit == hub.repositories[REPO].branches["main"] and len(hub.repositories[REPO].commits) == 2


def test_the_commit_of_first_use_stays_until_update_is_said(
    hub: Hub, saved: Callable[..., Path], own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = push(saved("lora"), REPO, patience=QUICK).commit
    pull(REPO, tmp_path / "a", patience=QUICK)
    second = push(saved("lora-sequence", name="other"), REPO, patience=QUICK).commit
    capsys.readouterr()
    again = pull(REPO, tmp_path / "b", patience=QUICK)
    assert again.commit == first and content(tmp_path / "a") == content(tmp_path / "b")
    assert f"{REPO}@main has moved on to {str(second)[:12]}" in capsys.readouterr().err
    assert pull(REPO, tmp_path / "c", update=True, patience=QUICK).commit == second
    assert pull(REPO, tmp_path / "d", patience=QUICK).commit == second
    assert pull(REPO, tmp_path / "e", revision=first, patience=QUICK).commit == first
    lock = json.loads((own_cache / "hub-modules.lock.json").read_text(encoding="utf-8"))
    assert {key: entry["commit"] for key, entry in lock["sources"].items()} == {
        f"{REPO}@main": second, f"{REPO}@{first}": first,
    }  # fmt: skip


def test_a_commit_with_another_content_than_at_first_use_is_refused(
    hub: Hub, saved: Callable[..., Path], own_cache: Path, tmp_path: Path
) -> None:
    commit = str(push(saved("lora"), REPO, patience=QUICK).commit)
    pull(REPO, tmp_path / "a", patience=QUICK)
    there = hub.repositories[REPO].commits[commit]
    there["adapterxl.json"] = there["adapterxl.json"].replace(b'"pos"', b'"sop"')
    for kept in (own_cache / "hub").iterdir():
        kept.unlink()
    with pytest.raises(HubError, match="adapterxl.json is not the one of first use"):
        pull(REPO, tmp_path / "b", patience=QUICK)


def test_what_was_pulled_comes_again_without_a_network(
    hub: Hub, saved: Callable[..., Path], own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = push(saved("lora"), REPO, patience=QUICK).commit
    with pytest.raises(HubError, match="never pulled before"):
        pull(REPO, tmp_path / "no", offline=True)
    pull(REPO, tmp_path / "a", patience=QUICK)
    asked = len(hub.requests)
    assert pull(REPO, tmp_path / "b", offline=True).commit == commit
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(REPO, tmp_path / "c").commit == commit
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert len(hub.requests) == asked and content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")
    hub.faults = [Fault("GET", lambda handler, *_: handler.reply(503, b"{}", {}))]
    kept = pull(REPO, tmp_path / "d", patience=QUICK)
    assert kept.commit == commit and "came from the cache" in kept.notes[0] and "status 503" in kept.notes[0]
    (largest,) = [path for path in (own_cache / "hub").iterdir() if path.stat().st_size > 20_000]
    largest.write_bytes(b"x" * largest.stat().st_size)
    with pytest.raises(HubError, match="some of its files are not in"):
        pull(REPO, tmp_path / "e", offline=True)
    assert not (tmp_path / "e").exists()


def test_files_of_the_hugging_face_cache_are_used_after_the_same_checks(
    hub: Hub, saved: Callable[..., Path], own_cache: Path, tmp_path: Path
) -> None:
    push(saved("lora"), REPO, patience=QUICK)
    commit, name = hub.repositories[REPO].branches["main"], "adapter_model.safetensors"
    cache = Path(constants.HF_HUB_CACHE, "models--someone--pos")
    blob, link = cache / "blobs" / "b", cache / "snapshots" / commit / name
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    link.symlink_to(blob)
    blob.write_bytes(b"x" * len(at_head(hub)[name]))  # of the right size, as the client accepts it
    pull(REPO, tmp_path / "a", patience=QUICK)
    assert hub.asked("GET /lfs/") == 1
    for kept in (own_cache / "hub").iterdir():
        kept.unlink()
    blob.write_bytes(at_head(hub)[name])
    pull(REPO, tmp_path / "b", patience=QUICK)
    assert hub.asked("GET /lfs/") == 1 and not (tmp_path / "b" / name).is_symlink()
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_what_is_at_out_is_not_replaced_unless_it_is_said(hub: Hub, saved: Callable[..., Path], tmp_path: Path) -> None:
    folder = saved("lora")
    push(folder, REPO, patience=QUICK)
    before, asked = content(folder), len(hub.requests)
    with pytest.raises(ArtifactError, match="already holds a module"):
        pull(REPO, folder, patience=QUICK)
    assert content(folder) == before and len(hub.requests) == asked
    pull(REPO, folder, overwrite=True, patience=QUICK)
    assert content(folder).keys() == before.keys() | {"README.md"}


def test_a_folder_serves_as_hub(
    saved: Callable[..., Path], own_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, folder = tmp_path / "place", saved("stack")
    assert push(folder, REPO, hub=place, dry_run=True).changed and not place.exists()
    done = push(folder, REPO, hub=place)
    assert done.url == str(place / REPO) and push(folder, REPO, hub=place).changed == ()
    assert main(["pull", REPO, "--hub", str(place), "--out", str(tmp_path / "back")]) == 0
    assert content(tmp_path / "back").items() >= content(folder).items()
    other = push(saved("lora", name="other"), REPO, hub=place)
    assert other.removed and content(place / REPO).items() >= content(tmp_path / "other").items()
    with pytest.raises(HubError, match="no module 'someone/else' in this folder"):
        pull("someone/else", tmp_path / "x", hub=place)
    (place / REPO / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="adapter_model.safetensors"):
        pull(REPO, tmp_path / "x", hub=place)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["push", "DIR", "../x"], "expected a hub id such as someone/name"),
        (["push", "nowhere", "someone/x"], "No module folder 'nowhere'"),
        (["push", "DIR", "someone/x", "--licence", "Apache 2"], "expected the hub's short name"),
        (["push", "DIR", "someone/x", "--hub", "h", "--private"], "leave out private"),
        (["push", "DIR", "someone/x"], "HF_HUB_OFFLINE is set"),
        (["push", "DIR", "someone/x", "--deadline", "0"], "deadline: found 0"),
        (["pull", "/etc/x", "--out", "o"], "expected a hub id such as someone/name"),
        (["pull", "someone/x", "--out", "o", "--hub", "h", "--update"], "leave out revision, update"),
        (["pull", "someone/x", "--out", "o", "--tries", "0"], "attempts: found 0"),
        (["pull", "someone/x", "--out", "o"], "never pulled before"),
        (["search", "nowhere"], "no such folder"),
        (["search", "https://x.example"], "HF_ENDPOINT=https://x.example"),
        (["search"], "HF_HUB_OFFLINE is set"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], says: str, saved: Callable[..., Path], own_cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = str(saved("lora")) if "DIR" in words else ""
    monkeypatch.chdir(tmp_path)
    assert main([folder if word == "DIR" else word for word in words]) == 1
    said = capsys.readouterr()
    assert says in said.err.splitlines()[-1] and said.err.count("error:") == 1 and said.out == ""


def test_a_name_that_may_be_on_the_hub_says_how_to_fetch_it() -> None:
    with pytest.raises(AdapterXLError, match="adapterxl pull someone/pos --out DIR"):
        axl.compose("merge('someone/pos')")


def test_the_commands_use_the_hub_that_the_environment_names(
    hub: Hub, saved: Callable[..., Path], tmp_path: Path
) -> None:
    push(saved("lora"), REPO, base="org/tiny", patience=QUICK)
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(CHECKOUT)}
    code = (
        "import sys; from adapterxl.cli import main\n"
        f"print(main(['pull', '{REPO}', '--out', 'back']), main(['search', '--base', 'org/tiny']))\n"
        "print([m for m in ('torch', 'transformers', 'adapters', 'peft', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    lines = done.stdout.splitlines()
    assert lines[-2:] == ["0 0", "[]"], done.stderr
    assert any(REPO in line and "org/tiny" in line for line in lines)
    assert (tmp_path / "back" / "adapterxl.json").is_file()


def test_wrong_arguments_are_refused_before_anything_is_asked() -> None:
    with pytest.raises(UsageError, match="backoff: found -1"):
        Patience(backoff=-1)
