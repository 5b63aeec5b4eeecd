"""Read folders that other programs wrote: bounded, regular files only, and every field and tensor accounted for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from ..errors import ArtifactError
from . import store, strict_json
from .check import MOST_BYTES
from .files import Folder
from .header import check_finite, read_header
from .strict_json import short

_MOST_JSON = 1 << 18


class Fields:
    """The fields of a JSON object. What nobody takes must say nothing (null, false, empty): see `done`."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where, self.left = values, where, set(values)

    def get(self, name: str, fits: Callable[[Any], bool], expected: str, default: Any = None) -> Any:
        """A field's value, or the default where it is absent."""
        self.left.discard(name)
        value = self.values.get(name, default)
        if not fits(value):
            raise ArtifactError(f"{self.where}: {name}: found {short(value)}, expected {expected}.")
        return value

    def must(self, name: str, value: Any, default: Any = None, why: str = "") -> None:
        """Refuse any other value: it changes what is computed."""
        found = self.get(name, lambda _: True, "", default)
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            raise ArtifactError(f"{self.where}: {name}: found {short(found)}, expected {short(value)}{why}.")

    def ignore(self, *names: str) -> None:
        """Fields of training, or of nothing."""
        self.left.difference_update(names)

    def done(self) -> None:
        """Refuse a field that nobody took and that says something."""
        for name in sorted(self.left):
            if not _says_nothing(self.values[name]):
                raise ArtifactError(
                    f"{self.where}: {name}: found {short(self.values[name])}, which adapterxl does not know; "
                    "it may change what is computed."
                )


class ForeignFolder:
    """A folder that another program wrote. It remembers what was read of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: dict[str, str] = {}  # file -> sha256

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def fields(self, name: str) -> Fields:
        """A JSON object."""
        path = self.path / name
        found = strict_json.parse(self._content(name, _MOST_JSON), path, _MOST_JSON)
        if not isinstance(found, dict):
            raise ArtifactError(f"{path}: found {short(found)}, expected a JSON object.")
        return Fields(found, str(path))

    def tensors(self, name: str, pickled: str) -> dict[str, Tensor]:
        """All tensors of a safetensors file, as float32 (float64 stays); each is to be taken out by its reader.

        Args:
            pickled: The name that the same weights have as a pickle.
        """
        path = self.path / name
        if not self.has(name) and self.has(pickled):
            raise ArtifactError(
                f"{self.path / pickled}: pickle weights are never read. Convert them first: "
                f"adapterxl convert {self.path} --out NEW, then import NEW."
            )
        data = self._content(name, MOST_BYTES)
        check_finite(data, read_header(data, path), path)
        found = load_tensors(data)
        # Sorted: safetensors gives them in any order, and a refusal should name the same tensor every time.
        return {key: tensor.clone() if tensor.dtype == torch.float64 else tensor.float().clone()
                for key, tensor in sorted(found.items())}  # fmt: skip

    def nothing_else(self, *below: str) -> None:
        """Refuse weights in the folder (and those below it) that nothing read."""
        for under in ("", *below):
            for path in sorted((self.path / under).glob("*.safetensors")):
                name = path.relative_to(self.path).as_posix()
                if name not in self.read:
                    raise ArtifactError(
                        f"{path}: belongs to nothing that this folder says. Move it out, and import again."
                    )

    def _content(self, name: str, most: int) -> bytes:
        with Folder(self.path) as opened:
            data = opened.read(name, most)
        self.read[name] = store.sha256(data)
        return data


def nothing_left(found: Mapping[str, Tensor], where: str, what: str) -> None:
    """Refuse tensors that nobody claimed."""
    if found:
        key = min(found)
        base = " It is a weight of the backbone itself, which stays as it is." if _is_base(key) else ""
        raise ArtifactError(f"{where}: tensor {key} has no place in {what}.{base}")


def check_shape(where: str, key: str, tensor: Tensor, expected: Sequence[int]) -> Tensor:
    """The tensor, or one line with both shapes."""
    if tuple(tensor.shape) != tuple(expected):
        raise ArtifactError(
            f"{where}: tensor {key}: found shape {tuple(tensor.shape)}, expected {tuple(expected)}. "
            "Is this the backbone that it was trained on?"
        )
    return tensor


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_flag(value: object) -> bool:
    return isinstance(value, bool)


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1 << 20


def is_alpha(value: object) -> bool:
    """A scale that a person may have meant."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= 1e4


def _says_nothing(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_says_nothing, value.values()))
    return value is None or value is False or value == "" or value == []


def _is_base(key: str) -> bool:
    inner = key.removeprefix("base_model.model.").removeprefix("roberta.").removeprefix("bert.")
    own = (".lora", ".ia3", ".adapters.")
    return inner.startswith(("embeddings.", "encoder.", "pooler.")) and not any(mark in inner for mark in own)
