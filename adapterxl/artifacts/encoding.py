"""How parts, tensors and settings become bytes and entries of a manifest: what all layouts share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..errors import ArtifactError
from ..modules import Part
from .header import read_header, tensor_digests
from .manifest import PartEntry, TensorEntry

Planned = Mapping[str, Any] | Callable[[], Mapping[str, Tensor]]
"""A file before it is encoded: the fields of a JSON file, or named tensors, or what makes those."""


def encoded(planned: Planned) -> bytes:
    """The bytes of a planned file."""
    content = planned() if callable(planned) else planned
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return tensor_bytes(content)
    return json_bytes(content)


def part_entry(part: Part, name: str, where: str, **place: Any) -> PartEntry:
    """The manifest's entry of a part, with where its weights are."""
    return PartEntry(
        name=name,
        task=part.task,
        kind=part.kind,  # type: ignore[arg-type]
        digest=part.digest(),
        trained_on=part.trained_on,
        made_of=None if part.made_of is None else dict(part.made_of),
        settings=part.settings(),
        sites=tuple(dict.fromkeys(site for _, site in part.keys)),
        layers=part.layers,
        where=where,
        **place,
    )


def tensor_bytes(named: Mapping[str, Tensor]) -> bytes:
    """A safetensors file. Values that are not finite are refused."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    if any(not torch.isfinite(tensor).all() for tensor in ready.values()):
        bad = next(name for name, tensor in ready.items() if not torch.isfinite(tensor).all())
        raise ArtifactError(f"{bad}: has values that are not finite; such weights are never written.")
    return save_tensors(ready, metadata={"format": "pt"})


def tensor_entries(data: bytes, name: str) -> dict[str, TensorEntry]:
    """What the manifest says of each tensor of a safetensors file."""
    header = read_header(data, name)
    digests = tensor_digests(data, header)
    return {key: TensorEntry(dtype=one.dtype, shape=one.shape, sha256=digests[key])  # type: ignore[arg-type]
            for key, one in header.items()}  # fmt: skip


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON file with sorted keys."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


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
