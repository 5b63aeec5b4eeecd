"""TaskModule: a trained or composed result, in memory and as a folder that vanilla libraries load too."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..backbone import Backbone
from ..errors import ArtifactError, BackboneError, CompositionError, UsageError
from ..modules import BottleneckPart, Head, LoRAPart, Part, make_head
from ..modules.heads import HeadSpace
from ..modules.lora import concatenate
from . import adapterhub_layout, peft_layout, store
from .manifest import BaseEntry, FileEntry, HeadEntry, Layout, Manifest, PartEntry

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
        return store.sha256(json.dumps([self.kind, self.labels, store.sha256(_bytes(self.tensors))]).encode())

    def build(self, on: HeadSpace) -> Head:
        """The head, ready to run."""
        head = make_head(self.kind, on, self.labels)
        return head.to(next(iter(self.tensors.values())).dtype).load(dict(self.tensors))


@dataclass(frozen=True)
class TaskModule:
    """Parts over one backbone with a head: what training gives, what operators compose, what a folder holds.

    Attributes:
        name: Short name; lower-case letters, digits, - and _.
        task: The task it was trained for ("" for a composition).
        kind: The kind of that task.
        parts: All parts, in order: those it was trained on top of, then its own.
        head: The trained head; None for a composition that has none.
        base: Of the backbone: name, id, revision, fingerprint, model_type, hidden_size, layers.
        operator: train, merge or stack.
        composition: The expression it was trained on or composed by; None when there was none.
        training: Settings and circumstances of the training, as JSON values.
        notes: What a user should know of the composition, one sentence each.
        path: The folder it was read from or written to.
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
    path: Path | None = None

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

    def digest(self) -> str:
        """sha256 over the base, the parts in order and the head."""
        content: list[Any] = [self.base["fingerprint"], [part.digest() for part in self.parts]]
        if self.head is not None:
            content.append(self.head.digest())
        return store.sha256(json.dumps(content).encode())

    def size(self) -> int:
        """Number of weights, head included."""
        head = 0 if self.head is None else sum(tensor.numel() for tensor in self.head.tensors.values())
        return sum(part.size() for part in self.parts) + head

    def save(
        self, folder: str | Path, *, overwrite: bool = False, extra: Mapping[str, bytes] | None = None
    ) -> TaskModule:
        """Write the folder, all of it or nothing, and give the module with its `path` set.

        Args:
            extra: More files to keep beside it, such as the training log.

        Raises:
            ArtifactError: If the folder is in the way or cannot be written.
        """
        folder = Path(folder)
        files, manifest = self._lay_out(dict(extra or {}))
        store.publish(folder, files | {store.MANIFEST: manifest.dump()}, overwrite)
        return replace(self, path=folder)

    def _lay_out(self, files: dict[str, bytes]) -> tuple[dict[str, bytes], Manifest]:
        check_name(self.name)
        layout = choose_layout(self.parts)
        names = unique_names([part.name for part in self.parts])
        writer = {
            "peft": _write_peft,
            "adapterhub": _write_hub,
            "adapterhub-setup": _write_setup,
            "adapterxl": _write_own,
        }
        parts, head = writer[layout](self, names, files)
        manifest = Manifest(
            name=self.name,
            task=self.task,
            kind=self.kind,
            operator=self.operator,
            composition=self.composition,
            layout=layout,
            base=BaseEntry(**self.base),
            parts=tuple(parts),
            head=head,
            training=dict(self.training),
            notes=self.notes,
            versions=versions(),
            files={name: FileEntry(size=len(data), sha256=store.sha256(data)) for name, data in files.items()},
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


def check_name(name: str) -> str:
    """A module's name, or a UsageError; it becomes part of file names and tensor keys."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"Module name '{name}': use lower-case letters, digits, '-' and '_', at most 64.")
    return name


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with _2, _3 ... after repeated ones."""
    given: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in given:
            number += 1
            candidate = f"{name[:58]}_{number}"
        given.append(candidate)
    return given


def choose_layout(parts: Sequence[Part]) -> Layout:
    """The vanilla form that computes exactly what the parts do; `adapterxl` where there is none.

    Bottlenecks in a row are an AdapterHub stack, except par_bn: the adapters library runs only the last one.
    """
    if parts and all(isinstance(part, LoRAPart) for part in parts):
        return "peft"
    if parts and all(isinstance(part, BottleneckPart) for part in parts):
        if len(parts) == 1:
            return "adapterhub"
        if all(isinstance(part, BottleneckPart) and part.variant != "par_bn" for part in parts):
            return "adapterhub-setup"
    return "adapterxl"


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    from .. import __version__

    return {"adapterxl": __version__, "python": platform.python_version()} | {p: version(p) for p in _PACKAGES}


# --- the layouts: each fills `files` and says where it put the parts and the head


def _write_peft(
    module: TaskModule, names: list[str], files: dict[str, bytes]
) -> tuple[list[PartEntry], HeadEntry | None]:
    model_type = module.base["model_type"]
    parts = [part for part in module.parts if isinstance(part, LoRAPart)]
    whole = concatenate(parts, module.name)
    named = peft_layout.tensors(whole, model_type, module.head is not None)
    keys: dict[str, str] = {}
    if module.head is not None:
        keys = {name: peft_layout.head_key(name, model_type) for name in module.head.tensors}
        named |= {keys[name]: tensor for name, tensor in module.head.tensors.items()}
    kind = module.head.kind if module.head else None
    files[peft_layout.CONFIG] = _json(peft_layout.config(whole, module.base, kind, list(keys)))
    files[peft_layout.WEIGHTS] = _bytes(named)
    entries, taken = [], {key: 0 for key in whole.keys}
    for part, name in zip(parts, names, strict=True):
        ranks = {}
        for key in part.keys:
            begin = taken[key]
            taken[key] = begin + part.rank(*key)
            ranks[f"{key[0]}.{key[1]}"] = (begin, taken[key])
        entries.append(_entry(part, name, ".", ranks=ranks))
    return entries, _head_entry(module, peft_layout.WEIGHTS, keys)


def _write_hub(
    module: TaskModule, names: list[str], files: dict[str, bytes]
) -> tuple[list[PartEntry], HeadEntry | None]:
    entry = _write_bottleneck(module, module.parts[0], names[0], "", files)
    return [entry], _write_hub_head(module, names[0], "", files)


def _write_setup(
    module: TaskModule, names: list[str], files: dict[str, bytes]
) -> tuple[list[PartEntry], HeadEntry | None]:
    entries = [
        _write_bottleneck(module, part, name, f"{name}/", files) for part, name in zip(module.parts, names, strict=True)
    ]
    head_name = names[-1]
    files[adapterhub_layout.SETUP] = _json(adapterhub_layout.setup(names, head_name if module.head else None))
    return entries, _write_hub_head(module, head_name, f"{head_name}/", files)


def _write_own(
    module: TaskModule, names: list[str], files: dict[str, bytes]
) -> tuple[list[PartEntry], HeadEntry | None]:
    """No vanilla form of the whole: each part is a vanilla folder of its own below, the head a file."""
    entries = []
    for part, name in zip(module.parts, names, strict=True):
        if isinstance(part, LoRAPart):
            where = f"parts/{name}"
            config = peft_layout.config(part, module.base, None, [])
            files[f"{where}/{peft_layout.CONFIG}"] = _json(config)
            files[f"{where}/{peft_layout.WEIGHTS}"] = _bytes(
                peft_layout.tensors(part, module.base["model_type"], False)
            )
            ranks = {f"{layer}.{site}": (0, part.rank(layer, site)) for layer, site in part.keys}
            entries.append(_entry(part, name, where, ranks=ranks))
        else:
            entries.append(_write_bottleneck(module, part, name, f"parts/{name}/", files))
    if module.head is None:
        return entries, None
    files["head.safetensors"] = _bytes(module.head.tensors)
    return entries, _head_entry(module, "head.safetensors", {name: name for name in module.head.tensors})


def _write_bottleneck(module: TaskModule, part: Part, name: str, under: str, files: dict[str, bytes]) -> PartEntry:
    assert isinstance(part, BottleneckPart)
    files[under + adapterhub_layout.CONFIG] = _json(adapterhub_layout.config(part, name, module.base))
    files[under + adapterhub_layout.WEIGHTS] = _bytes(adapterhub_layout.tensors(part, name, module.base["model_type"]))
    return _entry(part, name, under.rstrip("/") or ".", adapter=name)


def _write_hub_head(module: TaskModule, name: str, under: str, files: dict[str, bytes]) -> HeadEntry | None:
    if module.head is None:
        return None
    head = module.head
    keys = {weight: adapterhub_layout.head_key(weight, head.kind, name) for weight in head.tensors}
    choices = int(module.training.get("choices", 2))
    config = adapterhub_layout.head_config(head.kind, head.labels, name, module.base, choices)
    files[under + adapterhub_layout.HEAD_CONFIG] = _json(config)
    files[under + adapterhub_layout.HEAD_WEIGHTS] = _bytes({keys[w]: tensor for w, tensor in head.tensors.items()})
    return _head_entry(module, under + adapterhub_layout.HEAD_WEIGHTS, keys)


def _entry(part: Part, name: str, where: str, **place: Any) -> PartEntry:
    return PartEntry(
        name=name,
        task=part.task,
        kind=part.kind,  # type: ignore[arg-type]
        digest=part.digest(),
        trained_on=part.trained_on,
        made_of=None if part.made_of is None else dict(part.made_of),
        settings=part.settings(),
        where=where,
        **place,
    )


def _head_entry(module: TaskModule, file: str, keys: dict[str, str]) -> HeadEntry | None:
    if module.head is None:
        return None
    head = module.head
    return HeadEntry(kind=head.kind, labels=head.labels, digest=head.digest(), file=file, keys=keys)  # type: ignore[arg-type]


def _bytes(named: Mapping[str, Tensor]) -> bytes:
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    if any(not torch.isfinite(tensor).all() for tensor in ready.values()):
        bad = next(name for name, tensor in ready.items() if not torch.isfinite(tensor).all())
        raise ArtifactError(f"{bad}: has values that are not finite; such weights are never written.")
    return save_tensors(ready, metadata={"format": "pt"})


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
