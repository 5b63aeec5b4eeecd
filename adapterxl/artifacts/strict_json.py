"""JSON from files that nobody vouches for: bounded, one meaning only, and no text that does something to a terminal."""

from __future__ import annotations

import json
import math
from typing import Any

from ..console import CONTROL
from ..errors import ArtifactError

MOST_DEPTH = 32


def parse(data: bytes, where: object, most: int) -> Any:
    """The value of a JSON file.

    Args:
        where: The file, for messages.
        most: Its largest size in bytes.

    Raises:
        ArtifactError: If it is larger, is no JSON of RFC 8259 in UTF-8, repeats a key (two readers would disagree),
            has a number beyond float64, a text that is no Unicode, or is nested deeper than MOST_DEPTH.
    """
    if len(data) > most:
        raise ArtifactError(f"{where}: found {len(data):,} bytes, expected {most:,} at most.")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refused, parse_float=_finite
        )
        _check_depth(value)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate
    except (ValueError, RecursionError) as error:  # UnicodeError and JSONDecodeError are ValueErrors
        kind = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ArtifactError(f"{where}: not readable as JSON ({kind[:100]}).") from error
    return value


def canonical(value: Any) -> bytes:
    """The one spelling of a value: sorted keys, no spaces, UTF-8, a newline at the end."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def short(value: object, most: int = 80) -> str:
    """A value in an error message: at most so many characters, none of them a control character."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = CONTROL.sub("?", text.encode("utf-8", "replace").decode())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def quoted(value: object, most: int = 80) -> str:
    """As `short`, with texts in quotation marks."""
    return short(json.dumps(value, ensure_ascii=False, default=str), most)


def check_text(value: Any, where: object, field: str = "") -> None:
    """Refuse texts, keys included, with characters that do something to a terminal.

    Raises:
        ArtifactError: With the file and the field.
    """
    if isinstance(value, str):
        if CONTROL.search(value):
            raise ArtifactError(f"{where}: {short(field, 60)}: found a control character in {short(value, 40)!r}.")
    elif isinstance(value, dict):
        for key, below in value.items():
            check_text(key, where, field or "a key")
            check_text(below, where, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            check_text(below, where, f"{field}.{index}")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise RecursionError
        level = [
            below
            for one in level
            if isinstance(one, dict | list)
            for below in (one.values() if isinstance(one, dict) else one)
        ]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {short(twice, 60)!r} is there twice")
    return found


def _refused(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond the range of float64")
    return value
