"""TaskModule: a trained or composed result, in memory and as a folder that vanilla libraries load too."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from ..backbone import Backbone
from ..errors import BackboneError, CompositionError, UsageError
from ..modules import BottleneckPart, FusionPart, Head, IA3Part, LoRAPart, Part, make_head
from ..modules.heads import HeadSpace
from ..modules.lora import concatenate
from . import adapterhub_layout, fusion_layout, peft_layout, store
from .encoding import Planned, encoded, tensor_bytes, tensor_entries, unique_names
from .encoding import part_entry as _entry
from .fusion_layout import is_hub
from .manifest import EXACT, HEADS, BaseEntry, FileEntry, HeadEntry, Layout, Manifest, PartEntry, module_digest
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
        base: Of the backbone: name, id, revision, fingerprint, model_type, hidden_size, layers.
        operator: "train", or the operator that composed it.
        composition: The expression it was trained on or composed by; None when there was none.
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
        planned = plan(self, stored)
        files = extra | {name: encoded(content) for name, content in planned.files.items()}
        manifest = Manifest(
            name=self.name,
            task=self.task,
            kind=self.kind,
            operator=self.operator,
            composition=self.composition,
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


@dataclass(frozen=True)
class Plan:
    """What a module's folder holds, before any of it is encoded: its files by name, and what the manifest says."""

    layout: Layout
    files: Mapping[str, Planned]
    parts: tuple[PartEntry, ...]
    head: HeadEntry | None
    heads: Mapping[str, HeadEntry]


def plan(module: TaskModule, stored: peft_layout.Stored | None) -> Plan:
    """The one way to lay a module out as a folder.

    Args:
        stored: Tensors of the backbone, which the weights of a DoRA need when they are encoded.
    """
    check_name(module.name)
    layout, files = choose_layout(module.parts), dict[str, Planned]()
    names = unique_names([part.name for part in module.parts])
    writer = {
        "peft": _write_peft,
        "adapterhub": _write_hub,
        "adapterhub-setup": _write_setup,
        "adapterxl": _write_own,
    }
    parts, head = writer[layout](module, names, files, stored)
    return Plan(layout, files, tuple(parts), head, _write_heads(module, head, files))


def check_base(module: TaskModule | None, on: Backbone) -> None:
    """Refuse a module of another backbone, however well its shapes fit."""
    if module is not None and module.base["fingerprint"] != on.fingerprint:
        raise BackboneError(
            f"'{module.name}' was trained on {module.base['name']} with fingerprint "
            f"{module.base['fingerprint'][:12]}, which is not this backbone ({on.name}, {on.fingerprint[:12]}). "
            "Give the backbone it was trained on with --base."
        )
    if module is not None:
        check_shapes(module.parts, on, module.path or f"'{module.name}'")


