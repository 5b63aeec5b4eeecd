"""Made-up headers, configs and manifests: nothing escapes our errors, and what is taken means one thing only.

The second opinion is a parser of this file, written from the format's description, byte by byte and without json.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from adapterxl.artifacts import strict_json
from adapterxl.artifacts.check import check_files
from adapterxl.artifacts.header import check_finite, read_header
from adapterxl.artifacts.manifest import parse_manifest, seal
from adapterxl.artifacts.strict_json import canonical
from adapterxl.errors import ArtifactError

SIZES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
HUB_CARD = Path(__file__).parents[2] / "hub_cards/mini-ner-bottleneck"


# --- the second opinion: JSON and safetensors in pure Python


class Json:
    """JSON of RFC 8259 by recursive descent. Raises ValueError for anything else, and for a key that comes twice."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def whole(self) -> Any:
        value = self.value()
        self.space()
        if self.at != len(self.text):
            raise ValueError
        return value

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\n\r":
            self.at += 1

    def take(self, token: str) -> bool:
        self.space()
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def value(self) -> Any:
        for token, constant in (("true", True), ("false", False), ("null", None)):
            if self.take(token):
                return constant
        if self.take("{"):
            return self.pairs()
        if self.take("["):
            found: list[Any] = []
            if self.take("]"):
                return found
            while True:
                found.append(self.value())
                if self.take("]"):
                    return found
                if not self.take(","):
                    raise ValueError
        if self.take('"'):
            return self.string()
        return self.number()

    def pairs(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.take("}"):
            return found
        while True:
            if not self.take('"'):
                raise ValueError
            key = self.string()
            if key in found or not self.take(":"):
                raise ValueError
            found[key] = self.value()
            if self.take("}"):
                return found
            if not self.take(","):
                raise ValueError

    def string(self) -> str:
        units: list[str] = []
        while True:
            if self.at >= len(self.text):
                raise ValueError
            character = self.text[self.at]
            self.at += 1
            if character == '"':
                break
            if character < " ":
                raise ValueError
            if character != "\\":
                units.append(character)
                continue
            escape = self.text[self.at : self.at + 1]
            self.at += 1
            if escape == "u":
                digits = self.text[self.at : self.at + 4]
                if len(digits) != 4 or any(d not in "0123456789abcdefABCDEF" for d in digits):
                    raise ValueError
                self.at += 4
                units.append(chr(int(digits, 16)))
            elif escape and escape in '"\\/bfnrt':
                units.append(dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))[escape])
            else:
                raise ValueError
        return "".join(units).encode("utf-16", "surrogatepass").decode("utf-16")  # pairs become one; a lone one fails

    def number(self) -> int | float:
        start = self.at
        whole = True
        if self.text[self.at : self.at + 1] == "-":
            self.at += 1
        first = self.text[self.at : self.at + 1]
        self.digits()
        if first == "0" and self.at - start > 1 + (self.text[start] == "-"):
            raise ValueError
        if self.text[self.at : self.at + 1] == ".":
            whole, self.at = False, self.at + 1
            self.digits()
        if self.text[self.at : self.at + 1] in ("e", "E"):
            whole, self.at = False, self.at + 1
            if self.text[self.at : self.at + 1] in ("+", "-"):
                self.at += 1
            self.digits()
        if whole:
            return int(self.text[start : self.at])
        value = float(self.text[start : self.at])
        if not math.isfinite(value):
            raise ValueError
        return value

    def digits(self) -> None:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in "0123456789":
            self.at += 1
        if self.at == start:
            raise ValueError


def same(one: Any, other: Any) -> bool:
    """Equal, type for type."""
    return repr(_ordered(one)) == repr(_ordered(other))


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(one) for one in value] if isinstance(value, list) else value


def safetensors(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Name -> dtype, shape, bytes. Raises ValueError (or KeyError, TypeError) for what is not exactly that."""
    (size,) = struct.unpack("<Q", data[:8])
    header = Json(data[8 : 8 + size].decode("utf-8")).whole()
    if len(data) < 8 + size:
        raise ValueError
    header.pop("__metadata__", None)
    found, used = {}, bytearray(len(data) - 8 - size)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if math.prod(entry["shape"]) * SIZES[entry["dtype"]] != end - begin or set(used[begin:end]) - {0}:
            raise ValueError
        used[begin:end] = b"\1" * (end - begin)
        content = data[8 + size + begin : 8 + size + end]
        width, code = SIZES[entry["dtype"]], {"F16": "e", "F32": "f", "F64": "d"}.get(entry["dtype"])
        raw = content if code else b"".join(b"\0\0" + content[i : i + 2] for i in range(0, len(content), 2))
        values = struct.unpack(f"<{(end - begin) // width}{code or 'f'}", raw)
        if not all(map(math.isfinite, values)):
            raise ValueError
        found[name] = entry["dtype"], tuple(entry["shape"]), content
    if set(used) - {1}:
        raise ValueError
    return found


# --- what is made up


names = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["a", "b", "__metadata__", "x.weight"])
numbers = st.integers(-2, 40) | st.floats() | st.booleans() | st.sampled_from([1 << 62, 1e308, -0.0])
values = st.recursive(
    st.none() | numbers | names,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(names, below, max_size=4),
    max_leaves=12,
)


@st.composite
def tensor_files(draw: st.DrawFn) -> bytes:
    """A file of a few tensors, and then perhaps one thing wrong with it."""
    header: dict[str, Any] = {}
    payload = b""
    for name in draw(st.lists(names.filter(lambda n: n != "__metadata__"), max_size=3, unique=True)):
        dtype = draw(st.sampled_from(sorted(SIZES)))
        shape = draw(st.lists(st.integers(1, 3), max_size=3))
        size = math.prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(payload), len(payload) + size]}
        payload += (draw(st.binary(min_size=1, max_size=8)) * size)[:size]
    fault = draw(st.integers(0, 5))
    if fault == 1 and header:
        entry = header[draw(st.sampled_from(sorted(header)))]
        entry[draw(st.sampled_from([*entry, "more"]))] = draw(values)
    elif fault == 2:
        header[draw(names)] = draw(values)
    text = json.dumps(header, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    data = len(text).to_bytes(8, "little") + text + payload
    return _hurt(draw, data) if fault in (3, 4) else data


def _hurt(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes changed, put in, taken out or repeated at a place."""
    place = draw(st.integers(0, len(data)))
    piece = draw(st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"}", b",", b"[", b"0", b"NaN", b"\\ud800"]))
    return data[:place] + piece + data[place + draw(st.integers(0, 4)) :]


