"""A conformance server: the part of the hub's documented HTTP API that huggingface_hub uses for models, with faults.

It is no hub: it keeps commits in memory, on this machine's loopback, for tests of our client code and of the real
client library. What it answers follows the API's documentation and what the client expects of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "conformance" * 3  # made up
_LARGE = (".safetensors", ".bin")


@dataclass
class Repository:
    """Commits of one repository: branch -> commit, commit -> files; `large` are kept apart as LFS objects."""

    private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def add(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        digest = hashlib.sha1(repr((sorted(files.items()), len(self.commits), message)).encode()).hexdigest()
        self.commits[digest], self.branches[branch], self.messages[digest] = dict(files), digest, message
        return digest


@dataclass
class Fault:
    """What goes wrong: `act` answers requests whose method and path hold `match`, the first `times` of them."""

    match: str
    act: Callable[[Handler, int, bytes, dict[str, str]], None]
    times: int = 10_000


class Hub:
    """The repositories, LFS objects, faults, and the requests that came: (method, path, headers)."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.address = ""

    def serve_repository(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit to a repository, made if needed; returns the commit."""
        self.objects |= {hashlib.sha256(data).hexdigest(): data for name, data in files.items() if is_large(name)}
        return self.repositories.setdefault(repo, Repository()).add(files)

    def asked(self, part: str) -> int:
        """How many requests had `part` in method and path."""
        return sum(part in f"{method} {path}" for method, path, _ in self.requests)


def is_large(name: str) -> bool:
    return name.endswith(_LARGE)


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """One request; `hub` is set by `serve`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self) -> None:
        self.sent_head = False
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.hub.requests.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        status, data, headers = self.answer()
        for fault in self.hub.faults:
            if fault.times > 0 and fault.match in f"{self.command} {self.path}":
                fault.times -= 1
                fault.act(self, status, data, headers)
                return
        self.reply(status, data, headers)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Tests print nothing of it."""

    def reply(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.head(status, {"Content-Length": str(len(data))} | headers)
        if self.command != "HEAD":
            self.wfile.write(data)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    # The API.

    def answer(self) -> tuple[int, bytes, dict[str, str]]:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        parts = [unquote(part) for part in path.strip("/").split("/")]
        reads = self.command in ("GET", "HEAD") or "paths-info" in parts
        if not reads and not self.known() and parts[0] != "lfs":
            return problem(401, "Invalid username or password.")
        if parts == ["api", "whoami-v2"]:
            return as_json({"name": "someone", "type": "user"}) if self.known() else problem(401, "Log in first.")
        if parts == ["api", "validate-yaml"]:
            return self.validate()
        if parts == ["api", "repos", "create"]:
            return self.create()
        if parts == ["api", "models"]:
            return self.search(query)
        if parts[0] == "lfs":
            return self.large(parts)
        repo = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2]).removesuffix(".git")
        found = self.hub.repositories.get(repo)
        if found is None or (found.private and not self.known()):
            return problem(404 if self.known() else 401, "Repository not found", "RepoNotFound")
        if parts[:2] == ["api", "models"]:
            return self.about(repo, found, parts[4:], query)
        if parts[2:4] == ["info", "lfs"]:
            return self.batch()
        if parts[2] == "resolve" and len(parts) > 4:
            return self.resolve(repo, found, parts[3], "/".join(parts[4:]))
        return problem(404, "Not found")

    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def validate(self) -> tuple[int, bytes, dict[str, str]]:
        content = json.loads(self.body)["content"]
        try:
            data = yaml.safe_load(content.split("---\n")[1])
            errors = [] if isinstance(data, dict) else [{"message": "metadata has to be an object"}]
        except (IndexError, yaml.YAMLError) as error:
            errors = [{"message": str(error)}]
        return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def create(self) -> tuple[int, bytes, dict[str, str]]:
        asked = json.loads(self.body)
        repo = f"{asked.get('organization') or 'someone'}/{asked['name']}"
        if repo in self.hub.repositories:
            return as_json({"url": f"{self.hub.address}/{repo}", "error": "You already created it"}, 409)
        made = self.hub.repositories[repo] = Repository(private=bool(asked.get("private")))
        made.add({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, message="initial commit")
        return as_json({"url": f"{self.hub.address}/{repo}", "name": repo})

    def search(self, query: dict[str, list[str]]) -> tuple[int, bytes, dict[str, str]]:
        shown = []
        for repo, found in sorted(self.hub.repositories.items()):
            if found.private and not self.known():
                continue
            one = self.info(repo, found, found.branches["main"], with_blobs=False)
            if set(query.get("filter", ())) <= set(one["tags"]):
                shown.append(one)
        return as_json(shown[: int(query.get("limit", ["1000"])[0])])

    def info(self, repo: str, found: Repository, commit: str, with_blobs: bool) -> dict[str, Any]:
        files = found.commits[commit]
        text = files.get("README.md", b"").decode()
        card = yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}
        languages = card.get("language") or []
        tags = [*(card.get("tags") or []), *([languages] if isinstance(languages, str) else languages)]
        siblings = [{"rfilename": name} | (entry(data, name) if with_blobs else {}) for name, data in files.items()]
        return {"_id": "0", "id": repo, "modelId": repo, "sha": commit, "private": found.private, "tags": tags,
                "cardData": card, "siblings": siblings, "lastModified": "2026-01-01T00:00:00.000Z", "downloads": 0,
                "likes": 0, "author": repo.split("/")[0], "gated": False, "disabled": False}  # fmt: skip

    def about(
        self, repo: str, found: Repository, rest: list[str], query: dict[str, list[str]]
    ) -> tuple[int, bytes, dict[str, str]]:
        if rest and rest[0] == "refs":
            heads = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in found.branches.items()]
            return as_json({"branches": heads, "tags": [], "converts": []})
        if rest and rest[0] == "branch":
            if rest[1] in found.branches:
                return problem(409, "Reference already exists")
            found.branches[rest[1]] = found.branches["main"]
            return as_json({})
        revision = rest[1] if len(rest) > 1 else "main"
        commit = found.branches.get(revision, revision)
        if commit not in found.commits:
            return problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        if not rest or rest[0] == "revision":
            return as_json(self.info(repo, found, commit, query.get("blobs") in (["true"], ["True"])))
        if rest[0] == "tree":
            return as_json([in_tree(name, data) for name, data in found.commits[commit].items()])
        if rest[0] == "paths-info":
            posted = self.body.decode()
            wanted = json.loads(posted)["paths"] if posted.startswith("{") else parse_qs(posted).get("paths", [])
            return as_json([in_tree(name, data) for name, data in found.commits[commit].items() if name in wanted])
        if rest[0] == "preupload":
            files = json.loads(self.body)["files"]
            there = found.commits[commit]
            return as_json({"files": [{"path": each["path"], "shouldIgnore": False,
                                       "uploadMode": "lfs" if is_large(each["path"]) else "regular"}
                                      | ({"oid": blob(there[each["path"]])} if each["path"] in there else {})
                                      for each in files]})  # fmt: skip
        if rest[0] == "commit":
            return self.commit(repo, found, revision, commit)
        return problem(404, "Not found")

    def commit(self, repo: str, found: Repository, branch: str, parent: str) -> tuple[int, bytes, dict[str, str]]:
        files, header = dict(found.commits[parent]), {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                header = value
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return problem(400, f"LFS object {value['oid']} was not uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif item["key"] == "deletedFile":
                if value["path"] not in files:
                    return problem(404, "A file with this name doesn't exist", "EntryNotFound")
                del files[value["path"]]
        if header.get("parentCommit") not in (None, parent):
            return problem(412, "A commit has happened since. Please refresh and try again.")
        made = found.add(files, branch, header.get("summary", ""))
        return as_json({"commitUrl": f"{self.hub.address}/{repo}/commit/{made}", "commitOid": made, "success": True})

    def batch(self) -> tuple[int, bytes, dict[str, str]]:
        objects = []
        for each in json.loads(self.body)["objects"]:
            one = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.objects:
                where = f"{self.hub.address}/lfs/{each['oid']}"
                one["actions"] = {"upload": {"href": where}, "verify": {"href": f"{where}/verify"}}
            objects.append(one)
        return as_json({"transfer": "basic", "objects": objects})

    def large(self, parts: list[str]) -> tuple[int, bytes, dict[str, str]]:
        digest = parts[1]
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != digest:
                return problem(400, "The content is not of this oid")
            self.hub.objects[digest] = self.body
            return 200, b"", {}
        if digest not in self.hub.objects:
            return problem(404, "No such object")
        return (200, b"", {}) if parts[2:] == ["verify"] else self.ranged(self.hub.objects[digest], {})

    def resolve(self, repo: str, found: Repository, revision: str, name: str) -> tuple[int, bytes, dict[str, str]]:
        commit = found.branches.get(revision, revision)
        if commit not in found.commits:
            return problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        data = found.commits[commit].get(name)
        if data is None:
            return problem(404, "Entry not found", "EntryNotFound", headers)
        if not is_large(name):
            return self.ranged(data, headers | {"ETag": f'"{blob(data)}"'})
        digest = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "ETag": f'"{digest}"'}
        return 302, b"", headers | linked | {"Location": f"{self.hub.address}/lfs/{digest}"}

    def ranged(self, data: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        asked = self.headers.get("Range")
        if not asked:
            return 200, data, headers
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
        if begin >= len(data):
            return 416, b"", headers | {"Content-Range": f"bytes */{len(data)}"}
        return 206, data[begin : end + 1], headers | {"Content-Range": f"bytes {begin}-{end}/{len(data)}"}


def as_json(value: object, status: int = 200) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"}


def problem(
    status: int, message: str, code: str = "", headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    status, data, sent = as_json({"error": message}, status)
    return (
        status,
        data,
        sent | {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | (headers or {}),
    )


def in_tree(name: str, data: bytes) -> dict[str, Any]:
    large = {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
    return {"type": "file", "path": name, "oid": blob(data), "size": len(data)} | (large if is_large(name) else {})


def entry(data: bytes, name: str) -> dict[str, Any]:
    large = {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}}
    return {"size": len(data), "blobId": blob(data)} | (large if is_large(name) else {})


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """The hub at its address on the loopback, until the end of the block."""
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
