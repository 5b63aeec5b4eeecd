"""`import_folder`: a PEFT or AdapterHub folder that another program wrote, as a module over a backbone at hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..backbone import Backbone
from ..errors import ArtifactError, BackboneError
from ..modules import FusionPart, Part
from ..tasks import get_task
from . import adapterhub_layout, peft_layout, store
from .encoding import unique_names
from .foreign_adapterhub import read_adapterhub
from .foreign_files import ForeignFolder
from .foreign_heads import for_task
from .foreign_peft import read_peft
from .module import HeadState, TaskModule, check_name


def import_folder(
    folder: str | Path,
    *,
    on: Backbone,
    name: str | None = None,
    task: str | None = None,
    labels: Sequence[str] | None = None,
    other_base: bool = False,
) -> TaskModule:
    """Read a folder that vanilla `peft` or `adapters` wrote. Nothing in it is unpickled, executed or left unread.

    What such a folder does not hold cannot be known: with which backbone it was trained (its name is all there is)
    and on top of which modules. Both are said in the module's notes.

    Args:
        on: The backbone it was trained on; shapes, and the name that the folder gives, are compared with it.
        name: Name of the module; made from the folder's by default.
        task: The shipped task that its head answers, so that it can be evaluated on it.
        labels: Label names in the order of the head's outputs, where the folder has none.
        other_base: Take the backbone although the folder names another one.

    Raises:
        ArtifactError: By file, and field or tensor: what adapterxl would compute otherwise than the library, what is
            damaged, and what has no place.
        BackboneError: If the folder names another backbone.
    """
    path = Path(folder)
    chosen = None if task is None else get_task(task)
    if isinstance(labels, str):
        labels = (labels,)
    if name is not None:
        check_name(name)
    library = _library(path)
    source, notes = ForeignFolder(path), list[str]()
    head: HeadState | None
    names: tuple[str, ...]
    if library == "peft":
        part, head = read_peft(source, on, chosen.kind if chosen else None, labels)
        source.nothing_else()
        parts: tuple[Part, ...] = (part,)
        names, choices = (path.resolve().name,), None
        config = source.fields(peft_layout.CONFIG).values
        said, revision, version = (config.get(key) for key in ("base_model_name_or_path", "revision", "peft_version"))
    else:
        found = read_adapterhub(source, on, labels)
        parts, head, choices, names = found.parts, found.head, found.choices, found.names
        notes += found.notes
        config = source.fields(found.config).values
        said, revision, version = config.get("model_name"), None, config.get("version")
    said = Path(said).name if isinstance(said, str) and said.startswith(("/", ".", "~")) else said  # no one's folders
    notes[:0] = [_base_note(said, revision, on, path, other_base),
                 "Written by another program: on top of which modules it was trained is not known."]  # fmt: skip
    head = for_task(head, chosen, notes)
    inside = [one for part in parts if isinstance(part, FusionPart) for member in part.members for one in member]
    every = [*zip(parts, names, strict=True), *((one, one.name) for one in inside)]
    for (part, _), own in zip(every, unique_names([_plain(own) for _, own in every]), strict=True):
        part.name = own
        part.requires_grad_(False)
    for part in parts:
        part.task = chosen.name if chosen else ""
    own = name or (_plain(names[0]) if len(names) == 1 else _plain(path.resolve().name))
    if len(parts) == 1:
        parts[0].name = own
    foreign = {"library": library, "version": version, "base": said, "revision": revision, "files": source.read}
    training: dict[str, Any] = {"foreign": foreign} | ({"choices": choices} if choices else {})
    return TaskModule(
        name=own,
        task=chosen.name if chosen else "",
        kind=head.kind if head else "",
        parts=parts,
        head=head,
        base=on.describe(),
        operator="import",
        training=training,
        notes=tuple(notes),
        backbone=on,
    )


def _library(path: Path) -> str:
    """Which library wrote a folder, by the keys of its configuration."""
    if not path.is_dir():
        raise ArtifactError(f"No folder '{path}'.")
    if (path / store.MANIFEST).exists():
        raise ArtifactError(f"{path}: is a module folder of adapterxl already; load it as it is.")
    source = ForeignFolder(path)
    if source.has(adapterhub_layout.SETUP):
        return "adapters"
    if not source.has(peft_layout.CONFIG):
        raise ArtifactError(
            f"{path}: neither {peft_layout.CONFIG} nor {adapterhub_layout.SETUP} in it: no folder of peft or adapters."
        )
    values = source.fields(peft_layout.CONFIG).values
    if "peft_type" in values:
        return "peft"
    if "config" in values and "hidden_size" in values:
        return "adapters"
    raise ArtifactError(
        f"{path / peft_layout.CONFIG}: neither 'peft_type' as of peft, nor 'config' and 'hidden_size' as of adapters."
    )


def _base_note(said: object, revision: object, on: Backbone, path: Path, other: bool) -> str:
    """What the folder says of its backbone, as a note; refused when it names another one on the hub."""
    if not isinstance(said, str) or not said:
        return f"The folder names no backbone; that it is {on.name} was taken on trust."
    here = f"{said}@{revision}" if isinstance(revision, str) and revision else said
    if on.id is None:
        return f"The folder names {here} as its backbone; whether {on.name} is that cannot be known."
    same = said.rstrip("/").split("/")[-1].lower() == on.id.split("/")[-1].lower()  # roberta-base: of old without owner
    if not same and not other:
        raise BackboneError(
            f"{path}: names {said} as its backbone, which is not {on.id}. Give that one with --base, or say "
            "--other-base if you know better."
        )
    if not same:
        return f"The folder names {here} as its backbone; {on.id} was taken instead, as asked."
    if isinstance(revision, str) and revision and on.revision and revision != on.revision:
        return f"The folder names revision {revision} of its backbone; {on.revision} was taken."
    return f"The folder names {here} as its backbone; its weights were not compared."


def _plain(name: str) -> str:
    """A name as modules have it."""
    plain = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:64]
    return plain or "imported"
