"""The header of a safetensors file, read by our own bounded reader before anything is built from the file.

Source: https://github.com/huggingface/safetensors, README, "Format". Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import ArtifactError
from . import strict_json
from .store import sha256
from .strict_json import short

MOST_HEADER, MOST_TENSORS = 1 << 20, 20_000
_MOST_DIMENSIONS, _MOST_SIZE = 8, 1 << 40
# dtype -> bytes of a value, and the bits of its exponent: all set in infinities and NaN.
_DTYPES = {"F16": (2, 0x7C00), "BF16": (2, 0x7F80), "F32": (4, 0x7F800000), "F64": (8, 0x7FF0000000000000)}
_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,512}")
_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its dtype as the format calls it, its shape, and its bytes from `begin` to before `end`."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(data: bytes, where: object) -> dict[str, TensorInfo]:
    """Name -> tensor, of a whole file, sorted by name.

    Raises:
        ArtifactError: If the file is not exactly a header and its tensors: a length or shape that does not fit, tensors
            that overlap or leave bytes unused, a key there twice, a dtype that no module has, no values at all.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, MOST_HEADER):
        if data.startswith(_PICKLES):
            raise ArtifactError(f"{where}: not safetensors. It looks like a pickle, which is never read.")
        raise ArtifactError(
            f"{where}: not safetensors, or its header is too large: found {len(data):,} bytes, of which the header "
            f"would be {size:.3g}."
        )
    values = strict_json.parse(data[8 : 8 + size], f"{where}: header", MOST_HEADER)
    if not isinstance(values, dict):
        raise ArtifactError(f"{where}: header: found {short(values)}, expected an object.")
    said = values.pop("__metadata__", {})
    if not isinstance(said, dict) or not all(isinstance(text, str) for text in said.values()):
        raise ArtifactError(f"{where}: header: __metadata__: found {short(said)}, expected texts by name.")
    if len(values) > MOST_TENSORS:
        raise ArtifactError(f"{where}: header: found {len(values):,} tensors, expected {MOST_TENSORS:,} at most.")
    found = {name: _tensor(name, values[name], where) for name in sorted(values)}
    at = 0
    for name, one in sorted(found.items(), key=lambda item: item[1].begin):
        if one.begin != at:
            what = "overlaps the one before it" if one.begin < at else "leaves bytes before it unused"
            raise ArtifactError(f"{where}: tensor {short(name)}: data_offsets: {what} ({one.begin} after {at}).")
        at = one.end
    if at != len(data) - 8 - size:
        raise ArtifactError(f"{where}: found {len(data) - 8 - size:,} bytes of tensors, expected {at:,}.")
    start = 8 + size
    return {name: TensorInfo(t.dtype, t.shape, start + t.begin, start + t.end) for name, t in found.items()}


def _tensor(name: str, entry: Any, where: object) -> TensorInfo:
    said = f"{where}: tensor {short(name)}"
    if not _NAME.fullmatch(name):
        raise ArtifactError(f"{said}: expected a name of 1 to 512 printable characters.")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ArtifactError(f"{said}: found {short(entry, 24)}, expected dtype, shape, data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ArtifactError(f"{said}: dtype: found {short(dtype, 40)}, expected one of {', '.join(_DTYPES)}.")
    if not _whole(shape, least=1) or len(shape) > _MOST_DIMENSIONS:
        raise ArtifactError(f"{said}: shape: found {short(shape, 24)}, expected whole numbers from 1.")
    if not _whole(offsets, least=0) or len(offsets) != 2:
        raise ArtifactError(f"{said}: data_offsets: found {short(offsets, 24)}, expected two whole numbers.")
    begin, end = offsets
    if end - begin != prod(shape) * _DTYPES[dtype][0]:
        raise ArtifactError(
            f"{said}: data_offsets: found {end - begin:,} bytes, expected {prod(shape) * _DTYPES[dtype][0]:,}."
        )
    return TensorInfo(dtype, tuple(shape), begin, end)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, list) and all(type(one) is int and least <= one <= _MOST_SIZE for one in value)


def check_finite(data: bytes, header: Mapping[str, TensorInfo], where: object) -> None:
    """Refuse infinities and NaN.

    Raises:
        ArtifactError: With the tensor's name, how many there are, and where the first is.
    """
    for name, one in header.items():
        size, exponent = _DTYPES[one.dtype]
        bits = np.frombuffer(data, f"<u{size}", prod(one.shape), one.begin)
        bad = np.flatnonzero((bits & bits.dtype.type(exponent)) == exponent)
        if len(bad):
            first = ", ".join(str(index) for index in np.unravel_index(bad[0], one.shape))
            raise ArtifactError(
                f"{where}: tensor {short(name)} has values that are not finite numbers: {len(bad):,} of {bits.size:,}, "
                f"the first at [{first}]."
            )


def tensor_digests(data: bytes, header: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Name -> sha256 of the tensor's bytes."""
    return {name: sha256(data[one.begin : one.end]) for name, one in header.items()}
