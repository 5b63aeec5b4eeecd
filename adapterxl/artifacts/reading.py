"""Read a module folder back: every file against its digest, every tensor claimed by a part or the head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from safetensors.torch import load as load_tensors
from torch import Tensor

from ..errors import ArtifactError, CompositionError, TaskError, UsageError
from ..modules import VARIANTS, LoRAPart, Part, make_head
from ..modules.lora import cut
from . import adapterhub_layout, fusion_layout, peft_layout, store
from .agreement import check_plan
from .check import Checked, read_checked
from .manifest import HeadEntry, Manifest, PartEntry
from .module import HeadState, TaskModule
from .shapes import check_shapes


def load(folder: str | Path) -> TaskModule:
    """Read a module folder; every file is compared with its digest in the manifest, see `check_folder`.

    Raises:
        ArtifactError: If the folder is not a module folder, or something in it is missing, different or in excess.
    """
    return module_of(read_checked(folder), Path(folder))


def module_of(checked: Checked, folder: Path) -> TaskModule:
    """The module of a folder that was read; `folder` is its path and its name in messages.

    Raises:
        ArtifactError: If its tensors and what the manifest says of them make no module.
    """
    manifest, contents = checked.manifest, checked.files
    left: dict[str, dict[str, Tensor]] = {}  # tensors that nothing has claimed yet, by file

    def tensors(name: str) -> dict[str, Tensor]:
        if name not in left:
            if name not in contents:
                raise ArtifactError(f"{folder / store.MANIFEST}: files: {name} is used but not listed.")
            left[name] = load_tensors(contents[name])
        return left[name]

    try:
        read: dict[str, HeadState] = {}
        for each in [] if manifest.head is None else [manifest.head, *manifest.heads.values()]:
            if each.digest not in read:
                read[each.digest] = _read_head(folder, manifest, each, tensors)
        head = None if manifest.head is None else read[manifest.head.digest]
        if manifest.heads and manifest.head not in manifest.heads.values():
            raise ArtifactError(f"{folder / store.MANIFEST}: head: is not one of the tasks' heads.")
        heads = {task: read[each.digest] for task, each in manifest.heads.items()} if head else {}
        parts = _read_parts(folder, manifest, tensors)
    except (CompositionError, TaskError) as error:  # of parts and heads that do not fit together
        raise ArtifactError(f"{folder / store.MANIFEST}: {error}") from error
    for file, unclaimed in left.items():
        if unclaimed:
            raise ArtifactError(f"{folder / file}: tensor {min(unclaimed)} has no place in this module.")
    base = manifest.base
    check_shapes(parts, SimpleNamespace(hidden=base.hidden_size, intermediate=None, layers=base.layers), folder)
    module = TaskModule(
        name=manifest.name,
        task=manifest.task,
        kind=manifest.kind,
        parts=parts,
        head=head,
        base=manifest.base.model_dump(),
        operator=manifest.operator,
        composition=manifest.composition,
        training=manifest.training,
        notes=manifest.notes,
        heads=heads,
        lineage=None if manifest.lineage is None else manifest.lineage.model_dump(mode="json", exclude_defaults=True),
        path=folder,
    )
    try:
        check_plan(module, checked, folder)
    except (CompositionError, UsageError) as error:
        raise ArtifactError(f"{folder / store.MANIFEST}: parts: {error}") from error
    return module


Tensors = Callable[[str], dict[str, Tensor]]


def _read_head(folder: Path, manifest: Manifest, entry: HeadEntry, tensors: Tensors) -> HeadState:
    """Take the head's tensors out of its file; they must be those that its kind has."""
    found, path = tensors(entry.file), folder / entry.file
    absent = [key for key in entry.keys.values() if key not in found]
    if absent:
        raise ArtifactError(f"{path}: head weight {absent[0]} is missing.")
    head = HeadState(entry.kind, entry.labels, {ours: found.pop(key) for ours, key in entry.keys.items()})
    space = SimpleNamespace(
        hidden=manifest.base.hidden_size,
        model_type=manifest.base.model_type,
        config=SimpleNamespace(classifier_dropout=0.0),
    )
    expected = {name: tensor.shape for name, tensor in make_head(entry.kind, space, entry.labels).tensors().items()}
    for name in sorted(expected.keys() | head.tensors.keys()):
        shape = head.tensors[name].shape if name in head.tensors else None
        if shape != expected.get(name):
            wanted = tuple(expected[name]) if name in expected else "no such weight"
            raise ArtifactError(
                f"{path}: head weight {name}: found {'none' if shape is None else tuple(shape)}, expected {wanted}."
            )
    if head.digest() != entry.digest:
        raise ArtifactError(f"{path}: the head is not the one in {store.MANIFEST} (digest differs).")
    return head


