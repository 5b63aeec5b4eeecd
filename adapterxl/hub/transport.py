"""Reading over HTTP within bounds: tries, waits, sizes, hosts, and one deadline for everything together."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from huggingface_hub.utils import build_hf_headers, get_session

from ..artifacts.manifest import FileEntry
from ..errors import HubError, UsageError

_T = TypeVar("_T")
_HOPS = 5  # redirects of one request
_CHUNK = 1 << 16
_LONGEST_WAIT = 30.0  # seconds between two tries
_GRACE = 0.5  # seconds after the deadline in which a transfer that notices it by itself can say what it waited for
RETRIED = {408, 425, 429, 500, 502, 503, 504}  # statuses after which another try may help
_HINTS = {
    401: "It is private or does not exist: check the name, and log in (hf auth login, or HF_TOKEN).",
    403: "The token may not do this: give one that may (hf auth login, or HF_TOKEN).",
    404: "It does not exist, or is private: check name and revision, and log in (hf auth login, or HF_TOKEN).",
    409: "It was changed meanwhile; say it again.",
    412: "It was changed meanwhile; say it again.",
}
# Part of a library's text -> what it means.
_REASONS = {
    "refused": "connection refused",
    "resolve": "the host is unknown",
    "ncomplete": "cut off",
    "reset": "cut off",
    "Remote end closed": "cut off",
    "certificate": "its certificate is not trusted",
}


@dataclass(frozen=True)
class Patience:
    """How long a hub is waited for.

    Attributes:
        deadline: Seconds for everything together.
        timeout: Seconds without a byte after which a try is given up.
        attempts: Tries of one request.
        backoff: Seconds before the second try; doubled before each further one. A hub's Retry-After goes before it.
    """

    deadline: float = 600.0
    timeout: float = 30.0
    attempts: int = 5
    backoff: float = 0.5

    def __post_init__(self) -> None:
        for name, least in (("deadline", 0.0), ("timeout", 0.0), ("attempts", 1), ("backoff", 0.0)):
            value = getattr(self, name)
            if not least <= value < 1e6 or (name in ("deadline", "timeout") and value == 0):
                raise UsageError(f"{name}: found {value}, expected a number {'from 1' if least else 'above 0'}.")


class Again(Exception):
    """A try that failed and may succeed when it is repeated.

    Args:
        after: Seconds that the hub asks for before the next.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """A try that failed, as every other one would."""


