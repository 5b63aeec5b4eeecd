"""`push`: a checked module folder to a hub, as one commit that makes the repository equal to the folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from ..artifacts import store
from ..artifacts.manifest import Manifest
from ..console import say
from ..errors import ArtifactError, HubError, UsageError
from .cards import complete_card
from .folders import FolderHub
from .markdown import CARD
from .remote import BRANCH, Listed, hub_repo
from .transport import RETRIED, Again, Patience, Refused, Wire, git_blob, reason, refusal
from .verified import may_lie_beside, read_files

_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{20,}")


@dataclass(frozen=True)
class Pushed:
    """What a push did, or would do.

    Attributes:
        repo: Its id.
        url: The commit's address, or the folder.
        commit: The commit that the repository is at now; None for a folder and for one that is yet to be made.
        changed: Files that were sent, sorted.
        removed: Files that were deleted there, sorted.
        done: False for a dry run.
    """

    repo: str
    url: str
    commit: str | None
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    done: bool = True


def push(
    folder: str | Path,
    repo: str,
    *,
    hub: str | Path | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    scores: Sequence[str | Path] = (),
    licence: str | None = None,
    base: str | None = None,
    dry_run: bool = False,
    patience: Patience | None = None,
) -> Pushed:
    """Check a module folder and publish it with a complete card; nothing is sent where nothing has changed.

    The repository is made if it is not there. It then holds what the folder holds: files that are gone from the folder
    are deleted, all in one commit. The token is the one of HF_TOKEN or of the login.

    Args:
        folder: A module folder; all of it is checked first.
        repo: someone/name.
        hub: A folder that serves as hub; without it the Hugging Face hub, or what HF_ENDPOINT names.
        private: Make the repository for its owners alone; one that is there stays what it is.
        revision: The branch to push to, made if it is not there; `main` if not given.
        message: Of the commit.
        scores, licence, base: For the card, as of `adapterxl.hub.card`. With scores the card is drawn anew; without
            them a README.md in the folder goes as it is, with the metadata that it lacks.
        dry_run: Say what would be sent, and send nothing.
        patience: Deadline and tries.

    Raises:
        ArtifactError: If the folder is no whole module, or holds what looks like a token.
        HubError: If the hub does not take it.
        UsageError: If an argument cannot be used as given.
    """
    folder = Path(folder)
    hub_repo(repo)
    manifest, files = read_files(folder)
    card, notes = complete_card(folder, files.get(CARD), repo=repo, scores=scores, licence=licence, base=base)
    files[CARD] = card.encode()
    _check_secrets(folder, files)
    if hub is not None:
        if private or revision is not None:
            raise UsageError("hub: a folder has no branches and no private modules: leave out private and revision.")
        result = _to_folder(FolderHub(hub), repo, files, dry_run)
    elif constants.HF_HUB_OFFLINE:
        raise HubError(f"{repo}: HF_HUB_OFFLINE is set, so nothing can be sent. Unset it, or give a folder as --hub.")
    else:
        wire = Wire(patience or Patience())
        job = _Push(repo, revision or BRANCH, private, message or _message(manifest), files, dry_run)
        result = wire.within(f"{repo}", lambda: wire.retried(repo, job.run))
    say(notes)
    return result


@dataclass(frozen=True)
class _Push:
    repo: str
    branch: str
    private: bool
    message: str
    files: Mapping[str, bytes]
    dry_run: bool

    def run(self) -> Pushed:
        """Everything from the start; a commit whose answer was lost is found to be there by the next try."""
        api = HfApi(endpoint=constants.ENDPOINT)
        try:
            return self._run(api)
        except requests.RequestException as error:  # those of huggingface_hub with a status are among them
            raise self._told(error) from error
        except ValueError as error:  # a card or an object that the hub refuses
            raise Refused(_public(str(error))) from error

    def _run(self, api: HfApi) -> Pushed:
        head, there = self._there(api)
        if head is None and not self.dry_run:
            api.create_repo(self.repo, private=self.private, exist_ok=True)
            if self.branch != BRANCH:
                api.create_branch(self.repo, branch=self.branch, exist_ok=True)
            head, there = self._there(api)
        changed = [name for name, data in self.files.items() if not _same(there.get(name), data)]
        removed = [name for name in there if name not in self.files and not may_lie_beside(name)]
        if removed and store.MANIFEST not in there:
            raise Refused(
                f"holds other files ({', '.join(sorted(removed)[:3])}) and no {store.MANIFEST}; "
                "it is left as it is. Give another name."
            )
        url = f"{constants.ENDPOINT}/{self.repo}"
        if not changed and not removed and head is not None:
            return Pushed(self.repo, f"{url}/commit/{head}", head, (), (), not self.dry_run)
        if self.dry_run:
            return Pushed(self.repo, url, head, tuple(sorted(changed)), tuple(sorted(removed)), False)
        adds = [CommitOperationAdd(name, self.files[name]) for name in sorted(changed)]
        for add in adds:  # one by one, in this thread: the client's own threads would outlive the deadline
            api.preupload_lfs_files(self.repo, [add], revision=self.branch, free_memory=False)
        made = api.create_commit(
            self.repo,
            [*adds, *(CommitOperationDelete(name) for name in sorted(removed))],
            commit_message=self.message,
            revision=self.branch,
            parent_commit=head,
        )
        return Pushed(self.repo, made.commit_url, made.oid, tuple(sorted(changed)), tuple(sorted(removed)))

    def _there(self, api: HfApi) -> tuple[str | None, dict[str, Listed]]:
        """The commit of the branch and its files; None where repository or branch are not there."""
        try:
            info = api.model_info(self.repo, revision=self.branch, files_metadata=True)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None, {}
        listed = {
            each.rfilename: Listed(each.size, each.blob_id, each.lfs.sha256 if each.lfs else None)
            for each in info.siblings or ()
        }
        return info.sha, listed

    def _told(self, error: requests.RequestException) -> Exception:
        """The error as one line without addresses, headers or tokens; `Again` if another try may help."""
        path = str(urlsplit(error.request.url or "").path) if error.request is not None else ""
        if error.response is None:
            return Again(f"{path}: {reason(error)}")
        status = error.response.status_code
        if status in RETRIED:
            after = error.response.headers.get("Retry-After", "")
            return Again(f"status {status} for {path}", float(after) if after.isdecimal() else None)
        said = getattr(error, "server_message", None) if isinstance(error, HfHubHTTPError) else None
        return Refused(f"{refusal(status, path)}{f' It says: {_public(said)}' if said else ''}")


def _to_folder(hub: FolderHub, repo: str, files: Mapping[str, bytes], dry_run: bool) -> Pushed:
    place = hub.folder / repo
    there = read_files(place)[1] if (place / store.MANIFEST).is_file() else {}
    changed = tuple(sorted(name for name, data in files.items() if there.get(name) != data))
    removed = tuple(sorted(there.keys() - files.keys()))
    if (changed or removed) and not dry_run:
        hub.write(repo, files)
    return Pushed(repo, str(place), None, changed, removed, not dry_run)


def _same(there: Listed | None, data: bytes) -> bool:
    if there is None:
        return False
    return there.sha256 == store.sha256(data) if there.sha256 else there.blob == git_blob(data)


def _message(manifest: Manifest) -> str:
    return f"{manifest.name}: {manifest.composition or manifest.operator}"[:200]


def _check_secrets(folder: Path, files: Mapping[str, bytes]) -> None:
    """Refuse to publish what looks like a token of the hub, or the very token that is in use."""
    own = (get_token() or "").encode()
    for name, data in files.items():
        if (not name.endswith(".safetensors") and _TOKEN.search(data)) or (own and own in data):
            raise ArtifactError(f"{folder / name}: holds what looks like a hub token (hf_...). Take it out first.")


def _public(text: str) -> str:
    """A server's words, without anything that looks like a token, and not too many."""
    text = re.sub(r"hf_[A-Za-z0-9]+", "hf_***", text)
    own = get_token()
    return (text.replace(own, "***") if own else text)[:200]
