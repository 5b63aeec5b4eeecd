"""Tasks from the hub through the real client, over HTTP, from a small local server of the hub's documented API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from repositories import write_repository

CHECKOUT = Path(__file__).resolve().parent.parent.parent
TEXT = Value("string")
ANSWERS = {"text": List(TEXT), "answer_start": List(Value("int32"))}
SCRIPT = """
import json, sys
from adapterxl.data import HubData
from adapterxl.errors import AdapterXLError
from adapterxl.tasks import get_task
for name, split, language in json.loads(sys.argv[1]):
    try:
        loaded = HubData().load(get_task(name), split, language)
        print(json.dumps([loaded.origin, repr(loaded.examples), list(loaded.warnings)]))
    except AdapterXLError as error:
        print(json.dumps(str(error)))
"""
ASKED = [
    ("mnli", "train", "en"), ("panx", "test", "de"), ("squad", "dev", "en"), ("hellaswag", "train", "en"),
    ("tatoeba", "test", "de"), ("afrisenti", "test", "hau"), ("pawsx", "test", "de"), ("anli", "test", "en"),
]  # fmt: skip


class Hub:
    """Repositories by id, each a folder; answers as the hub does."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def commit(self, repository: str) -> str:
        """The commit of a repository: it follows its content."""
        digest = hashlib.sha1(repository.encode())
        for file in self.files(repository):
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def files(self, repository: str) -> list[Path]:
        return sorted(path for path in (self.root / repository).rglob("*") if path.is_file())

    def entry(self, repository: str, path: Path) -> dict[str, Any]:
        name = path.relative_to(self.root / repository).as_posix()
        if path.is_dir():
            return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
        return {"type": "file", "oid": hashlib.sha1(path.read_bytes()).hexdigest(), "path": name,
                "size": path.stat().st_size}  # fmt: skip

    def answer(self, path: str, body: bytes) -> tuple[int, bytes, str]:
        """Status, content and the commit it is of."""
        path, _, query = unquote(path).partition("?")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            parts = parts[2:]
        elif parts[0] == "datasets":
            parts = parts[1:]
        repository, rest = "/".join(parts[:2]), parts[2:]
        folder = self.root / repository
        if not folder.is_dir():
            return 404, b"{}", ""
        commit = self.commit(repository)
        if rest[:1] == ["resolve"]:
            file = folder.joinpath(*rest[2:])
            return (200, file.read_bytes(), commit) if file.is_file() else (404, b"", commit)
        if rest[:1] == ["tree"]:
            below = folder.joinpath(*rest[2:])
            if not below.is_dir():
                return 404, b"{}", commit
            found = below.rglob("*") if "recursive=true" in query.lower() else below.iterdir()
            return 200, json.dumps([self.entry(repository, each) for each in sorted(found)]).encode(), commit
        if rest[:1] == ["paths-info"]:
            wanted = [folder / name for name in parse_qs(body.decode()).get("paths", [])]
            return 200, json.dumps([self.entry(repository, each) for each in wanted if each.exists()]).encode(), commit
        siblings = [{"rfilename": each.relative_to(folder).as_posix()} for each in self.files(repository)]
        return 200, json.dumps({"id": repository, "sha": commit, "siblings": siblings}).encode(), commit


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Hub]]:
    served = Hub(tmp_path / "hub")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, content, commit = served.answer(self.path, self.rfile.read(length))
            self.send_response(status)
            sent = {"Content-Length": str(len(content)), "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            sent |= {"X-Repo-Commit": commit} if commit else {}
            sent |= {"X-Error-Code": "EntryNotFound" if commit else "RepoNotFound"} if status == 404 else {}
            for key, value in sent.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Tests print nothing of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", served
    server.shutdown()
    server.server_close()


def ask(address: str, cache: Path, asked: list[tuple[str, str, str]]) -> list[Any]:
    """What a fresh process reads of tasks; the client reads its address only when it is imported."""
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HOME": str(cache),
        "ADAPTERXL_CACHE": str(cache / "adapterxl"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_DATASETS_OFFLINE": "0",
        "PYTHONPATH": str(CHECKOUT),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(asked)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.strip().splitlines()]


def write_all(root: Path) -> None:
    """One repository for each family of tasks, and two that cannot be read as they are."""
    nli = ClassLabel(names=["entailment", "neutral", "contradiction"])
    write_repository(root / "nyu-mll/glue", {("mnli", "train"): (
        {"premise": ["a"], "hypothesis": ["b"], "label": [2], "idx": [0]},
        {"premise": TEXT, "hypothesis": TEXT, "label": nli, "idx": Value("int32")})})  # fmt: skip
    tags = ClassLabel(names=["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"])
    write_repository(root / "google/xtreme", {
        ("PAN-X.de", "test"): ({"tokens": [["Rom"]], "ner_tags": [[5]], "langs": [["de"]]},
                               {"tokens": List(TEXT), "ner_tags": List(tags), "langs": List(TEXT)}),
        ("tatoeba.deu", "validation"): ({"source_sentence": ["Ja\n"], "target_sentence": ["Yes\n"]},
                                        {"source_sentence": TEXT, "target_sentence": TEXT}),
    })  # fmt: skip
    write_repository(root / "rajpurkar/squad", {("plain_text", "validation"): (
        {"id": ["x"], "context": ["Rome is old."], "question": ["How?"],
         "answers": [{"text": ["old"], "answer_start": [8]}]},
        {"id": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS})})  # fmt: skip
    write_repository(root / "Rowan/hellaswag", {("default", "train"): (
        {"ctx": ["A man"], "endings": [["w", "x", "y", "z"]], "label": ["3"]},
        {"ctx": TEXT, "endings": List(TEXT), "label": TEXT})})  # fmt: skip
    file = root / "shmuhammad/AfriSenti-twitter-sentiment/hau/test/0000.parquet"
    file.parent.mkdir(parents=True)
    labels = ClassLabel(names=["positive", "neutral", "negative"])
    Dataset.from_dict({"tweet": ["c"], "label": [0]}, features=Features({"tweet": TEXT, "label": labels})).to_parquet(
        file
    )
    write_repository(root / "google-research-datasets/paws-x", {("de", "test"): (
        {"id": [1], "sentence1": ["a"], "sentence2": ["b"], "label": [1]},
        {"id": Value("int32"), "sentence1": TEXT, "sentence2": TEXT, "label": ClassLabel(names=["0", "1"])},
    )})  # fmt: skip
    (root / "facebook/anli").mkdir(parents=True)
    (root / "facebook/anli/anli.py").write_text("raise SystemExit('run')\n")


def test_every_family_is_read_over_http_with_its_commit_and_without_code(hub, tmp_path):
    address, served = hub
    write_all(served.root)
    *read, paraphrase, script = ask(address, tmp_path / "cache", ASKED)
    expected = [
        "ClassifyExample(id='en:0', language='en', text='a', text_pair='b', label=2)",
        "TagExample(id='de:0', language='de', words=('Rom',), tags=(5,))",
        "SpanExample(id='x', language='en', context='Rome is old.', question='How?', answers=(('old', 8),), "
        "sentences=())",
        "ChoiceExample(id='en:0', language='en', context='A man', question='', choices=('w', 'x', 'y', 'z'), label=3)",
        "PairExample(id='de:0', language='de', text='Ja', english='Yes')",
        "ClassifyExample(id='hau:0', language='hau', text='c', text_pair=None, label=2)",
    ]
    assert [rows for _, rows, _ in read] == [f"({row},)" for row in expected]
    assert not any(warnings for *_, warnings in read)
    origin, _, warnings = paraphrase
    assert "google-research-datasets/paws-x" in origin and "google/xtreme (config PAWS-X.de, split test)" in warnings[0]
    # Had its code run, the process would have ended with an error.
    assert "facebook/anli (config plain_text, split test_r1" in script and "scripts are no longer supported" in script
    locked = json.loads((tmp_path / "cache/adapterxl/hub-data.lock.json").read_text())["sources"]
    revisions = {place.partition(" ")[0]: entry["revision"] for place, entry in locked.items()}
    assert revisions == {name: served.commit(name) for name in revisions} and len(revisions) == 6


def test_rows_that_change_on_the_hub_are_refused(hub, tmp_path):
    address, served = hub
    write_all(served.root)
    before = served.commit("Rowan/hellaswag")
    asked = [("hellaswag", "train", "en")]
    ask(address, tmp_path / "cache", asked)
    write_repository(served.root / "Rowan/hellaswag", {("default", "train"): (
        {"ctx": ["A man"], "endings": [["w", "x", "y", "z"]], "label": ["0"]},
        {"ctx": TEXT, "endings": List(TEXT), "label": TEXT})})  # fmt: skip
    (said,) = ask(address, tmp_path / "cache", asked)
    now = served.commit("Rowan/hellaswag")
    assert f"at revision {now[:12]}, expected" in said and f"at revision {before[:12]}, as at first use" in said