class Wire:
    """Requests that share one deadline, which begins with the first of them."""

    def __init__(self, patience: Patience) -> None:
        self.patience, self.ends = patience, time.monotonic() + patience.deadline

    def within(self, what: str, work: Callable[[], _T]) -> _T:
        """Run `work` in a thread of its own and give up on it a moment after the deadline, whatever it waits for."""
        results: list[_T] = []
        failures: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:  # raised again in the thread that waits
                failures.append(error)

        thread = Thread(target=run, daemon=True, name="adapterxl-hub")
        thread.start()
        thread.join(max(self.ends - time.monotonic(), 0.0) + _GRACE)
        if failures:
            raise failures[0]
        if not results:
            raise HubError(f"{what}: {self._late()}")
        return results[0]

    def retried(self, what: str, attempt: Callable[[], _T]) -> _T:
        """The first answer of `attempt` that is not `Again`.

        Raises:
            HubError: With the reason, when tries or time are used up, or a try is `Refused`.
        """
        for number in range(1, self.patience.attempts + 1):
            try:
                return attempt()
            except Refused as refused:
                raise HubError(f"{what}: {refused}") from refused
            except Again as again:
                tries = f"{number} {'try' if number == 1 else 'tries'}"
                if number == self.patience.attempts:
                    raise HubError(f"{what}: {again} ({tries}). Nothing was changed; try later.") from again
                growing = min(self.patience.backoff * 2 ** (number - 1), _LONGEST_WAIT)
                wait = growing if again.after is None else again.after
                if time.monotonic() + wait >= self.ends:
                    asked = f", and asks to wait {wait:g} s" if again.after else ""
                    raise HubError(f"{what}: {again}{asked} ({tries}); {self._late()}") from again
                time.sleep(wait)
        raise AssertionError("attempts is at least 1")

    def body(self, url: str, what: str, most: int, *, commit: str | None = None, blob: str | None = None) -> bytes:
        """A small answer whose digest is not known before; it has to come from the hub's own host.

        Args:
            most: Bytes above which it is refused.
            commit: The one that the answer has to be of, where it says so.
            blob: Its git object id, where the hub gave one.
        """

        def attempt() -> bytes:
            with self._opened(url, {}, commit, anywhere=False) as response:
                if response.status_code != 200:
                    raise Refused(refusal(response.status_code, urlsplit(url).path))
                data = b"".join(self._chunks(response, most))
            if blob is not None and blob != git_blob(data):
                raise Again("its content is not the one that the hub lists (git object id differs)")
            return data

        return self.retried(what, attempt)

    def file(self, url: str, what: str, entry: FileEntry, part: Path, commit: str) -> None:
        """Bring a file of known size and sha256 to `part`, going on after the bytes that are there already.

        It may come from another host, as large files of the hub do; only its digest makes it whole. An OSError is one
        of the disk.
        """
        wrong = 0

        def attempt() -> None:
            nonlocal wrong
            self._go_on(url, entry, part, commit)
            if _digest(part) == entry.sha256:
                return
            part.unlink()
            wrong += 1
            if wrong > 1:
                raise Refused("its sha256 is not the one in adapterxl.json, twice. It is not kept.")
            raise Again("its sha256 is not the one in adapterxl.json")

        self.retried(what, attempt)

    def _go_on(self, url: str, entry: FileEntry, part: Path, commit: str) -> None:
        there = part.stat().st_size if part.exists() else 0
        if there > entry.size:
            part.unlink()
            there = 0
        if there == entry.size and part.exists():
            return
        asked = {"Range": f"bytes={there}-"} if there else {}
        with self._opened(url, asked, commit, anywhere=True) as response:
            if response.status_code == 416:  # what is there already is not the hub's
                part.unlink(missing_ok=True)
                raise Again(f"status 416 after {there} bytes")
            if response.status_code == 206:
                expected = f"bytes {there}-{entry.size - 1}/{entry.size}"
                if response.headers.get("Content-Range") != expected:
                    part.unlink(missing_ok=True)
                    raise Again(f"part {response.headers.get('Content-Range')!r} of it came, asked for '{expected}'")
            else:
                there = 0  # the whole of it comes
            announced = response.headers.get("Content-Length")
            if announced is not None and announced != str(entry.size - there):
                raise Again(f"{announced} bytes are announced, expected {entry.size - there}")
            with part.open("ab" if there else "wb") as stream:
                for chunk in self._chunks(response, entry.size - there):
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
        found = part.stat().st_size
        if found != entry.size:
            raise Again(f"ended after {found} of {entry.size} bytes")

    @contextmanager
    def _opened(
        self, url: str, headers: Mapping[str, str], commit: str | None, *, anywhere: bool
    ) -> Iterator[requests.Response]:
        """The answer at the end of the redirects, status 200, 206 or 416; only the first host sees the token."""
        home = urlsplit(url).netloc
        for _ in range(_HOPS + 1):
            at = urlsplit(url)
            known = build_hf_headers() if at.netloc == home else {}
            left = self.ends - time.monotonic()
            if left <= 0:
                raise Refused(f"{at.path}: {self._late()}")
            try:
                response = get_session().get(
                    url,
                    headers={**known, **headers, "Accept-Encoding": "identity"},
                    stream=True,
                    allow_redirects=False,
                    timeout=min(self.patience.timeout, left),
                )
            except requests.RequestException as error:
                raise Again(f"{at.path}: {reason(error)}") from error
            with response:
                if response.is_redirect:
                    url = _next(url, response, anywhere)
                    continue
                self._check(response, at.path, commit)
                yield response
                return
        raise Refused(f"{urlsplit(url).path}: redirected more than {_HOPS} times. The hub's address may be wrong.")

    def _check(self, response: requests.Response, path: str, commit: str | None) -> None:
        status = response.status_code
        if status in RETRIED:
            after = response.headers.get("Retry-After", "")
            raise Again(f"status {status} for {path}", float(after) if after.isdecimal() else None)
        if status not in (200, 206, 416):
            raise Refused(refusal(status, path))
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Again(f"{path} came as {response.headers['Content-Encoding']!r}, asked for as it is")
        found = response.headers.get("X-Repo-Commit")
        if commit is not None and found is not None and found != commit:
            raise Again(f"{path} is of commit {found[:12]!r}, asked for {commit[:12]}")

    def _chunks(self, response: requests.Response, most: int) -> Iterator[bytes]:
        path, found = urlsplit(response.url).path, 0
        while True:
            if time.monotonic() >= self.ends:
                raise Refused(f"{path}: {found:,} bytes came; {self._late()}")
            try:
                chunk = response.raw.read1(_CHUNK, decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise Again(f"{path}: after {found:,} bytes: {reason(error)}") from error
            if not chunk:
                return
            found += len(chunk)
            if found > most:
                raise Again(f"{path}: more than the {most:,} bytes that were expected")
            yield chunk

    def _late(self) -> str:
        return f"not done within the deadline of {self.patience.deadline:g} s. Try again, or give a longer --deadline."


def refusal(status: int, path: str) -> str:
    """A status that no other try would change, in words."""
    return f"status {status} for {path}. {_HINTS.get(status, 'The hub does not take the request.')}"


def git_blob(data: bytes) -> str:
    """The id under which git keeps a file; the hub lists it for files that are not large."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _next(url: str, response: requests.Response, anywhere: bool) -> str:
    """Where a redirect leads, if it may."""
    old, target = urlsplit(url), urljoin(url, response.headers["Location"])
    new = urlsplit(target)
    if new.scheme not in ("https", old.scheme) or new.scheme not in ("https", "http") or not new.hostname:
        raise Refused(f"{old.path}: redirected to a {new.scheme or 'nameless'} address, which is not followed.")
    if new.netloc != old.netloc and not anywhere:
        raise Refused(f"{old.path}: redirected to another host ({new.hostname}), which is not followed for this file.")
    return target


def reason(error: Any) -> str:
    """Why a connection failed, in a few words; the libraries' own texts name whole addresses and objects."""
    text = str(error)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError) or "timed out" in text:
        return "nothing came for too long"
    return next((words for part, words in _REASONS.items() if part in text), type(error).__name__)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
