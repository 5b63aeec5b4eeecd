"""What a hub can do wrong to a pull: each fault is refused in one line or recovered from, and nothing unverified stays.

Faults that wait do so until the test is over: that a pull ends at all shows that its deadline is kept.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_server import TOKEN, Fault, Handler, Hub, serve
from huggingface_hub import constants
from layouts import parts_of
from samples import LABELS, make_module
from sealing import edit_manifest

from adapterxl.artifacts import load
from adapterxl.backbone import Backbone
from adapterxl.errors import AdapterXLError
from adapterxl.hub import Patience, pull

REPO = "someone/pos"
WEIGHTS, MANIFEST, LIST = "adapter_model.safetensors", "adapterxl.json", "/api/models/someone/pos/revision"
OBJECT = "GET /lfs/"  # where the weights lie
QUICK = Patience(deadline=20, timeout=1, attempts=3, backoff=0.01)
HASTY = Patience(deadline=0.6, timeout=5, attempts=3, backoff=0.01)
RESTLESS = Patience(deadline=20, timeout=0.2, attempts=2, backoff=0.01)

Act = Callable[[Handler, int, bytes, dict[str, str]], None]
OVER = threading.Event()  # set when a test is over, so that its server's threads end


@pytest.fixture(scope="module")
def files(tiny_xlmr: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a module, and of a repository with it."""
    on, folder = Backbone(tiny_xlmr, device="cpu"), tmp_path_factory.mktemp("faults") / "pos"
    make_module(on, "pos", parts_of("lora", on), "tag", labels=LABELS).save(folder)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found | {"README.md": b"---\ntags: [adapterxl]\n---\nA card.\n", ".gitattributes": b"", "plot.png": b"1"}


@pytest.fixture(autouse=True)
def over() -> Iterator[None]:
    OVER.clear()
    yield
    OVER.set()


# What a server does in place of its answer.


def status(code: int, **headers: str) -> Act:
    def act(handler: Handler, _: int, data: bytes, sent: dict[str, str]) -> None:
        handler.reply(code, b"{}", {name.replace("_", "-"): value for name, value in headers.items()})

    return act


