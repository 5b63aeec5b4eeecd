"""The cache of prepared rows: Arrow files that are mapped, and made again when anything that decides them changes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ..console import say
from ..durable import new_file, sweep
from ..errors import UsageError
from ..folders import alone, cache_folder
from .examples import Example
from .items import Item, MappedItems, schema, to_batch

SMALL = 1_000_000  # bytes of examples below which to prepare them again is cheaper than to keep them
LIMIT = "ADAPTERXL_PREPARED_LIMIT"
_DEFAULT_LIMIT = 5.0  # GB
_HEADER = 64  # bytes before the Arrow file, a multiple of its alignment
_CHUNK = 1000  # examples that are digested at once

Made = tuple[list[Item], int, int]
"""Items of a chunk of examples, how many examples lost text, and how many words have no sub-word."""


@dataclass(frozen=True)
class Rows:
    """Items, and what was lost when they were made."""

    items: Sequence[Item]
    truncated: int
    unlabelled: int


def source_digest(*what: Any) -> str:
    """sha256 of the source code of the modules that hold these functions and classes."""
    digest = hashlib.sha256()
    for name in (one.__module__ for one in what):
        try:
            source = inspect.getsource(sys.modules[name])
        except OSError:  # without its source, a module is known by the release that it is of
            source = f"{name} {importlib.metadata.version('adapterxl')}"
        digest.update(source.encode())
    return digest.hexdigest()


def row_key(kind: str, examples: Sequence[Example], tokenizer: Any, **about: Any) -> str | None:
    """Digest of all that decides the items of examples; None where they are `SMALL`."""
    digest, size = hashlib.sha256(), 0
    # An id or a language decides no token.
    read = attrgetter(*(field.name for field in fields(examples[0]) if field.name not in ("id", "language")))
    for start in range(0, len(examples), _CHUNK):
        texts = [read(example) for example in examples[start : start + _CHUNK]]
        block = json.dumps(texts, ensure_ascii=False).encode("utf-8", "surrogatepass")
        digest.update(block)
        size += len(block)
    if size < SMALL:
        return None
    digest.update(json.dumps([kind, len(examples), tokenizer_digest(tokenizer), sorted(about.items())]).encode())
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 of all of a fast tokenizer that decides the tokens of a text, the library's release included."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # what the last call asked for; every call asks anew
    backend.no_padding()
    about = [
        importlib.metadata.version("tokenizers"), type(tokenizer).__name__, tokenizer.truncation_side,
        tokenizer.model_input_names, tokenizer.all_special_ids, tokenizer.mask_token_id,
    ]  # fmt: skip
    return hashlib.sha256(f"{json.dumps(about)}{backend.to_str()}".encode()).hexdigest()


class RowCache:
    """A folder with an Arrow file for each set of examples that was prepared.

    A file is named after its key, and begins with the checksum of the rest, which is compared before it is used; it
    appears when it is whole. Of processes that want the same rows one makes them, the others wait and read. Files may
    be removed at any time: one that is in use stays mapped.

    Args:
        aloud: Say what is read and written.

    Raises:
        UsageError: If ADAPTERXL_PREPARED_LIMIT is not a number from 0. It is the most GB that all files may take; those
            unused for longest give way. One that is in use stays, however large.
    """

    def __init__(self, *, aloud: bool = False) -> None:
        self.folder, self.aloud = cache_folder() / "prepared", aloud
        text = os.environ.get(LIMIT) or str(_DEFAULT_LIMIT)
        try:
            self.limit = float(text) * 1e9
        except ValueError:
            self.limit = -1.0
        if not self.limit >= 0:
            raise UsageError(f"{LIMIT}: found '{text}', expected GB from 0, such as 5; 0 keeps nothing.")

    def rows(
        self, kind: str, examples: Sequence[Example], tokenizer: Any, make: Callable[[], Iterable[Made]], **about: Any
    ) -> Rows | None:
        """What was kept of these examples, or what is made of them now and kept.

        Args:
            tokenizer: A fast tokenizer of transformers.
            make: Gives their items, chunk by chunk.
            about: What else decides the items: the code and its arguments.

        Returns:
            None where nothing is kept: a small set, a limit of 0, or (with a note) a folder that cannot be used.
        """
        key = row_key(kind, examples, tokenizer, **about) if self.limit else None
        if key is None:
            return None
        try:
            if (found := self.find(key, kind)) is not None:
                return found
            with alone(self.folder / ".held"):
                return self.find(key, kind) or self.write(key, kind, make())
        except OSError as error:
            say([f"prepared rows are not kept: {self.folder} cannot be used ({error.strerror or error})."])
            return None

    def find(self, key: str, kind: str) -> Rows | None:
        """The rows of a key, if they are there and whole."""
        path = self.folder / f"{key}.arrow"
        try:
            mapped = pa.memory_map(str(path)).read_buffer()
            os.utime(path)
        except FileNotFoundError:
            return None
        if mapped[:_HEADER].to_pybytes() != _header(zlib.crc32(mapped[_HEADER:])):
            say([f"prepared rows: {path} is damaged; they are prepared anew."])
            path.unlink(missing_ok=True)
            return None
        rows = _read(mapped[_HEADER:], kind)
        self._say(f"{len(rows.items):,} are read from {path}.")
        return rows

    def write(self, key: str, kind: str, chunks: Iterable[Made]) -> Rows:
        """Keep what is made, chunk by chunk, and give it as it is kept.

        Raises:
            OSError: If the folder cannot be written, or is full.
        """
        path = self.folder / f"{key}.arrow"
        with new_file(path) as stream:
            stream.write(bytes(_HEADER))
            checked = _Checked(stream)
            with pa.ipc.new_file(checked, schema(kind)) as writer:
                for items, truncated, unlabelled in chunks:
                    lost = {"truncated": str(truncated), "unlabelled": str(unlabelled)}
                    writer.write_batch(to_batch(kind, items), custom_metadata=lost)
            stream.seek(0)
            stream.write(_header(checked.checksum))
        mapped = pa.memory_map(str(path)).read_buffer()
        rows = _read(mapped[_HEADER:], kind)
        self._say(
            f"{len(rows.items):,} are kept in {path}, {mapped.size / 1e9:.3g} GB (all together at most "
            f"{self.limit / 1e9:.3g} GB, set by {LIMIT})."
        )
        with suppress(FileNotFoundError):  # somebody else removed a file just now
            self._make_room(path)
        return rows

    def _make_room(self, own: Path) -> None:
        """Let files unused for longest give way to a new one, and what writers left that were killed."""
        sweep(self.folder)
        before = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in self.folder.glob("*.arrow"))
        held = sum(size for _, size, _ in before)
        for _, size, file in before:
            if held > self.limit and file != own:
                held -= size
                file.unlink(missing_ok=True)
                self._say(f"{file.name} gives way, for the limit of {self.limit / 1e9:.3g} GB.")

    def _say(self, line: str) -> None:
        if self.aloud:
            say([f"prepared rows: {line}"])


class _Checked(io.RawIOBase):
    """A stream that knows the CRC-32 of what went through."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.checksum = stream, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        return self._stream.write(data)


def _header(checksum: int) -> bytes:
    return f"prepared rows of adapterxl, crc32 {checksum:08x}\n".encode().ljust(_HEADER)


def _read(content: pa.Buffer, kind: str) -> Rows:
    reader = pa.ipc.open_file(content)
    found = [reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)]
    lost = [sum(int(about[name]) for _, about in found) for name in (b"truncated", b"unlabelled")]
    return Rows(MappedItems(kind, [batch for batch, _ in found]), *lost)
