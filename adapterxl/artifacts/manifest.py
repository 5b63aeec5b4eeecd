"""The manifest `adapterxl.json`: what a module folder holds, where it comes from, and how it is put together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..errors import ArtifactError
from .store import MANIFEST, sha256

EXACT, HEADS = "adapterxl.safetensors", "heads.safetensors"
Layout = Literal["peft", "adapterhub", "adapterhub-setup", "adapterxl"]


def _inside(name: str) -> str:
    """A file name relative to the folder, in its one plain spelling."""
    if name != str(PurePosixPath(name)) or name.startswith(("/", ".")) or ".." in name.split("/") or "\\" in name:
        raise ValueError("expected the name of a file inside the folder")
    return name


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, AfterValidator(_inside)]
SiteKey = Annotated[str, Field(pattern="^[0-9]{1,4}[.][a-z_]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Strict):
    """Size in bytes and sha256 of one file."""

    size: int = Field(ge=0)
    sha256: Digest


class BaseEntry(_Strict):
    """The backbone that the parts were trained on."""

    name: str
    id: str | None
    revision: str | None
    fingerprint: Digest
    model_type: Literal["xlm-roberta", "bert"]
    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)


class PartEntry(_Strict):
    """One part and where its weights are.

    `ranks` maps ``<layer>.<site>`` to the part's (first, past the last) rank in the LoRA file at `where`;
    `adapter` is a bottleneck's name inside its AdapterHub file; `exact` the file with what the LoRA file holds only
    rounded: rows of a DoRA, and B of what follows one, as ``<name>.<layer>.<site>.rows`` and ``.B``; `members` are a
    fusion's, each with its parts. A part that several members hold is named by each, and lies in one place.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")
    task: str
    kind: Literal["lora", "bottleneck", "ia3", "fusion"]
    digest: Digest
    trained_on: tuple[Digest, ...] = ()
    made_of: dict[str, Any] | None = None
    settings: dict[str, Any]
    where: str
    ranks: dict[SiteKey, tuple[int, int]] | None = None
    adapter: str | None = None
    exact: FileName | None = None
    members: tuple[MemberEntry, ...] | None = None


class MemberEntry(_Strict):
    """One member of a fusion: how it was called, and its parts in order."""

    name: str
    parts: tuple[PartEntry, ...]


class HeadEntry(_Strict):
    """The head: its kind, its labels, its digest, its file, and the file's key for each of its tensors."""

    kind: Literal["classify", "tag", "span", "choice"]
    labels: tuple[str, ...]
    digest: Digest
    file: FileName
    keys: dict[str, str]


class Manifest(_Strict):
    """The whole of adapterxl.json; `heads` are those of several tasks by task name, `head` that of the first."""

    format: Literal[1] = 1
    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")
    task: str
    kind: str
    operator: str
    composition: str | None
    layout: Layout
    base: BaseEntry
    parts: tuple[PartEntry, ...]
    head: HeadEntry | None
    heads: dict[str, HeadEntry] = {}
    training: dict[str, Any]
    notes: tuple[str, ...] = ()
    versions: dict[str, str]
    files: dict[FileName, FileEntry]

    def dump(self) -> bytes:
        """Canonical JSON: sorted keys, UTF-8, one trailing newline."""
        content = self.model_dump(mode="json")
        if not self.heads:  # of several tasks only
            del content["heads"]
        text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False)
        return (text + "\n").encode()


def module_digest(base: str, parts: Sequence[str], head: str | None, heads: Mapping[str, str]) -> str:
    """A module's digest from those of its base, its parts in order, its head, and the heads of several tasks."""
    content: list[Any] = [base, list(parts)]
    if head is not None:
        content.append(head)
    if heads:
        content.append(sorted(heads.items()))
    return sha256(json.dumps(content).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/adapterxl.json`.

    Raises:
        ArtifactError: With the file and the field.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ArtifactError(f"No module folder '{folder}'.")
    if path.is_symlink() or not path.is_file():
        foreign = any((folder / name).is_file() for name in ("adapter_config.json", "adapter_setup.json"))
        hint = f" If peft or adapters wrote it: adapterxl import {folder} --out NEW." if foreign else ""
        raise ArtifactError(
            f"{folder}: no {MANIFEST}; it is not a module folder of adapterxl (or was never written to its end).{hint}"
        )
    try:
        return Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not readable as JSON ({error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise ArtifactError(f"{path}: {field}: {first['msg']} (found {str(first['input'])[:60]!r}).") from error
