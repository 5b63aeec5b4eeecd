"""A data file in memory: its text, its digest and its place in messages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterxl.errors import DataError

BOM = "\ufeff"


@dataclass(frozen=True)
class TextFile:
    """A file that was read once.

    Attributes:
        shown: The path as messages show it.
        relative: The path inside the source, for records.
        name: Start of the ids of rows that have none.
        text: The content, without a byte order mark at its start.
        sha256: Digest of the bytes that were read.
    """

    shown: str
    relative: str
    name: str
    text: str
    sha256: str

    def lines(self) -> list[str]:
        """Return the lines without their ends (LF or CRLF); empty lines at the end of the file are left out.

        Only line feeds end a line: other characters that str.splitlines cuts at occur inside sentences.
        """
        lines = [line.removesuffix("\r") for line in self.text.split("\n")]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def read_text_file(path: Path, *, shown: str, relative: str, name: str) -> TextFile:
    """Read a whole UTF-8 file.

    Raises:
        DataError: If it cannot be read, is empty or is not UTF-8 (with line and byte).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown}: cannot be read: {error.strerror or error}.") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{shown}:{line}: found byte 0x{raw[error.start]:02x} at byte {error.start} of the file, expected UTF-8. "
            "Convert the file to UTF-8."
        ) from error
    text = text.removeprefix(BOM)
    if not text.strip():
        raise DataError(f"{shown}:1: the file is empty, expected at least one row. Fill it or take it off the index.")
    return TextFile(shown, relative, name, text, hashlib.sha256(raw).hexdigest())


def parse_json(text: str) -> Any:
    """Parse JSON; raise ValueError with a short reason, also for values that JSON does not have (NaN)."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("brackets nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
