"""How a module is laid out as a folder: which files there are, what is in them, and what the manifest says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from ..modules import BottleneckPart, FusionPart, IA3Part, LoRAPart, Part
from ..modules.lora import concatenate
from . import adapterhub_layout, fusion_layout, peft_layout
from .encoding import Planned, unique_names
from .encoding import part_entry as _entry
from .fusion_layout import is_hub
from .manifest import EXACT, HEADS, HeadEntry, Layout, PartEntry

if TYPE_CHECKING:
    from .module import TaskModule


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
