"""TaskModule: a trained or composed result, in memory and as a folder that vanilla libraries load too."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from ..backbone import Backbone
from ..errors import BackboneError, CompositionError, UsageError
from ..modules import Head, Part, make_head
from ..modules.heads import HeadSpace
from . import peft_layout, store
from .encoding import encoded, tensor_bytes, tensor_entries
from .manifest import BaseEntry, FileEntry, LineageEntry, Manifest, module_digest
from .plan import plan
from .shapes import check_shapes

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PACKAGES = ("torch", "transformers", "peft", "adapters", "safetensors")


@dataclass(frozen=True)
class HeadState:
    """A head's weights apart from any backbone, under Hugging Face names."""

    kind: str
    labels: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    def digest(self) -> str:
        """sha256 over kind, labels and tensors."""
        return store.sha256(json.dumps([self.kind, self.labels, store.sha256(tensor_bytes(self.tensors))]).encode())

    def build(self, on: HeadSpace) -> Head:
        """The head, ready to run."""
        head = make_head(self.kind, on, self.labels)
        return head.to(next(iter(self.tensors.values())).dtype).load(dict(self.tensors))


@dataclass(frozen=True)
class TaskModule:
    """Parts over one backbone with a head: what training gives, what operators compose, what a folder holds.

    Attributes:
        name: Short name; lower-case letters, digits, - and _.
        task: The task it was trained for, the first of several ("" for a composition).
        kind: The kind of that task.
        parts: All parts, in order: those it was trained on top of, then its own.
        head: The trained head; None for a composition that has none. Of several, that of `task`, the first task.
        heads: Of a module of several tasks: the head of each by task name, sorted; tasks may share one. Else empty.
        base: Of the backbone: name, id, revision, fingerprint, model_type, hidden_size, layers, and the
            digest of its tokenizer (absent in modules of format 1).
        operator: "train", or the operator that composed it.
        composition: The expression it was trained on or composed by; None when there was none.
        lineage: How it was made: `operator`, `options`, and `parents` in order, each with its `name` and `digest`, or
            `made` where it was made on the way (as in a manifest); None for a training on the plain backbone.
        training: Settings and circumstances of the training, as JSON values.
        notes: What a user should know of the composition, one sentence each.
        path: The folder it was read from or written to.
        backbone: The backbone at hand, if there is one: a DoRA's folder holds lengths of its weight rows.
    """

    name: str
    task: str
    kind: str
    parts: tuple[Part, ...]
    head: HeadState | None
    base: Mapping[str, Any]
    operator: str = "train"
    composition: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    heads: Mapping[str, HeadState] = field(default_factory=dict)
    lineage: Mapping[str, Any] | None = None
    path: Path | None = None
    backbone: Backbone | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """How compositions name it: a trained module by its name, a composition by its expression.

        Folders are left out: the same composition has the same text on every machine and for every seed.
        """
        return self.composition if self.operator != "train" and self.composition else self.name

    def part(self, name: str) -> Part:
        """One of its parts by name, alone."""
        found = [part for part in self.parts if part.name == name]
        if len(found) != 1:
            names = ", ".join(part.name for part in self.parts) or "none"
            raise CompositionError(f"'{self.name}' has {len(found)} parts named '{name}'; its parts: {names}.")
        return found[0]

    def for_task(self, *tasks: str) -> TaskModule:
        """Of a module with several heads: it with the head of the first of these tasks that it has, and no other."""
        found = next((task for task in tasks if task in self.heads), None)
        if found is None:
            return self
        head, training = self.heads[found], {k: v for k, v in self.training.items() if k not in ("mix", "choices")}
        training |= self.training.get("mix", {}).get("tasks", {}).get(found, {})
        task = str(training.get("train_from", found))
        return replace(self, task=task, kind=head.kind, head=head, heads={}, training=training)

    def digest(self) -> str:
        """sha256 over the base, the parts in order and the heads."""
        heads = {task: head.digest() for task, head in self.heads.items()}
        head = None if self.head is None else self.head.digest()
        return module_digest(self.base["fingerprint"], [part.digest() for part in self.parts], head, heads)

    def as_parent(self) -> dict[str, Any]:
        """What the lineage of a module made from this one says of it."""
        if self.lineage is not None and self.operator != "train" and self.path is None:
            return {"made": dict(self.lineage)}  # never saved as itself
        return {"name": self.name, "digest": self.digest()}

    def size(self) -> int:
        """Number of weights, heads included."""
        heads = {id(head): head for head in (self.head, *self.heads.values()) if head is not None}
        in_heads = sum(tensor.numel() for head in heads.values() for tensor in head.tensors.values())
        return sum(part.size() for part in self.parts) + in_heads

    def save(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        extra: Mapping[str, bytes] | None = None,
        on: Backbone | None = None,
    ) -> TaskModule:
        """Write the folder, all of it or nothing, and give the module with its `path` set.

        Args:
            on: Its backbone; needed for a DoRA that was read from a folder.
            extra: More files to keep beside it, such as the training log.

        Raises:
            ArtifactError: If the folder is in the way or cannot be written.
        """
        folder = Path(folder)
        on = on or self.backbone
        if on is not None:
            check_base(self, on)
        files, manifest = self._lay_out(dict(extra or {}), None if on is None else on.stored)
        store.publish(folder, files | {store.MANIFEST: manifest.dump()}, overwrite)
        return replace(self, path=folder)

    def _lay_out(self, extra: dict[str, bytes], stored: peft_layout.Stored | None) -> tuple[dict[str, bytes], Manifest]:
        check_name(self.name)
        planned = plan(self, stored)
        files = extra | {name: encoded(content) for name, content in planned.files.items()}
        manifest = Manifest(
            name=self.name,
            task=self.task,
            kind=self.kind,
            operator=self.operator,
            composition=self.composition,
            lineage=None if self.lineage is None else LineageEntry.model_validate(self.lineage),
            layout=planned.layout,
            base=BaseEntry(**self.base),
            parts=planned.parts,
            head=planned.head,
            heads=dict(planned.heads),
            training=dict(self.training),
            notes=self.notes,
            versions=versions(),
            files={name: FileEntry(size=len(data), sha256=store.sha256(data)) for name, data in files.items()},
            tensors={name: tensor_entries(data, name) for name, data in files.items() if name.endswith(".safetensors")},
        )
        return files, manifest


def check_base(module: TaskModule | None, on: Backbone) -> None:
    """Refuse a module of another backbone, however well its shapes fit."""
    if module is not None and module.base["fingerprint"] != on.fingerprint:
        raise BackboneError(
            f"'{module.name}' was trained on {module.base['name']} with fingerprint "
            f"{module.base['fingerprint'][:12]}, which is not this backbone ({on.name}, {on.fingerprint[:12]}). "
            "Give the backbone it was trained on with --base."
        )
    if module is not None:
        said = module.base.get("tokenizer")  # of format 1 none
        if said is not None and said != on.tokens:
            raise BackboneError(
                f"'{module.name}' was trained with another tokenizer than {on.name} has here: the weights are the "
                "same, the token ids are not. Give the backbone, with its own tokenizer files, by --base."
            )
        check_shapes(module.parts, on, module.path or f"'{module.name}'")


def check_name(name: str) -> str:
    """A module's name, or a UsageError; it becomes part of file names and tensor keys."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"Module name '{name}': use lower-case letters, digits, '-' and '_', at most 64.")
    return name


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    from .. import __version__

    return {"adapterxl": __version__, "python": platform.python_version()} | {p: version(p) for p in _PACKAGES}
