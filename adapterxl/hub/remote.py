"""The Hugging Face hub (HF_ENDPOINT honoured) as pull and search read it: lists, then files, each within its bounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from huggingface_hub import constants, try_to_load_from_cache

from ..artifacts.manifest import FileEntry
from ..errors import HubError
from .blobs import Blobs, right
from .front_matter import repo_id
from .transport import Wire

BRANCH = "main"
_LIST = 8 << 20  # bytes of a list at most
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class Listed:
    """A file as the hub lists it: its size and git object id or, of a large one, its sha256."""

    size: int | None
    blob: str | None
    sha256: str | None

    def same(self, data: bytes, digest: str, blob: str) -> bool:
        """Whether it is this content."""
        return digest == self.sha256 if self.sha256 else blob == self.blob


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repo: str
    commit: str
    files: Mapping[str, Listed]


class Remote:
    """The hub; every request shares one deadline."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def listing(self, repo: str, revision: str) -> Listing:
        """What a repository holds at a commit, tag or branch.

        Raises:
            HubError: If the hub does not say, or says what cannot be.
        """
        what = f"{repo}@{revision[:12] if _COMMIT.fullmatch(revision) else revision}"
        path = f"/api/models/{repo}/revision/{quote(revision, safe='')}?blobs=true"
        found = _json(self.wire.body(constants.ENDPOINT + path, what, _LIST), what)
        try:
            commit, siblings = found["sha"], found["siblings"]
            files = {each["rfilename"]: _listed(each) for each in siblings}
            if not _COMMIT.fullmatch(commit) or len(files) != len(siblings) or not all(map(_is_text, files)):
                raise ValueError
        except (KeyError, TypeError, ValueError) as error:
            raise HubError(f"{what}: the hub's list of its files cannot be read. Is {_host()} a hub?") from error
        if _COMMIT.fullmatch(revision) and commit != revision:
            raise HubError(f"{what}: the hub answers with commit {commit[:12]}. It is not taken.")
        return Listing(repo, commit, files)

    def small(self, listing: Listing, name: str, most: int) -> bytes:
        """A small file whose digest is not known yet."""
        listed = listing.files[name]
        blob = None if listed.sha256 else listed.blob
        where = self._where(listing.repo, listing.commit, name)
        return self.wire.body(where[0], where[1], most, commit=listing.commit, blob=blob)

    def file(self, repo: str, commit: str, name: str, entry: FileEntry, blobs: Blobs) -> bytes:
        """A file of known digest: from our cache, from the Hugging Face cache, or from the hub."""
        known = blobs.get(entry) or _from_cache(repo, commit, name, entry)
        if known is not None:
            return known
        where = self._where(repo, commit, name)
        with blobs.part(entry) as part:
            self.wire.file(where[0], where[1], entry, part, commit)
            blobs.keep(part, entry.sha256)
        data = blobs.get(entry)
        if data is None:
            raise HubError(f"{blobs.folder / entry.sha256}: changed as soon as it was written. Look at the disk.")
        return data

    def search(self, tags: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Repositories that carry all the tags, with their card's metadata."""
        query = urlencode(
            [*(("filter", tag) for tag in tags), ("limit", limit), ("full", "true"), ("cardData", "true")]
        )
        found = _json(self.wire.body(f"{constants.ENDPOINT}/api/models?{query}", "search", _LIST), "search")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise HubError(f"search: the hub's answer is no list. Is {_host()} a hub?")
        return [one for one in found if isinstance(one.get("tags"), list) and set(tags) <= set(map(str, one["tags"]))]

    def _where(self, repo: str, commit: str, name: str) -> tuple[str, str]:
        """Address of a file, and its name for messages."""
        return f"{constants.ENDPOINT}/{repo}/resolve/{commit}/{quote(name)}", f"{repo}@{commit[:12]}: {name}"


def hub_repo(text: str) -> str:
    """A repository's id, someone/name; or a UsageError."""
    return repo_id(text, "repo")


def _from_cache(repo: str, commit: str, name: str, entry: FileEntry) -> bytes | None:
    """What other programs have left in the Hugging Face cache, if it is the very content."""
    place = try_to_load_from_cache(repo, name, revision=commit)
    if not isinstance(place, str) or Path(place).stat().st_size != entry.size:
        return None
    data = Path(place).read_bytes()
    return data if right(data, entry) else None


def _listed(entry: Any) -> Listed:
    large = entry.get("lfs") or {}
    size, digest = entry.get("size"), large.get("sha256")
    return Listed(size if type(size) is int else None, entry.get("blobId"), digest if isinstance(digest, str) else None)


def _json(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HubError(f"{what}: the hub's answer is not JSON. Is {_host()} a hub?") from error


def _host() -> str:
    return constants.ENDPOINT.partition("://")[2].rpartition("@")[2]


def _is_text(name: object) -> bool:
    return isinstance(name, str)
