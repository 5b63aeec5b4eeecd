"""`pull`: a module from a hub, pinned to a commit at first use, every byte compared before a folder appears."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants
from pydantic import BaseModel, ConfigDict, Field

from ..artifacts import store
from ..artifacts.manifest import MOST_MANIFEST, FileEntry, Manifest, parse_manifest
from ..console import say
from ..data.lock import LockFile, default_lock
from ..errors import HubError, UsageError
from .blobs import Blobs
from .folders import FolderHub
from .markdown import CARD
from .remote import BRANCH, Listing, Remote, hub_repo
from .transport import Patience, Wire
from .verified import LONGEST_CARD, check_contents, may_lie_beside

LOCK = "hub-modules.lock.json"
LARGEST = 2 << 30  # bytes of a module, unless --max-bytes says otherwise


class Pin(BaseModel):
    """What a repository gave at first use: the commit, and size and sha256 of its manifest and card."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    commit: str = Field(pattern="^[0-9a-f]{40}$")
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class Pulled:
    """A module that was fetched; stands for its folder where a path is expected.

    Attributes:
        folder: Where it is.
        repo: Its id.
        commit: The commit it is of; None from a folder.
        size: Bytes of all its files.
        notes: What a user should know, one sentence each.
    """

    folder: Path
    repo: str
    commit: str | None
    size: int
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return os.fspath(self.folder)


def pull(
    repo: str,
    out: str | Path,
    *,
    revision: str | None = None,
    hub: str | Path | None = None,
    offline: bool = False,
    update: bool = False,
    overwrite: bool = False,
    lock: str | Path | None = None,
    max_bytes: int = LARGEST,
    patience: Patience | None = None,
) -> Pulled:
    """Fetch a module folder; it appears whole, with every file compared with its digest, or not at all.

    The first pull records the commit and the manifest's digest in a lock file; later ones give the same files, and
    say so when the branch has moved on. Files are kept by sha256 in the cache, so that a pull that was cut off goes
    on, and one that was done can be repeated without a network.

    Args:
        repo: someone/name.
        out: The folder to make.
        revision: A branch, tag or commit; `main` if not given.
        hub: A folder of modules that serves as hub; without it the Hugging Face hub, or what HF_ENDPOINT names.
        offline: Use what was fetched before, and no network; HF_HUB_OFFLINE=1 says the same.
        update: Take what the revision points to now, and record that.
        overwrite: Replace a module that is at `out`.
        lock: The lock file; by default hub-modules.lock.json in the cache.
        max_bytes: Largest module that is taken.
        patience: Deadline, timeout and tries.

    Raises:
        HubError: If the hub does not give it, or gives something else than it should.
        ArtifactError: If what it gives is no whole module, or `out` is in the way.
        UsageError: If an argument cannot be used as given.
    """
    out = Path(out)
    hub_repo(repo)
    store.check_target(out, overwrite)
    wire = Wire(patience or Patience())
    if hub is not None:
        if revision is not None or update or offline:
            raise UsageError("hub: a folder keeps one state of each module: leave out revision, update and offline.")
        contents = FolderHub(hub).read(repo)
        store.publish(out, contents, overwrite)
        return Pulled(out, repo, None, sum(map(len, contents.values())))
    job = _Pull(repo, revision or BRANCH, Remote(wire), lock, update, max_bytes)
    if offline or constants.HF_HUB_OFFLINE:
        contents, commit = job.offline()
    else:
        contents, commit = wire.within(f"{repo}@{revision or BRANCH}", job.online)
    check_contents(contents, f"{repo}@{commit[:12]}")
    store.publish(out, contents, overwrite)
    job.pin(contents, commit)
    say(job.notes)
    return Pulled(out, repo, commit, sum(map(len, contents.values())), tuple(job.notes))