def _read_parts(folder: Path, manifest: Manifest, tensors: Tensors) -> tuple[Part, ...]:
    model_type = manifest.base.model_type
    wholes: dict[str, LoRAPart] = {}  # LoRA files; several parts may lie in one
    claimed: dict[str, dict[tuple[int, str], int]] = {}
    held: dict[tuple[str, str, str], Part] = {}  # parts that several members of a fusion may name

    def member(entry: PartEntry) -> Part:
        place = entry.where, entry.name, entry.digest
        if place not in held:
            held[place] = read(entry)
        return held[place]

    def read(entry: PartEntry) -> Part:
        part: Part
        under = "" if entry.where == "." else f"{entry.where}/"
        file = under + (adapterhub_layout.WEIGHTS if entry.kind == "bottleneck" else peft_layout.WEIGHTS)
        with_head = manifest.head is not None and manifest.head.file == file
        if entry.kind == "fusion":
            file = under
            part = fusion_layout.read(entry, tensors, member, model_type, folder)
        elif entry.kind == "lora":
            if file not in wholes:
                wholes[file] = peft_layout.parse(tensors(file), model_type, with_head, str(folder / file))
                claimed[file] = {}
                tensors(file).clear()
            lora = cut(wholes[file], entry.ranks or {}, entry.name)
            for key, (begin, end) in (entry.ranks or {}).items():
                layer, site = key.split(".")
                place = int(layer), site
                if begin != claimed[file].get(place, 0):
                    raise ArtifactError(
                        f"{folder / file}: ranks of '{entry.name}' at {key} do not follow the ones before."
                    )
                claimed[file][place] = end
            part = lora
            if entry.exact is not None:
                part = _made_exact(lora, entry.name, tensors(entry.exact), folder / entry.exact)
        elif entry.kind == "ia3":
            part = peft_layout.parse_ia3(tensors(file), model_type, with_head, str(folder / file))
            tensors(file).clear()
        else:
            variant = str(entry.settings.get("variant"))
            if variant not in VARIANTS:
                raise ArtifactError(f"{folder / store.MANIFEST}: part '{entry.name}': no variant '{variant}'.")
            found = tensors(file)
            part = adapterhub_layout.parse(found, entry.adapter or "", variant, model_type, str(folder / file))
            found.clear()
        part.name, part.task, part.trained_on = entry.name, entry.task, entry.trained_on
        part.made_of = entry.made_of
        if part.digest() != entry.digest:
            raise ArtifactError(
                f"{folder / file}: part '{entry.name}' is not the one in {store.MANIFEST} (digest differs)."
            )
        part.requires_grad_(False)
        return part

    parts = tuple(read(entry) for entry in manifest.parts)
    for file, whole in wholes.items():
        for layer_index, site in whole.keys:
            if claimed[file].get((layer_index, site), 0) != whole.rank(layer_index, site):
                raise ArtifactError(f"{folder / file}: layer {layer_index}, {site}: ranks that belong to no part.")
    return parts


def _made_exact(part: LoRAPart, name: str, found: dict[str, Tensor], path: Path) -> LoRAPart:
    """The part with its own B and rows, which are taken out of `found`."""
    factors, rows = {}, {}
    for layer, site in part.keys:
        a, b = part.a[f"{layer}_{site}"].detach(), part.b[f"{layer}_{site}"].detach()
        own, scale = (found.pop(f"{name}.{layer}.{site}.{weight}", None) for weight in ("B", "rows"))
        for tensor, shape in ((own, b.shape), (scale, b.shape[:1])):
            if tensor is not None and tensor.shape != shape:
                raise ArtifactError(
                    f"{path}: '{name}', layer {layer}, {site}: found a tensor of shape {tuple(tensor.shape)}, "
                    f"expected {tuple(shape)}."
                )
        factors[layer, site] = a, b if own is None else own
        if scale is not None:
            rows[layer, site] = scale
    return LoRAPart(name, factors, rows=rows)
