"""The trunk cache: what the layers below all that learns give for each row, computed once and read afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..backbone import DTYPES, Backbone
from ..console import say
from ..data.collate import cut_batches
from ..durable import new_file, sweep
from ..errors import TrainingError, UsageError
from ..folders import alone, cache_folder
from ..modules import Part
from ..ragged import RaggedBatch, pack
from .encoder import encode

_HEADER = 1024  # bytes before the values: a safetensors header with its length
_NAMES = {"fp32": "F32", "bf16": "BF16", "fp64": "F64"}  # as safetensors writes them
_RAW = {2: np.uint16, 4: np.uint32, 8: np.uint64}  # numpy has no bf16: values are mapped as bare bits
_TOKENS = 8192  # of a forward

Row = tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray]
"""Token ids and segment ids."""


class TrunkCache:
    """Hidden states after the lowest layers, for rows whose states no training changes.

    They are computed without dropout. A file holds one set of rows; its name is the digest of the backbone and its
    precision, the parts below, the layer, and the rows' token ids. Whoever has the same rows reads it again: every
    epoch, job and later run, in any order of rows, each of which is found by its tokens.

    Args:
        below: The frozen parts of the stack; what of them acts below `layer` is in the states.
        layer: The states are those after this many layers, from 1.
        dtype: How they are stored: bf16, fp32 (or fp64, for checks).
        limit: Most bytes that the folder of these files may take. Files unused for longest give way.
        folder: Where the files lie.
    """

    def __init__(
        self, backbone: Backbone, below: Sequence[Part], layer: int, *, dtype: str, limit: float, folder: Path
    ) -> None:
        self.backbone, self.below, self.layer = backbone, below, layer
        self.dtype, self.limit, self.folder = dtype, limit, folder
        self._maps: list[Tensor] = []
        self._places: dict[bytes, tuple[int, int]] = {}  # row -> its file and first token
        self._own = self._digest_of_states()

    def add(self, rows: Iterable[Row], *, progress: bool = False) -> None:
        """Make the states of these rows available: map their file, or compute and write it first.

        Raises:
            UsageError: If they take more than the limit, or than the disk has.
            TrainingError: If the file cannot be written.
        """
        held = {_row_digest(np.asarray(ids), np.asarray(types)): (ids, types) for ids, types in rows}
        held = {digest: row for digest, row in held.items() if digest not in self._places}
        if not held:
            return
        order = sorted(held, key=lambda digest: (len(held[digest][0]), digest))
        lengths = [len(held[digest][0]) for digest in order]
        shape = (sum(lengths), self.backbone.hidden)
        name = hashlib.sha256(self._own + b"".join(order)).hexdigest()
        path = self.folder / f"{name}.safetensors"
        try:
            with alone(self.folder / ".held"):  # one writes, and the other processes of a run find it written
                if self._is_whole(path, shape):
                    os.utime(path)
                    say([f"trunk cache: {len(order):,} rows are read from {path}."])
                else:
                    self._make_room(path, shape, len(order))
                    self._write(path, shape, [held[digest] for digest in order], lengths, progress)
        except OSError as error:
            raise TrainingError(f"{self.folder}: cannot hold the trunk cache ({error.strerror or error}).") from error
        raw = np.memmap(path, _RAW[DTYPES[self.dtype].itemsize], "c", _HEADER, shape)  # "c": never written to the file
        starts = accumulate(lengths, initial=0)
        self._places |= {digest: (len(self._maps), start) for digest, start in zip(order, starts, strict=False)}
        self._maps.append(torch.from_numpy(raw).view(DTYPES[self.dtype]))

    def hidden(self, batch: RaggedBatch) -> Tensor:
        """States of a batch, shape (tokens, hidden), in packed order; rows that were not added are computed."""
        pieces: list[Tensor | None] = []
        absent: list[Row] = []
        for ids, types in batch.rows_on_host():
            place = self._places.get(_row_digest(ids, types))
            if place is None:
                absent.append((ids, types))
                pieces.append(None)
            else:
                pieces.append(self._maps[place[0]][place[1] : place[1] + len(ids)])
        if absent:
            computed = iter(self._compute(absent).split([len(ids) for ids, _ in absent]))
            pieces = [next(computed) if piece is None else piece for piece in pieces]
        found = torch.cat([piece for piece in pieces if piece is not None])
        if batch.device.type == "cuda":
            found = found.pin_memory()
        return found.to(batch.device, non_blocking=True).to(self.backbone.dtype)

    def _compute(self, rows: Sequence[Row]) -> Tensor:
        """States of rows, one row after another, on the CPU as they are stored."""
        batch = pack([list(ids) for ids, _ in rows], [list(types) for _, types in rows])
        with torch.no_grad(), self.backbone.autocast():
            states = encode(self.backbone, batch.to(self.backbone.device), [self.below], upto=self.layer)
        assert isinstance(states, Tensor)
        packed = states.to(DTYPES[self.dtype]).cpu().split(list(batch.lengths))
        return torch.cat([packed[i] for i in np.argsort(batch.order)])

    def _digest_of_states(self) -> bytes:
        """Of all that decides the states of a row, but the row."""
        config, linear = self.backbone.config, self.backbone.model.encoder.layer[0].output.dense
        what: list[Any] = [
            self.backbone.fingerprint, self.layer, self.dtype, self.backbone.device.type, self.backbone.dtype_name,
            type(linear).__name__, str(linear.weight.dtype), config.hidden_act, config.layer_norm_eps,
            config.num_attention_heads, self.backbone.position_offset,
            [part.digest() for part in self.below if part.layers[0] < self.layer],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(what).encode()).digest()

    # --- files

    def _header(self, shape: tuple[int, int], checksum: int) -> bytes:
        size = shape[0] * shape[1] * DTYPES[self.dtype].itemsize
        content = {
            "__metadata__": {"crc32": f"{checksum:08x}", "of": self._own.hex()},
            "hidden": {"dtype": _NAMES[self.dtype], "shape": shape, "data_offsets": (0, size)},
        }
        return struct.pack("<Q", _HEADER - 8) + json.dumps(content).encode().ljust(_HEADER - 8)

    def _is_whole(self, path: Path, shape: tuple[int, int]) -> bool:
        """Whether a file is there, and all of it is what was written. Reading it costs far less than making it."""
        if not path.is_file():
            return False
        checksum = 0
        with path.open("rb") as stream:
            header = stream.read(_HEADER)
            while block := stream.read(1 << 22):
                checksum = zlib.crc32(block, checksum)
        size = shape[0] * shape[1] * DTYPES[self.dtype].itemsize
        if header == self._header(shape, checksum) and path.stat().st_size == _HEADER + size:
            return True
        say([f"trunk cache: {path} is damaged; it is made anew."])
        path.unlink()
        return False

    def _make_room(self, path: Path, shape: tuple[int, int], rows: int) -> None:
        """Say what the file takes; refuse one beyond the limit; let files unused for longest give way to it."""
        size = _HEADER + shape[0] * shape[1] * DTYPES[self.dtype].itemsize
        if size > self.limit:
            raise UsageError(
                f"Trunk cache: {rows:,} rows ({shape[0]:,} tokens) take {size / 1e9:.3g} GB in {self.dtype}, and "
                f"--trunk-cache-limit is {self.limit / 1e9:.3g} GB. Raise it, take fewer rows, or leave the cache out."
            )
        sweep(self.folder)
        before = sorted(self.folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        held = sum(file.stat().st_size for file in before)
        for file in before:
            if held + size <= self.limit:
                break
            held -= file.stat().st_size
            say([f"trunk cache: {file.name} gives way, for the limit of {self.limit / 1e9:.3g} GB."])
            file.unlink()
        free = _free(self.folder)
        if size > free:
            raise UsageError(
                f"Trunk cache: {rows:,} rows take {size / 1e9:.3g} GB, and {self.folder} has {free / 1e9:.3g} GB free. "
                "Name another place with ADAPTERXL_CACHE, or leave the cache out."
            )
        say(
            [
                f"trunk cache: layers 0 to {self.layer - 1} are computed once for {rows:,} rows "
                f"({shape[0]:,} tokens), {size / 1e9:.3g} GB in {self.dtype}: {path}"
            ]
        )

    def _write(
        self, path: Path, shape: tuple[int, int], rows: Sequence[Row], lengths: Sequence[int], progress: bool
    ) -> None:
        checksum, size = 0, _HEADER + shape[0] * shape[1] * DTYPES[self.dtype].itemsize
        try:
            with (
                new_file(path, size) as stream,
                tqdm(total=len(rows), desc="trunk cache", unit="row", disable=not progress, leave=False) as bar,
            ):
                stream.write(bytes(_HEADER))
                for indices in cut_batches(range(len(rows)), lengths, None, _TOKENS):
                    block = self._compute([rows[i] for i in indices]).view(torch.uint8).numpy().tobytes()
                    checksum = zlib.crc32(block, checksum)
                    stream.write(block)
                    bar.update(len(indices))
                stream.seek(0)
                stream.write(self._header(shape, checksum))
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written ({error.strerror or error}).") from error


def open_trunk(
    backbone: Backbone,
    frozen: Sequence[Part],
    learning: Sequence[Part],
    *,
    dtype: str,
    limit: float,
) -> TrunkCache:
    """The cache below everything that learns; of a head alone, below nothing but the head.

    Args:
        frozen: The stack below the new part, with its fusions that are not trained yet.
        learning: The new part and those fusions.

    Raises:
        UsageError: If something learns in the lowest layer.
    """
    lowest = min(learning, key=lambda part: part.learns_from, default=None)
    layer = backbone.layers if lowest is None else lowest.learns_from
    if lowest is not None and layer == 0:
        raise UsageError(
            f"Trunk cache: '{lowest.name}' learns in layer 0, so no layer below it could be cached. Let it act in "
            f"upper layers only, such as --layers {max(1, 2 * backbone.layers // 3)}-{backbone.layers - 1}, or leave "
            "the cache out."
        )
    config = backbone.config
    if config.hidden_dropout_prob or config.attention_probs_dropout_prob:
        say(
            [
                f"trunk cache: layers 0 to {layer - 1} run without the backbone's dropout "
                f"({config.hidden_dropout_prob:g}), so every epoch sees the same states there: less noise in training."
            ]
        )
    return TrunkCache(backbone, frozen, layer, dtype=dtype, limit=limit, folder=cache_folder() / "trunk")


def _row_digest(ids: np.ndarray, types: np.ndarray) -> bytes:
    return hashlib.blake2b(
        ids.astype("<i8", copy=False).tobytes() + types.astype("<i8", copy=False).tobytes(), digest_size=16
    ).digest()


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