@dataclass
class _Pull:
    repo: str
    revision: str
    remote: Remote
    lock: str | Path | None
    update: bool
    max_bytes: int
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blobs = Blobs()
        self.file = LockFile(Path(self.lock) if self.lock is not None else default_lock().with_name(LOCK), Pin)
        self.key = f"{self.repo}@{self.revision}"
        self.pinned = self.file.read().get(self.key)
        if self.update:
            self.pinned = None

    def pin(self, contents: Mapping[str, bytes], commit: str) -> None:
        """Record what was pulled, unless it was pinned already."""
        if self.pinned is None:
            known = {name: contents[name] for name in (store.MANIFEST, CARD) if name in contents}
            files = {name: FileEntry(size=len(data), sha256=store.sha256(data)) for name, data in known.items()}
            with self.file.held():
                self.file.write(self.file.read() | {self.key: Pin(commit=commit, files=files)})

    def offline(self) -> tuple[dict[str, bytes], str]:
        """What was fetched before."""
        if self.pinned is None:
            raise HubError(f"{self.key}: never pulled before ({self.file.path}), so offline there is nothing to take.")
        found = self._kept(self.pinned)
        if found is None:
            raise HubError(f"{self.key}: some of its files are not in {self.blobs.folder}. Pull it with a network.")
        return found, self.pinned.commit

    def online(self) -> tuple[dict[str, bytes], str]:
        """What the hub has; where it is not to be reached, what was fetched before."""
        self.blobs.sweep()
        pinned = self.pinned
        kept = self._kept(pinned) if pinned else None
        try:
            listing = self.remote.listing(self.repo, self.revision)
        except HubError as error:
            if pinned is None or kept is None:
                raise
            self.notes.append(f"the hub was of no help, so it came from the cache ({error})")
            return kept, pinned.commit
        if pinned is None:
            return self._fetch(listing, None), listing.commit
        if listing.commit != pinned.commit:
            self.notes.append(
                f"{self.key} has moved on to {listing.commit[:12]}; taken is {pinned.commit[:12]}, as at first use. "
                "--update takes the new one."
            )
        if kept is not None:
            return kept, pinned.commit
        if listing.commit != pinned.commit:
            listing = self.remote.listing(self.repo, pinned.commit)
        return self._fetch(listing, pinned), pinned.commit

    def _kept(self, pin: Pin) -> dict[str, bytes] | None:
        """All files of a pin out of the cache, or None where one is not there."""
        found: dict[str, bytes] = {}
        for name, entry in pin.files.items():
            if (data := self.blobs.get(entry)) is None:
                return None
            found[name] = data
        for name, entry in parse_manifest(found[store.MANIFEST], Path(self.key, store.MANIFEST)).files.items():
            if (data := self.blobs.get(entry)) is None:
                return None
            found[name] = data
        return found

    def _fetch(self, listing: Listing, pin: Pin | None) -> dict[str, bytes]:
        """Every file of a commit, compared with its digest; none before names and sizes are right."""
        where = f"{self.repo}@{listing.commit[:12]}"
        if store.MANIFEST not in listing.files:
            raise HubError(
                f"{where}: no {store.MANIFEST}, so it is no module of adapterxl. If peft or adapters wrote it: "
                f"hf download {self.repo} --local-dir DIR, then adapterxl import DIR."
            )
        head = self.remote.small(listing, store.MANIFEST, MOST_MANIFEST)
        if pin is not None and store.sha256(head) != pin.files[store.MANIFEST].sha256:
            raise HubError(f"{where}: {store.MANIFEST} is not the one of first use ({self.file.path}).")
        manifest = parse_manifest(head, Path(where, store.MANIFEST))
        self._check_names(listing, manifest, where)
        self.blobs.put(head)
        found = {store.MANIFEST: head}
        card = listing.files.get(CARD)
        if card is not None and card.size is not None and card.size <= LONGEST_CARD and (card.blob or card.sha256):
            found[CARD] = self.remote.small(listing, CARD, LONGEST_CARD)
            self.blobs.put(found[CARD])
        elif card is not None:
            self.notes.append(f"{where}: {CARD} is left out: too long, or the hub lists no digest of it")
        for name, entry in manifest.files.items():
            found[name] = self.remote.file(self.repo, listing.commit, name, entry, self.blobs)
        return found

    def _check_names(self, listing: Listing, manifest: Manifest, where: str) -> None:
        for name in manifest.files:
            if name not in listing.files:
                raise HubError(f"{where}: {name} is in {store.MANIFEST}, but the repository does not have it.")
        for name in listing.files:
            if name not in manifest.files and name != store.MANIFEST and not may_lie_beside(name):
                raise HubError(f"{where}: the repository also has {name[:80]!r}, which {store.MANIFEST} does not list.")
        for name, entry in manifest.files.items():
            size = listing.files[name].size
            if size is not None and size != entry.size:
                raise HubError(f"{where}: {name} has {size:,} bytes there, and {entry.size:,} in {store.MANIFEST}.")
        whole = sum(entry.size for entry in manifest.files.values())
        if whole > self.max_bytes:
            raise HubError(f"{where}: {whole:,} bytes, more than the {self.max_bytes:,} of --max-bytes.")