def check_name(name: str) -> str:
    """A module's name, or a UsageError; it becomes part of file names and tensor keys."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"Module name '{name}': use lower-case letters, digits, '-' and '_', at most 64.")
    return name


def choose_layout(parts: Sequence[Part]) -> Layout:
    """The vanilla form that computes exactly what the parts do; `adapterxl` where there is none.

    Bottlenecks in a row are an AdapterHub stack, except par_bn: the adapters library runs only the last one. One
    AdapterFusion alone is an AdapterHub setup too.
    """
    if parts and all(isinstance(part, LoRAPart) for part in parts):
        return "peft"
    if len(parts) == 1 and isinstance(parts[0], IA3Part):
        return "peft"
    if is_hub(parts):
        return "adapterhub-setup"
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


Written = tuple[list[PartEntry], HeadEntry | None]


def _write_peft(
    module: TaskModule, names: list[str], files: dict[str, Planned], stored: peft_layout.Stored | None
) -> Written:
    base, model_type = module.base, module.base["model_type"]
    keys: dict[str, str] = {}
    if module.head is not None:
        keys = {name: peft_layout.head_key(name, model_type) for name in module.head.tensors}
    kind, with_head = module.head.kind if module.head else None, module.head is not None
    entries = []
    first = module.parts[0]
    if isinstance(first, IA3Part):
        named = partial(peft_layout.ia3_tensors, first, model_type, with_head)
        config = peft_layout.ia3_config(first, base, kind, list(keys))
        entries.append(_entry(first, names[0], "."))
    else:
        parts = [part for part in module.parts if isinstance(part, LoRAPart)]
        whole = concatenate(parts, module.name)
        named = partial(peft_layout.tensors, whole, model_type, with_head, stored)
        config = peft_layout.config(whole, base, kind, list(keys))
        exact = _exact(parts, names)
        taken = {key: 0 for key in whole.keys}
        for part, name in zip(parts, names, strict=True):
            ranks = {}
            for key in part.keys:
                begin = taken[key]
                taken[key] = begin + part.rank(*key)
                ranks[f"{key[0]}.{key[1]}"] = (begin, taken[key])
            held = any(each.startswith(f"{name}.") for each in exact)
            entries.append(_entry(part, name, ".", ranks=ranks, exact=EXACT if held else None))
        if exact:
            files[EXACT] = exact
    of_head = {keys[name]: tensor for name, tensor in module.head.tensors.items()} if module.head else {}
    files[peft_layout.CONFIG] = config
    files[peft_layout.WEIGHTS] = lambda: named() | of_head
    return entries, _head_entry(module, peft_layout.WEIGHTS, keys)


def _exact(parts: Sequence[LoRAPart], names: Sequence[str]) -> dict[str, Tensor]:
    """What one PEFT file cannot give back bit for bit: rows, and B where it follows a part that rescales."""
    kept: dict[str, Tensor] = {}
    rescaled: set[tuple[int, str]] = set()
    for part, name in zip(parts, names, strict=True):
        for key in part.keys:
            found, rows, place = part.factors(*key), part.row_scale(*key), f"{name}.{key[0]}.{key[1]}"
            if key in rescaled and found is not None:
                kept[f"{place}.B"] = found[1]
            if rows is not None:
                kept[f"{place}.rows"] = rows
        rescaled |= {key for key in part.keys if part.row_scale(*key) is not None}
    return kept


def _write_hub(
    module: TaskModule, names: list[str], files: dict[str, Planned], stored: peft_layout.Stored | None
) -> Written:
    entry = _write_bottleneck(module, module.parts[0], names[0], "", files)
    return [entry], _write_hub_head(module, names[0], "", files)


def _write_setup(
    module: TaskModule, names: list[str], files: dict[str, Planned], stored: peft_layout.Stored | None
) -> Written:
    head_name = names[-1]

    def alone(part: Part, name: str) -> PartEntry:
        return _write_bottleneck(module, part, name, f"{name}/", files)

    if isinstance(module.parts[0], FusionPart):
        entries = [fusion_layout.write_hub(module.parts[0], list(names), module.base, files, alone)]
        adapters = [one.parts[0].name for one in entries[0].members or ()]
        setup = fusion_layout.hub_setup(adapters, head_name if module.head else None)
    else:
        entries = [alone(part, name) for part, name in zip(module.parts, names, strict=True)]
        setup = adapterhub_layout.setup(names, head_name if module.head else None)
    files[adapterhub_layout.SETUP] = setup
    return entries, _write_hub_head(module, head_name, f"{head_name}/", files)


def _write_own(
    module: TaskModule, names: list[str], files: dict[str, Planned], stored: peft_layout.Stored | None
) -> Written:
    """No vanilla form of the whole: each part is a vanilla folder of its own below, the head a file."""

    def alone(part: Part, name: str) -> PartEntry:
        if isinstance(part, LoRAPart | IA3Part):
            return _write_alone(module, part, name, f"parts/{name}", files, stored)
        return _write_bottleneck(module, part, name, f"parts/{name}/", files)

    given, members = list(names), dict[str, PartEntry]()
    entries = [
        fusion_layout.write_own(part, name, given, members, files, alone)
        if isinstance(part, FusionPart)
        else alone(part, name)
        for part, name in zip(module.parts, names, strict=True)
    ]
    if module.head is None:
        return entries, None
    files["head.safetensors"] = module.head.tensors
    return entries, _head_entry(module, "head.safetensors", {name: name for name in module.head.tensors})


def _write_alone(
    module: TaskModule,
    part: LoRAPart | IA3Part,
    name: str,
    where: str,
    files: dict[str, Planned],
    stored: peft_layout.Stored | None,
) -> PartEntry:
    """One part as a PEFT folder: what it does alone on the plain backbone."""
    base, model_type = module.base, module.base["model_type"]
    if isinstance(part, IA3Part):
        files[f"{where}/{peft_layout.CONFIG}"] = peft_layout.ia3_config(part, base, None, [])
        files[f"{where}/{peft_layout.WEIGHTS}"] = peft_layout.ia3_tensors(part, model_type, False)
        return _entry(part, name, where)
    files[f"{where}/{peft_layout.CONFIG}"] = peft_layout.config(part, base, None, [])
    files[f"{where}/{peft_layout.WEIGHTS}"] = partial(peft_layout.tensors, part, model_type, False, stored)
    exact = _exact([part], [name])
    if exact:
        files[f"{where}/{EXACT}"] = exact
    ranks = {f"{layer}.{site}": (0, part.rank(layer, site)) for layer, site in part.keys}
    return _entry(part, name, where, ranks=ranks, exact=f"{where}/{EXACT}" if exact else None)


def _write_bottleneck(module: TaskModule, part: Part, name: str, under: str, files: dict[str, Planned]) -> PartEntry:
    assert isinstance(part, BottleneckPart)
    files[under + adapterhub_layout.CONFIG] = adapterhub_layout.config(part, name, module.base)
    files[under + adapterhub_layout.WEIGHTS] = adapterhub_layout.tensors(part, name, module.base["model_type"])
    return _entry(part, name, under.rstrip("/") or ".", adapter=name)


def _write_hub_head(module: TaskModule, name: str, under: str, files: dict[str, Planned]) -> HeadEntry | None:
    if module.head is None:
        return None
    head = module.head
    keys = {weight: adapterhub_layout.head_key(weight, head.kind, name) for weight in head.tensors}
    choices = int(module.training.get("choices", 2))
    config = adapterhub_layout.head_config(head.kind, head.labels, name, module.base, choices)
    files[under + adapterhub_layout.HEAD_CONFIG] = config
    files[under + adapterhub_layout.HEAD_WEIGHTS] = {keys[w]: tensor for w, tensor in head.tensors.items()}
    return _head_entry(module, under + adapterhub_layout.HEAD_WEIGHTS, keys)


def _write_heads(module: TaskModule, first: HeadEntry | None, files: dict[str, Planned]) -> dict[str, HeadEntry]:
    """The heads of several tasks: the first lies where vanilla libraries look, the others in a file of ours."""
    if not module.heads or first is None:
        return {}
    known, tensors = {first.digest: first}, dict[str, Tensor]()
    entries = {}
    for task, head in module.heads.items():
        digest = head.digest()
        if digest not in known:
            keys = {name: f"{len(known)}.{name}" for name in head.tensors}
            tensors |= {keys[name]: tensor for name, tensor in head.tensors.items()}
            known[digest] = HeadEntry(kind=head.kind, labels=head.labels, digest=digest, file=HEADS, keys=keys)  # type: ignore[arg-type]
        entries[task] = known[digest]
    if tensors:
        files[HEADS] = tensors
    return entries


def _head_entry(module: TaskModule, file: str, keys: dict[str, str]) -> HeadEntry | None:
    if module.head is None:
        return None
    head = module.head
    return HeadEntry(kind=head.kind, labels=head.labels, digest=head.digest(), file=file, keys=keys)  # type: ignore[arg-type]