def changed(**headers: str) -> Act:
    def act(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
        handler.reply(code, data, sent | {name.replace("_", "-"): value for name, value in headers.items()})

    return act


def replaced(change: Callable[[bytes], bytes], **headers: str) -> Act:
    def act(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
        handler.reply(code, change(data), sent | {name.replace("_", "-"): value for name, value in headers.items()})

    return act


def listing(change: Callable[[dict[str, Any]], object]) -> Act:
    def edit(data: bytes) -> bytes:
        found = json.loads(data)
        change(found)
        return json.dumps(found).encode()

    return replaced(edit)


def cut(share: float) -> Act:
    """The connection ends after a share of the body."""

    def act(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
        handler.head(code, sent | {"Content-Length": str(len(data))})
        handler.wfile.write(data[: int(share * len(data))])
        handler.close_connection = True

    return act


def stalled(share: float) -> Act:
    """Nothing more comes after a share of the body; without a body not even a status."""

    def act(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
        if share:
            handler.head(code, sent | {"Content-Length": str(len(data))})
            handler.wfile.write(data[: int(share * len(data))])
            handler.wfile.flush()
        OVER.wait()
        handler.close_connection = True

    return act


def dripping(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    """A byte now and then: never a stall, and never done."""
    handler.head(code, sent | {"Content-Length": str(len(data))})
    for byte in data:
        handler.wfile.write(bytes([byte]))
        if OVER.wait(0.02):
            break
    handler.close_connection = True


def dripping_headers(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not OVER.wait(0.02):
        handler.wfile.write(b"x")
    handler.close_connection = True


def slow(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    """In twenty pieces, and each in time."""
    handler.head(code, sent | {"Content-Length": str(len(data))})
    step = len(data) // 20 + 1
    for begin in range(0, len(data), step):
        handler.wfile.write(data[begin : begin + step])
        OVER.wait(0.005)


def endless(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    """No length, and no end."""
    handler.head(200, {"Connection": "close"})
    while not OVER.is_set():
        handler.wfile.write(b"\0" * 65536)


def without_length(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    """All of it, and the end of the connection as its end."""
    handler.head(code, {"Connection": "close"})
    handler.wfile.write(data)
    handler.close_connection = True


def range_ignored(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    handler.reply(200, handler.hub.objects[handler.path.split("/")[2]], {})


def other_range(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    """The range that was asked for, of a file of another revision: same size, other bytes."""
    handler.reply(code, bytes(255 - byte for byte in data), sent)


def wrong_range(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
    handler.reply(code, data, sent | {"Content-Range": "bytes 0-9/10"})


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def add_file(name: str) -> Act:
    return listing(lambda found: found["siblings"].append({"rfilename": name, "size": 1}))


def without(name: str) -> Act:
    def drop(found: dict[str, Any]) -> None:
        found["siblings"] = [each for each in found["siblings"] if each["rfilename"] != name]

    return listing(drop)


def resized(name: str, size: int) -> Act:
    def edit(found: dict[str, Any]) -> None:
        for each in found["siblings"]:
            if each["rfilename"] == name:
                each["size"] = size

    return listing(edit)


@dataclass(frozen=True)
class Case:
    """Faults, and what is said of them; None: they are recovered from."""

    faults: tuple[tuple[str, Act, int], ...]
    says: str | None = None
    patience: Patience = QUICK


ALWAYS = 10_000


def once(match: str, act: Act) -> Case:
    return Case(((match, act, 1),))


def always(match: str, act: Act, says: str, patience: Patience = QUICK) -> Case:
    return Case(((match, act, ALWAYS),), says, patience)


def cut_then(act: Act) -> Case:
    """A first cut, so that the next try asks for the rest."""
    return Case(((OBJECT, cut(0.5), 1), (OBJECT, act, 1)))


CASES: dict[str, Case] = {
    "slow": once(OBJECT, slow),
    "too slow for the deadline": always(OBJECT, dripping, "deadline of 0.6 s", HASTY),
    "headers too slow for the deadline": always(OBJECT, dripping_headers, "deadline of 0.6 s", HASTY),
    "list too slow for the deadline": always(LIST, dripping, "deadline of 0.6 s", HASTY),
    "no answer once": Case(((OBJECT, stalled(0), 1),), None, RESTLESS),
    "no answer ever": always(OBJECT, stalled(0), "nothing came for too long", RESTLESS),
    "no answer before the deadline": always(LIST, stalled(0), "deadline of 0.6 s", HASTY),
    "stalled in the middle once": Case(((OBJECT, stalled(0.5), 1),), None, RESTLESS),
    "stalled in the middle ever again": always(OBJECT, stalled(0.3), "nothing came for too long", RESTLESS),
    **{f"cut at {10 * tenth} %": once(OBJECT, cut(tenth / 10)) for tenth in range(10)},
    "cut every time": always(OBJECT, cut(0), "cut off"),
    "manifest cut once": once(MANIFEST, cut(0.5)),
    "manifest cut every time": always(MANIFEST, cut(0.5), "cut off"),
    "list cut once": once(LIST, cut(0.5)),
    "500 once": once(OBJECT, status(500)),
    "503 every time": always(OBJECT, status(503), "status 503 for /lfs/"),
    "502 for the list": always(LIST, status(502), "status 502 for /api/models/someone/pos/revision/main"),
    "429 that says when": once(OBJECT, status(429, Retry_After="0")),
    "429 for longer than the deadline": always(OBJECT, status(429, Retry_After="3600"), "asks to wait 3600 s"),
    "401": always(LIST, status(401), "status 401 .* log in"),
    "403": always(OBJECT, status(403), "status 403 .* token"),
    "404 of one file": always(WEIGHTS, status(404), f"status 404 for /{REPO}/resolve/.*/{WEIGHTS}"),
    "repository not there": always(LIST, status(404), "status 404 .* check name"),
    "redirect loop": always(WEIGHTS, status(302, Location="?again"), "redirected more than 5 times"),
    "redirect to a file": always(WEIGHTS, status(302, Location="file:///etc/passwd"), "to a file address"),
    "redirect without a host": always(WEIGHTS, status(302, Location="https:///x"), "to a https address"),
    "manifest from another host": always(
        MANIFEST, status(302, Location="http://localhost:9/x"), "another host .localhost."
    ),
    "list from another host": always(LIST, status(302, Location="http://localhost:9/x"), "another host .localhost."),
    "too short, and says so": always(OBJECT, replaced(lambda data: data[:-8]), "bytes are announced, expected"),
    "too long, and says so": always(OBJECT, replaced(lambda data: data + b"\0" * 8), "bytes are announced, expected"),
    "no length": once(OBJECT, without_length),
    "no end": always(OBJECT, endless, "more than the .* bytes"),
    "list without end": always(LIST, endless, "more than the 8,388,608 bytes"),
    "wrong ETag": once(WEIGHTS, changed(ETag='"0"', X_Linked_Etag='"0"')),
    "wrong bytes once": once(OBJECT, replaced(flipped)),
    "wrong bytes every time": always(OBJECT, replaced(flipped), "sha256 is not the one in adapterxl.json, twice"),
    "wrong bytes of the manifest": always(
        MANIFEST, replaced(lambda data: data.replace(b"pos", b"sop")), "git object id differs"
    ),
    "wrong bytes of the card": always("README.md", replaced(flipped), "git object id differs"),
    "revision moved while fetching": always(MANIFEST, changed(X_Repo_Commit="0" * 40), "is of commit '000000000000'"),
    "range ignored": cut_then(range_ignored),
    "range from another revision": cut_then(other_range),
    "another range than asked for": cut_then(wrong_range),
    "range beyond the end": cut_then(status(416)),
    "gzip that is none": always(OBJECT, changed(Content_Encoding="gzip"), "came as 'gzip'"),
    "gzip that nobody asked for": always(
        MANIFEST, replaced(gzip.compress, Content_Encoding="gzip"), "adapterxl.json came as 'gzip'"
    ),
    "no manifest": always(LIST, without(MANIFEST), "no adapterxl.json, so it is no module"),
    "file that is not in the list": always(LIST, without(WEIGHTS), f"{WEIGHTS} is in adapterxl.json, but"),
    "extra file": always(LIST, add_file("train.py"), "also has 'train.py'"),
    "extra pickle": always(LIST, add_file("pytorch_model.bin"), "also has 'pytorch_model.bin'"),
    "name outside": always(LIST, add_file("../../x.png"), "also has '../../x.png'"),
    "absolute name": always(LIST, add_file("/etc/x"), "also has '/etc/x'"),
    "name with a line end": always(LIST, add_file("a\nb"), r"also has 'a\\nb'"),
    "a name twice": always(LIST, add_file(MANIFEST), "cannot be read. Is"),
    "another size in the list": always(LIST, resized(WEIGHTS, 5), "has 5 bytes there"),
    "list that is no JSON": always(LIST, replaced(lambda _: b"<html>"), "is not JSON"),
    "list that is nothing": always(LIST, replaced(lambda _: b"[]"), "cannot be read. Is"),
    "commit that is none": always(LIST, listing(lambda found: found.update(sha="main")), "cannot be read. Is"),
}


def check_cache(cache: Path) -> None:
    """Whatever has a digest for its name has that digest."""
    for path in (cache / "hub").glob("*") if (cache / "hub").is_dir() else ():
        if path.suffix != ".part":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@pytest.mark.parametrize("name", CASES)
def test_a_fault_of_the_hub_is_refused_or_recovered_and_nothing_unverified_is_kept(
    name: str, hub: Hub, files: dict[str, bytes], own_cache: Path, tmp_path: Path
) -> None:
    case, out = CASES[name], tmp_path / "place" / "pos"
    out.parent.mkdir()
    hub.serve_repository(REPO, files)
    hub.faults = [Fault(*fault) for fault in case.faults]
    if case.says is None:
        pull(REPO, out, patience=case.patience)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            name: data for name, data in files.items() if name not in (".gitattributes", "plot.png")
        }
        load(out)
    else:
        with pytest.raises(AdapterXLError, match=case.says) as refused:
            pull(REPO, out, patience=case.patience)
        text = str(refused.value)
        assert "\n" not in text and len(text) < 300 and REPO.split("/")[1] in text and TOKEN not in text
        assert list(out.parent.iterdir()) == [], "nothing is left where the folder was to be"
        assert not (own_cache / "hub-modules.lock.json").exists(), "what failed is not pinned"
    check_cache(own_cache)
    assert all(fault.times < 10_000 for fault in hub.faults), "every fault happened"


def test_the_table_has_at_least_25_faults():
    assert len(CASES) >= 25


def test_a_cut_transfer_goes_on_where_it_ended_also_in_a_later_pull(
    hub: Hub, files: dict[str, bytes], own_cache: Path, tmp_path: Path
) -> None:
    hub.serve_repository(REPO, files)
    hub.faults = [Fault(OBJECT, cut(0.5))]
    with pytest.raises(AdapterXLError, match="cut off"):
        pull(REPO, tmp_path / "pos", patience=Patience(deadline=20, timeout=1, attempts=1, backoff=0.01))
    (part,) = (own_cache / "hub").glob("*.part")
    there = part.stat().st_size
    assert 0 < there < len(files[WEIGHTS])
    hub.faults = []
    pull(REPO, tmp_path / "pos", patience=QUICK)
    asked = [headers.get("range") for method, path, headers in hub.requests if path.startswith("/lfs/")]
    assert asked[-1] == f"bytes={there}-" and not list((own_cache / "hub").glob("*.part"))
    assert (tmp_path / "pos" / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_what_was_left_unfinished_by_another_revision_does_no_harm(
    hub: Hub, files: dict[str, bytes], own_cache: Path, tmp_path: Path
) -> None:
    hub.serve_repository(REPO, files)
    digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
    (own_cache / "hub").mkdir(parents=True)
    (own_cache / "hub" / f"{digest}.part").write_bytes(b"\0" * 100)
    pull(REPO, tmp_path / "pos", patience=QUICK)
    assert (tmp_path / "pos" / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_another_host_gives_large_files_but_never_sees_the_token(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.serve_repository(REPO, files)
    with serve(Hub()) as other:
        other.objects = dict(hub.objects)
        digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
        elsewhere = other.address.replace("127.0.0.1", "localhost") + f"/lfs/{digest}"
        hub.faults = [Fault(WEIGHTS, status(302, Location=elsewhere))]
        pull(REPO, tmp_path / "pos", patience=QUICK)
        assert other.requests and not any("authorization" in headers for _, _, headers in other.requests)
        assert any(TOKEN in headers.get("authorization", "") for _, _, headers in hub.requests)


def test_https_is_not_left_for_http() -> None:
    import requests

    from adapterxl.hub.transport import Refused, _next

    response = requests.Response()
    response.headers["Location"] = "http://cdn.example/x"
    with pytest.raises(Refused, match="redirected to a http address"):
        _next("https://hub.example/x", response, True)
    assert _next("http://hub.example/x", response, True) == "http://cdn.example/x"


def test_a_manifest_that_names_a_file_outside_is_refused_before_anything_is_fetched(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / MANIFEST).write_bytes(files[MANIFEST])
    edit_manifest(tmp_path, lambda values: values["files"].update({"../x": values["files"].pop(WEIGHTS)}))
    hub.serve_repository(REPO, files | {MANIFEST: (tmp_path / MANIFEST).read_bytes()})
    with pytest.raises(AdapterXLError, match=r"adapterxl.json: .*inside the folder"):
        pull(REPO, tmp_path / "pos", patience=QUICK)
    assert not hub.asked(OBJECT) and not (tmp_path / "pos").exists()


def test_a_module_that_is_too_large_is_refused_before_it_is_fetched(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.serve_repository(REPO, files)
    with pytest.raises(AdapterXLError, match="bytes, more than the 1,000 of --max-bytes"):
        pull(REPO, tmp_path / "pos", max_bytes=1000, patience=QUICK)
    assert not hub.asked(OBJECT)


def test_a_branch_that_moves_between_list_and_files_changes_nothing(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    commit = hub.serve_repository(REPO, files)

    def move(handler: Handler, code: int, data: bytes, sent: dict[str, str]) -> None:
        hub.serve_repository(REPO, files | {WEIGHTS: b"other"})
        handler.reply(code, data, sent)

    hub.faults = [Fault(LIST, move, 1)]
    assert pull(REPO, tmp_path / "pos", patience=QUICK).commit == commit
    assert (tmp_path / "pos" / WEIGHTS).read_bytes() == files[WEIGHTS]


def test_a_hub_that_answers_with_another_commit_than_asked_is_refused(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    commit = hub.serve_repository(REPO, files)
    hub.faults = [Fault(LIST, listing(lambda found: found.update(sha="1" * 40)))]
    with pytest.raises(AdapterXLError, match="answers with commit 111111111111"):
        pull(REPO, tmp_path / "pos", revision=commit, patience=QUICK)


def test_a_hub_that_is_not_there_is_named_in_one_line(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub.utils import reset_sessions

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    reset_sessions()
    with pytest.raises(AdapterXLError, match=r"someone/pos@main: .*/revision/main: connection refused \(2 tries\)"):
        pull(REPO, tmp_path / "pos", patience=RESTLESS)
    reset_sessions()
