"""Fusions in module folders: an AdapterHub setup where the adapters library has the same, our own form elsewhere.

AdapterHub: the members as single adapters, ``adapter_setup.json`` with their `Fuse`, and the fusion's weights in a
folder named after all members, as `save_adapter_setup` of adapters 1.3.0 writes them. Our own form: each member's
parts as vanilla folders, and ``fusion.safetensors`` under canonical names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ArtifactError
from ..modules import FUSIONS, FusionPart, Part
from ..modules.lora import Key
from . import adapterhub_layout
from .encoding import Planned, part_entry, unique_names
from .manifest import MemberEntry, PartEntry

CONFIG, WEIGHTS = "adapter_fusion_config.json", "model_adapter_fusion.safetensors"
OWN = "fusion.safetensors"
# What the library's "dynamic" fusion computes, and how it is trained there; it reads every field.
COMPUTED = {
    "key": True,
    "query": True,
    "value": True,
    "query_before_ln": False,
    "residual_before": False,
    "temperature": False,
}
_DYNAMIC = COMPUTED | {
    "regularization": True,
    "value_before_softmax": True,
    "value_initialized": True,
    "dropout_prob": None,
}


def is_hub(parts: Sequence[Part]) -> bool:
    """Whether the parts are one AdapterFusion and nothing else, which an AdapterHub setup holds exactly."""
    if len(parts) != 1 or not isinstance(parts[0], FusionPart) or parts[0].variant != "adapterfusion":
        return False
    members = [part for member in parts[0].members for part in member]
    # In a setup, adapters are told apart by name, and a folder is named after all of them.
    return len({part.digest() for part in members}) == len(members) and len(hub_name([p.name for p in members])) < 200


def hub_name(names: Sequence[str]) -> str:
    """The library's name of a fusion of these adapters; a setup file can hold no other."""
    return ",".join(names)


def hub_config(names: Sequence[str], base: Mapping[str, Any]) -> dict[str, Any]:
    """adapter_fusion_config.json."""
    common = adapterhub_layout.described(hub_name(names), base)
    return {"config": dict(_DYNAMIC), "adapter_names": list(names)} | common


def hub_setup(names: Sequence[str], head_name: str | None) -> dict[str, Any]:
    """adapter_setup.json of a fusion."""
    return adapterhub_layout.setup(names, head_name, "Fuse")


def hub_tensors(part: FusionPart, names: Sequence[str], model_type: str) -> dict[str, Tensor]:
    """Weights under the library's keys; the names of all members are part of them."""
    named = {}
    for key, tensor in part.tensors().items():
        layer, place, weight = key.split(".", 2)
        named[f"{_hub_root(model_type, layer, place, names)}.{weight}"] = tensor
    return named


def parse_hub(
    found: Mapping[str, Tensor], names: Sequence[str], model_type: str, keys: Sequence[Key], where: str
) -> dict[str, Tensor]:
    """Canonical weights of a file that `hub_tensors` or the library wrote.

    Args:
        keys: Where the members act. The library also writes weights for layers that all of them leave out; they have
            no effect, and are not taken along.
    """
    canonical: dict[str, Tensor] = {}
    for layer, place in keys:
        root = _hub_root(model_type, str(layer), place, names)
        for weight in FUSIONS["adapterfusion"].weights:
            if f"{root}.{weight}" not in found:
                raise ArtifactError(f"{where}: tensor {root}.{weight} is missing.")
            canonical[f"{layer}.{place}.{weight}"] = found[f"{root}.{weight}"]
    middle = f".adapter_fusion_layer.{hub_name(names)}."
    for key in found:
        if middle not in key or key.partition(middle)[2] not in FUSIONS["adapterfusion"].weights:
            raise ArtifactError(f"{where}: tensor {key} has no place in a fusion of {', '.join(names)}.")
    return canonical


def _hub_root(model_type: str, layer: str, place: str, names: Sequence[str]) -> str:
    return f"{adapterhub_layout.root(model_type, layer, place)}.adapter_fusion_layer.{hub_name(names)}"


Alone = Callable[[Part, str], PartEntry]
"""Part and its name -> its entry, with its files written."""


def write_hub(
    part: FusionPart, names: list[str], base: Mapping[str, Any], files: dict[str, Planned], alone: Alone
) -> PartEntry:
    """A fusion that is alone in its module, as the adapters library has it; `names` begins with its own."""
    name = names[0]
    members = _members(part, {}, names, alone)
    adapters = [one.parts[0].name for one in members]
    where = hub_name(adapters)
    files[f"{where}/{CONFIG}"] = hub_config(adapters, base)
    files[f"{where}/{WEIGHTS}"] = hub_tensors(part, adapters, base["model_type"])
    return part_entry(part, name, where, adapter=where, members=members)


def write_own(
    part: FusionPart, name: str, names: list[str], taken: dict[str, PartEntry], files: dict[str, Planned], alone: Alone
) -> PartEntry:
    """A fusion beside other parts, or of a kind that no library has.

    Args:
        names: Names that are taken; it grows.
        taken: Entries of members' parts written before, by digest; it grows, so that each is written once.
    """
    members = _members(part, taken, names, alone)
    files[f"parts/{name}/{OWN}"] = part.tensors()
    return part_entry(part, name, f"parts/{name}", members=members)


def _members(part: FusionPart, taken: dict[str, PartEntry], names: list[str], alone: Alone) -> tuple[MemberEntry, ...]:
    if not part.trained:
        raise ArtifactError(
            f"'{part.name}' is a fusion that was not trained, so there is nothing to save. Train on top of it first."
        )
    entries = []
    for label, parts in zip(part.labels, part.members, strict=True):
        held = []
        for one in parts:
            digest = one.digest()
            if digest not in taken:
                names[:] = unique_names([*names, one.name])
                taken[digest] = alone(one, names[-1])
            held.append(taken[digest])
        entries.append(MemberEntry(name=label, parts=tuple(held)))
    return tuple(entries)


def read(
    entry: PartEntry,
    tensors: Callable[[str], dict[str, Tensor]],
    member: Callable[[PartEntry], Part],
    model_type: str,
    folder: Path,
) -> FusionPart:
    """The fusion of an entry. Its weights are taken out of their file.

    Args:
        tensors: File -> its tensors that nothing has claimed yet.
        member: Reads the part of an entry.
    """
    said = f"{folder}: fusion '{entry.name}'"
    if not entry.members or any(part.kind == "fusion" for one in entry.members for part in one.parts):
        raise ArtifactError(f"{said}: expected two or more members, none of them a fusion.")
    variant, rank = entry.settings.get("variant"), entry.settings.get("rank", 1)
    if variant not in FUSIONS or type(rank) is not int or rank < 1:
        raise ArtifactError(f"{said}: no variant {variant!r} of rank {rank!r}.")
    members = [[member(part) for part in one.parts] for one in entry.members]
    untrained = FusionPart(entry.name, members, [one.name for one in entry.members], variant, rank=rank)
    file = f"{entry.where}/{OWN if entry.adapter is None else WEIGHTS}"
    found = tensors(file)
    if entry.adapter is None:
        canonical = dict(found)
    else:
        names = [one.parts[0].adapter or "" for one in entry.members]
        canonical = parse_hub(found, names, model_type, untrained.shared, str(folder / file))
    expected = {f"{layer}.{place}.{weight}" for layer, place in untrained.shared for weight in FUSIONS[variant].weights}
    odd = sorted(expected ^ set(canonical))
    if odd:
        raise ArtifactError(f"{folder / file}: {len(odd)} tensors missing or out of place, first: {odd[0]}.")
    found.clear()
    return untrained.finished(canonical)
