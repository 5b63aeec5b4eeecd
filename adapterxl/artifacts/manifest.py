"""The manifest `adapterxl.json`: what a module folder holds, where it comes from, and how it is put together.

Versions: a reader takes its own format and all older ones, and refuses a newer one by its number. Fields that it does
not know are refused, as they may change what a module means; top-level ones named ``x_...`` are for anyone's use and
are left out. A format never changes its meaning: a new field is a new format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ArtifactError
from . import strict_json
from .files import Folder
from .store import MANIFEST, sha256
from .strict_json import canonical, check_text, short

FORMAT = 2
MOST_MANIFEST = 1 << 20  # low-rank fusions of eight LoRA on XLM-R large need half of it

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
    """The backbone that the parts were trained on; `tokenizer` is the digest of what its tokenizer makes of
    text (vocabulary, and the ids of a fixed text), since format 2."""

    name: str
    id: str | None
    revision: str | None
    fingerprint: Digest
    model_type: Literal["xlm-roberta", "bert"]
    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1, le=10_000)
    tokenizer: Digest | None = None


class TensorEntry(_Strict):
    """A tensor of a safetensors file: dtype as the format calls it, shape, and the sha256 of its bytes."""

    dtype: Literal["F16", "BF16", "F32", "F64"]
    shape: tuple[Annotated[int, Field(ge=1)], ...]
    sha256: Digest


class PartEntry(_Strict):
    """One part and where its weights are.

    `ranks` maps ``<layer>.<site>`` to the part's (first, past the last) rank in the LoRA file at `where`;
    `adapter` is a bottleneck's name inside its AdapterHub file; `exact` the file with what the LoRA file holds only
    rounded: rows of a DoRA, and B of what follows one, as ``<name>.<layer>.<site>.rows`` and ``.B``; `members` are a
    fusion's, each with its parts. A part that several members hold is named by each, and lies in one place.
    `sites` and `layers` say where it acts, since format 2.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")
    task: str
    kind: Literal["lora", "bottleneck", "ia3", "fusion"]
    digest: Digest
    trained_on: tuple[Digest, ...] = ()
    made_of: dict[str, Any] | None = None
    settings: dict[str, Any]
    sites: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    where: Annotated[str, AfterValidator(lambda name: name if name == "." else _inside(name))]
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


class ParentEntry(_Strict):
    """A module that this one was made from: its name, and its digest as `TaskModule.digest` has it; or, where it was
    made on the way and never saved, how it was made itself."""

    name: str | None = None
    digest: Digest | None = None
    made: LineageEntry | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.digest is None) == (self.made is None):
            raise ValueError("expected either digest or made")
        return self


class LineageEntry(_Strict):
    """How a module was made: "train" or an operator, its parameters, and its parents in order."""

    operator: str
    options: dict[str, Any] = {}
    parents: tuple[ParentEntry, ...] = ()


class Manifest(_Strict):
    """The whole of adapterxl.json; `heads` are those of several tasks by task name, `head` that of the first.

    Format 2 adds `digest` (sha256 of the manifest without it), `tensors` (of every safetensors file), `lineage`, and is
    read in its canonical spelling only.
    """

    format: Literal[1, 2] = 2
    digest: Digest | None = None
    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")
    task: str
    kind: str
    operator: str
    composition: str | None
    lineage: LineageEntry | None = None
    layout: Layout
    base: BaseEntry
    parts: tuple[PartEntry, ...]
    head: HeadEntry | None
    heads: dict[str, HeadEntry] = {}
    training: dict[str, Any]
    notes: tuple[str, ...] = ()
    versions: dict[str, str]
    files: dict[FileName, FileEntry]
    tensors: dict[FileName, dict[str, TensorEntry]] = {}

    def dump(self) -> bytes:
        """Canonical JSON of today's format, with its digest; fields that say nothing are left out."""
        content = self.model_dump(mode="json", exclude_defaults=True) | {"format": FORMAT}
        content.pop("digest", None)
        check_text(content, f"{MANIFEST} of '{self.name}'")  # or it could not be read again
        data = canonical(seal(content))
        if len(data) > MOST_MANIFEST:
            raise ArtifactError(
                f"{MANIFEST} of '{self.name}' would have {len(data):,} bytes, expected {MOST_MANIFEST:,} at most. "
                "Fuse or stack fewer modules, or merge some first."
            )
        return data


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a manifest with its digest."""
    bare = {name: value for name, value in content.items() if name != "digest"}
    return bare | {"digest": sha256(canonical(bare))}


def module_digest(base: str, parts: Sequence[str], head: str | None, heads: Mapping[str, str]) -> str:
    """A module's digest from those of its base, its parts in order, its head, and the heads of several tasks."""
    content: list[Any] = [base, list(parts)]
    if head is not None:
        content.append(head)
    if heads:
        content.append(sorted(heads.items()))
    return sha256(json.dumps(content).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/adapterxl.json`, and nothing else of the folder.

    Raises:
        ArtifactError: With the file and the field.
    """
    with Folder(Path(folder)) as opened:
        return parse_manifest(manifest_bytes(opened), Path(folder) / MANIFEST)


def manifest_bytes(folder: Folder) -> bytes:
    """Content of the manifest of an opened folder, unchecked."""
    if not folder.has(MANIFEST):
        foreign = any(folder.has(name) for name in ("adapter_config.json", "adapter_setup.json"))
        hint = f" If peft or adapters wrote it: adapterxl import {folder.path} --out NEW." if foreign else ""
        raise ArtifactError(
            f"{folder.path}: no {MANIFEST}; it is not a module folder of adapterxl (or was never written to its "
            f"end).{hint}"
        )
    return folder.read(MANIFEST, MOST_MANIFEST)


def parse_manifest(data: bytes, where: object) -> Manifest:
    """The manifest of these bytes.

    Raises:
        ArtifactError: With the file and the field.
    """
    values = strict_json.parse(data, where, MOST_MANIFEST)
    if not isinstance(values, dict):
        raise ArtifactError(f"{where}: found {short(values, 40)}, expected a JSON object.")
    number = values.get("format")
    if type(number) is not int:  # true would pass for 1
        raise ArtifactError(f"{where}: format: found {short(number, 40)}, expected 1 to {FORMAT}.")
    if number > FORMAT:
        raise ArtifactError(
            f"{where}: format: found {number}, this adapterxl reads 1 to {FORMAT}. Update adapterxl to read it."
        )
    strict_json.check_text(values, where)
    if number == FORMAT:
        if data != canonical(values):
            raise ArtifactError(f"{where}: not in canonical JSON, so it was changed. Fetch the module again.")
        if values != seal(values):
            raise ArtifactError(f"{where}: digest: not that of the content, so it was changed. Fetch the module again.")
    try:
        # From JSON, so that strict types hold and lists are tuples.
        own = {name: value for name, value in values.items() if not name.startswith("x_")}
        return Manifest.model_validate_json(canonical(own), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise ArtifactError(
            f"{where}: {short(field, 60)}: {short(first['msg'])} (found {short(first['input'], 40)!r})."
        ) from error


def schema() -> dict[str, Any]:
    """The JSON schema of a manifest, as docs/manifest.schema.json has it."""
    content = Manifest.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | content
