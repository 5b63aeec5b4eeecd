"""Forty damaged files for each of the four families of tasks: one line with place, field, found and expected; or
dropped, counted and named."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from adapterxl.data.rows import MAX_CHARS
from adapterxl.errors import DataError

Row = dict[str, Any]

# Family -> task, columns of its jsonl, a good row, its text field, and what stands in the place of its label.
FAMILIES: dict[str, tuple[str, dict[str, Any], Callable[[], Row], str, str]] = {
    "classify": (
        "mnli", {"text": "p", "text_pair": "h", "label": "l"},
        lambda: {"p": "It rains.", "h": "It is wet.", "l": "neutral"}, "h", "l",
    ),
    "tag": (
        "panx", {"words": "w", "tags": "t"},
        lambda: {"w": ["In", "Rome"], "t": ["O", "B-LOC"]}, "w[1]", "t[1]",
    ),
    "span": (
        "squad", {"context": "c", "question": "q", "answers": "a"},
        lambda: {"c": "Rome is old.", "q": "How?", "a": [{"text": "old", "answer_start": 8}]}, "q", "a[0].answer_start",
    ),
    "choice": (
        "copa", {"context": "p", "question": "q", "choices": ["x", "y"], "label": "l"},
        lambda: {"p": "It rains.", "q": "effect", "x": "Wet.", "y": "Dry.", "l": 1}, "y", "l",
    ),
}  # fmt: skip

TEXTS: dict[str, Any] = {
    "empty": "", "spaces": " \t ", "wide space": "\u3000\u00a0", "zero-width space": "\u200b",
    "byte order mark": "\ufeff", "joiners": "\u200c\u200d\u2060", "null": None, "number": 3, "truth value": True,
    "fraction": 0.5, "list": ["a"], "object": {"a": 1}, "half a pair": "a\ud800", "other half": "\udc00",
    "too long": "a b " * (MAX_CHARS // 4) + "c", "one word of 10 MB": "a" * 10_000_000,
}  # fmt: skip
LABELS: dict[str, Any] = {
    "null": None, "-1": -1, "-100": -100, "one too high": 14, "huge": 10**30, "fraction": 1.0, "truth value": True,
    "list": [1], "object": {}, "unknown": "maybe", "empty text": "", "other case": "NEUTRAL",
    "space after it": "neutral ", "other digits": "\u0661",
}  # fmt: skip
LINES: dict[str, bytes] = {
    "cut": b'{"p": "It ra', "no object": b"[1, 2]", "a text": b'"row"', "NaN": b'{"p": NaN}',
    "deep": b"[" * 100_000, "two objects": b"{} {}", "single quotes": b"{'p': 'a'}", "empty": b"",
}  # fmt: skip
FILES: dict[str, bytes] = {
    "nothing": b"", "blank lines": b"\n\n", "zip": b"", "gzip": gzip.compress(b"{}"), "UTF-16": "{}".encode("utf-16"),
    "Latin-1": b'{"p": "\xe9t\xe9"}\n',
}  # fmt: skip
ALLOWED = {"zero-width space", "byte order mark", "joiners"}  # as single words: WikiANN has them
assert 40 <= len(TEXTS) + len(LABELS) + len(LINES) + len(FILES)


def changed(family: str, label: bool, value: Any) -> Row:
    """A good row with another text or label."""
    row = FAMILIES[family][2]()
    place: Any = row
    *way, last = re.findall(r"\w+", FAMILIES[family][4 if label else 3])
    for step in way:
        place = place[int(step) if step.isdigit() else step]
    place[int(last) if last.isdigit() else last] = value
    return row


def good(family: str) -> bytes:
    return json.dumps(FAMILIES[family][2]()).encode() + b"\n"


def read(load: Any, family: str, content: bytes, on_bad_row: str) -> Any:
    name, columns, *_ = FAMILIES[family]
    return load(name, {"reader": "jsonl", "columns": columns}, {"f": content}, on_bad_row)


def refused(load: Any, tmp_path: Any, family: str, content: bytes, place: str) -> None:
    """The file stops the reading with one line that names the place, and may be read without the row."""
    with pytest.raises(DataError) as caught:
        read(load, family, content, "stop")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path}/f:2: {place}: "), said
    assert "found" in said and "expected" in said and "\n" not in said and len(said) < 500
    loaded = read(load, family, content, "drop")
    assert (len(loaded.examples), len(loaded.dropped)) == (2, 1) and said.startswith(loaded.dropped[0])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("damage", TEXTS)
def test_a_bad_text_is_refused_or_dropped_by_name(load, tmp_path, family, damage):
    row = json.dumps(changed(family, False, TEXTS[damage])).encode() + b"\n"
    content = good(family) + row + good(family)
    if family == "tag" and damage in ALLOWED:
        assert len(read(load, family, content, "stop").examples) == 3
        return
    names = {"classify": "h", "tag": "w[1]", "span": "q", "choice": "y"}
    refused(load, tmp_path, family, content, names[family])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("damage", LABELS)
def test_a_bad_label_is_refused_or_dropped_by_name(load, tmp_path, family, damage):
    row = json.dumps(changed(family, True, LABELS[damage])).encode() + b"\n"
    names = {"classify": "l", "tag": "t[1]", "span": "answers[0].answer_start", "choice": "l"}
    refused(load, tmp_path, family, good(family) + row + good(family), names[family])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("damage", LINES)
def test_a_bad_line_is_refused_or_dropped_by_name(load, tmp_path, family, damage):
    refused(load, tmp_path, family, good(family) + LINES[damage] + b"\n" + good(family), "row")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("damage", FILES)
def test_a_bad_file_is_refused_however_rows_are_taken(load, tmp_path, family, damage):
    content = FILES[damage]
    if damage == "zip":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("bomb", b"\0" * 1_000_000)
        content = archive.getvalue()
    for on_bad_row in ("stop", "drop"):
        with pytest.raises(DataError) as caught:
            read(load, family, content, on_bad_row)
        said = str(caught.value)
        assert (
            re.match(rf"{re.escape(str(tmp_path))}/f:\d+: (found byte|the file is empty)", said) and "expected" in said
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_that_is_missing_is_named_with_those_that_are_there(load, tmp_path, family):
    for key in FAMILIES[family][2]():
        row = FAMILIES[family][2]()
        row[f"{key}2"] = row.pop(key)
        with pytest.raises(DataError, match=rf"/f:2: {key}: no such key, found: .*{key}2"):
            read(load, family, good(family) + json.dumps(row).encode(), "stop")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_id_that_stands_twice_is_refused_or_the_second_row_dropped(load, tmp_path, family):
    name, columns, make, *_ = FAMILIES[family]
    entry = {"reader": "jsonl", "columns": columns | {"id": "i"}}
    content = "".join(json.dumps(make() | {"i": number}) + "\n" for number in ("1", 1, "2"))
    with pytest.raises(DataError, match=r"/f:2: i: found '1' again \(first: .*/f:1\), expected once\."):
        load(name, entry, {"f": content})
    loaded = load(name, entry, {"f": content}, "drop")
    assert ([row.id for row in loaded.examples], len(loaded.dropped)) == (["1", "2"], 1)