@st.composite
def json_files(draw: st.DrawFn) -> bytes:
    data = json.dumps(draw(values), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return _hurt(draw, data) if draw(st.booleans()) else data


FILES = {
    path.name: path.read_bytes() for path in HUB_CARD.iterdir() if path.name not in ("README.md", "adapterxl.json")
}
MANIFEST = json.loads((HUB_CARD / "adapterxl.json").read_text(encoding="utf-8"))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in below for place in _places(one, (*path, key)))]


PLACES = [place for place in _places(MANIFEST) if place]


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """A good manifest with a value replaced or taken out, of format 1 or sealed as 2, and perhaps its bytes hurt."""
    content = json.loads(json.dumps(MANIFEST))
    for place in draw(st.lists(st.sampled_from(PLACES), max_size=2)):
        at = content
        try:
            for step in place[:-1]:
                at = at[step]
            if draw(st.booleans()):
                at[place[-1]] = draw(values)
            else:
                del at[place[-1]]
        except (KeyError, IndexError, TypeError):  # the place went with the one before
            continue
    if draw(st.booleans()):
        content["format"] = 2
    try:
        data = canonical(seal(content) if content.get("format") == 2 else content)
    except UnicodeEncodeError:
        data = json.dumps(content).encode()
    return _hurt(draw, data) if draw(st.booleans()) else data


# --- the two oracles


def header_case(data: bytes) -> None:
    try:
        header = read_header(data, "f")
        check_finite(data, header, "f")
    except ArtifactError as error:
        assert "\n" not in str(error)
        return
    assert {n: (t.dtype, t.shape, data[t.begin : t.end]) for n, t in header.items()} == safetensors(data)


def json_case(data: bytes) -> None:
    try:
        found = strict_json.parse(data, "f", 1 << 16)
    except ArtifactError as error:
        assert "\n" not in str(error)
        return
    assert same(found, Json(data.decode("utf-8")).whole())


def manifest_case(data: bytes) -> None:
    try:
        found = parse_manifest(data, "f")
        check_files(data, set(FILES), lambda name, most, size: FILES[name], HUB_CARD)
    except ArtifactError as error:
        assert "\n" not in str(error)
        return
    content = Json(data.decode("utf-8")).whole()
    again = json.loads(found.model_dump_json())
    for field, value in content.items():
        if not field.startswith("x_"):
            assert _holds(again[field], value), field


def _holds(again: Any, value: Any) -> bool:
    """What was read has all that the file says; defaults may be more."""
    if isinstance(value, dict):
        return all(key in again and _holds(again[key], one) for key, one in value.items())
    if isinstance(value, list):
        return len(again) == len(value) and all(_holds(a, b) for a, b in zip(again, value, strict=True))
    return same(again, value)


KINDS = {
    "header": (tensor_files(), header_case),
    "json": (json_files(), json_case),
    "manifest": (manifests(), manifest_case),
}
QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def run(kind: str, count: int) -> None:
    strategy, case = KINDS[kind]
    settings(max_examples=count, **QUIET)(seed(7)(given(strategy)(case)))()  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "count"), [("header", 400), ("json", 1_000), ("manifest", 600)])
def test_nothing_escapes_and_what_is_taken_means_one_thing(kind: str, count: int) -> None:
    run(kind, count)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("header", 8_000), ("json", 8_000), ("manifest", 4_000)])
def test_twenty_thousand_cases(kind: str, count: int) -> None:
    run(kind, count)


def test_the_second_opinion_reads_what_was_written() -> None:
    for path in sorted(HUB_CARD.glob("*")):
        if path.suffix == ".json":
            assert same(Json(path.read_text(encoding="utf-8")).whole(), json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".safetensors":
            data = path.read_bytes()
            assert safetensors(data).keys() == read_header(data, path).keys()
    for text in ("01", "1.", ".5", "+1", "[1,]", '{"a":1,"a":2}', '"\\x"', '"\\ud800"', "1e999", "NaN", "tru"):
        with pytest.raises(ValueError):
            Json(text).whole()
