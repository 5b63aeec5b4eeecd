"""A backbone by hub id, through the real client, from a small local server of the hub's documented HTTP API."""

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

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPT = """
import json, sys
from adapterxl import Backbone
from adapterxl.errors import AdapterXLError
try:
    print(json.dumps(Backbone(sys.argv[1], device="cpu").describe()))
except AdapterXLError as error:
    print("error:", error)
"""


@pytest.fixture
def hub(tiny_xlmr: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves `org/tiny`, which also holds a pickle and a script; gives its address and the paths asked for."""
    asked: list[str] = []
    names = [path.name for path in tiny_xlmr.iterdir()] + ["pytorch_model.bin", "modeling_evil.py"]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            asked.append(self.path)
            if self.path.startswith("/api/models/org/tiny"):
                siblings = [{"rfilename": name} for name in names]
                self.send(json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode())
            elif self.path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
                self.send((tiny_xlmr / self.path.rpartition("/")[2]).read_bytes())
            else:
                self.send(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

        def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            tag = hashlib.sha256(body).hexdigest()
            sent = {"Content-Length": str(len(body)), "ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
            for key, value in (sent | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests print nothing of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def ask(address: str, base: str, cache: Path) -> str:
    """What a fresh process says of a base; the client reads its address only when it is imported."""
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(CHECKOUT),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, base], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_a_hub_id_is_loaded_pinned_to_its_commit_and_without_pickles_or_code(
    hub: tuple[str, list[str]], tiny_xlmr: Path, tmp_path: Path
) -> None:
    from adapterxl.backbone import fingerprint

    address, asked = hub
    described = json.loads(ask(address, "org/tiny", tmp_path))
    assert described["id"] == described["name"] == "org/tiny" and described["revision"] == COMMIT
    assert described["fingerprint"] == fingerprint(tiny_xlmr)
    assert not [path for path in asked if path.endswith((".bin", ".py"))]


def test_an_unknown_hub_id_is_one_line(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    said = ask(hub[0], "org/unknown", tmp_path)
    assert said.startswith("error: 'org/unknown' is no folder here, and the hub did not give it either")
