"""The cache of prepared rows: the same items, made once, never half, and made again when anything changes."""

from __future__ import annotations

import ast
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from adapterxl.data import row_cache
from adapterxl.data.examples import ChoiceExample, ClassifyExample, Example, SpanExample, TagExample, TextExample
from adapterxl.data.items import Item, MappedItems, lengths_of
from adapterxl.errors import UsageError

prepare_module: Any = import_module("adapterxl.data.prepare")
prepare = prepare_module.prepare

TEXT = (
    "The quick brown fox jumps over the lazy dog. ",
    "我喜欢读书。他们住在北京。",
    "القطة تنام في البيت. ",
    "книгу ",
)


def examples(kind: str, count: int = 70) -> list[Example]:
    """More than two chunks, as `folder` cuts them, some texts long."""
    texts = [TEXT[n % 4] * (40 if n % 23 == 0 else 1 + n % 3) for n in range(count)]
    make: dict[str, Callable[[int, str], Example]] = {
        "classify": lambda n, text: ClassifyExample(str(n), "en", text, f"A dog {n}.", n % 3),
        "choice": lambda n, text: ChoiceExample(str(n), "en", text, "cause", ("A dog.", "A fox.", text[:9]), n % 3),
        "tag": lambda n, text: TagExample(str(n), "en", ("\u200b", *text.split()), tuple(range(1 + len(text.split())))),
        "span": lambda n, text: SpanExample(str(n), "en", text, "Who?" * (1 + n % 40), ((text[4:6], 4),) * (n % 2)),
        "mask": lambda n, text: TextExample(str(n), "en", text),
    }
    return [make[kind](n, text) for n, text in enumerate(texts)]


def alike(one: Item, other: Item) -> bool:
    """Equal in value and in type, down to the numbers."""
    mine, its = ([getattr(item, field.name) for field in fields(Item)[:-1]] for item in (one, other))
    if mine != its or repr(mine) != repr(its):
        return False
    if one.offsets is None or other.offsets is None:
        return one.offsets is other.offsets
    return one.offsets.dtype == other.offsets.dtype and np.array_equal(one.offsets, other.offsets)


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return AutoTokenizer.from_pretrained(request.getfixturevalue(request.param))


@pytest.fixture
def bert(tiny_bert: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, which keeps small sets too; chunks of 30 examples."""
    monkeypatch.setenv("ADAPTERXL_CACHE", str(tmp_path))
    monkeypatch.setattr(row_cache, "SMALL", 0)
    monkeypatch.setattr(row_cache, "_CHUNK", 30)
    monkeypatch.setattr(prepare_module, "_CHUNK", 30)
    return tmp_path / "prepared"


def kept(folder: Path) -> list[Path]:
    """The files that can be read."""
    return sorted(folder.glob("*.arrow"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call of a tokenizer was given, question marks aside."""
    counts: list[int] = []
    encode = prepare_module._encode

    def counting(tokenizer: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        counts.append(len(inputs))
        return encode(tokenizer, inputs, *rest, **options)

    monkeypatch.setattr(prepare_module, "_encode", counting)
    return counts


@pytest.mark.parametrize("kind", ["classify", "choice", "tag", "span", "mask"])
def test_items_are_the_same_with_and_without_the_cache_and_the_second_run_tokenises_nothing(
    kind: str, tokenizer: Any, folder: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = examples(kind)
    first = prepare(kind, given, tokenizer, 64)
    assert made
    made.clear()
    second = prepare(kind, given, tokenizer, 64)
    assert not made and len(kept(folder)) == 1
    monkeypatch.setenv(row_cache.LIMIT, "0")
    plain = prepare(kind, given, tokenizer, 64)
    assert made and isinstance(plain.items, tuple)
    for each in (first, second):
        assert isinstance(each.items, MappedItems) and len(each.items) == len(plain.items)
        assert all(map(alike, each.items, plain.items))
        assert all(alike(each.items[n], plain.items[n]) for n in (0, 29, 30, -1))
        assert lengths_of(each.items) == lengths_of(plain.items)
        assert replace(each, items=()) == replace(plain, items=())
    assert plain.truncated or plain.unlabelled or kind in ("tag", "mask")


def test_mapped_items_are_made_when_they_are_asked_for(bert: Any, folder: Path) -> None:
    items = prepare("classify", examples("classify"), bert, 64).items
    assert items[5] is not items[5] and [one.example for one in items[28:33:2]] == [28, 30, 32]
    for beyond in (70, -71):
        with pytest.raises(IndexError):
            items[beyond]


def test_small_sets_and_a_limit_of_zero_write_nothing(
    bert: Any, folder: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(row_cache.LIMIT, "0")
    prepare("classify", examples("classify", 20), bert, 64)
    monkeypatch.delenv(row_cache.LIMIT)
    monkeypatch.setattr(row_cache, "SMALL", 1_000_000)
    prepare("classify", examples("classify", 20), bert, 64)
    assert made == [20, 20] and not folder.exists()


def other_tokenizer(tokenizer: Any) -> None:
    tokenizer.add_tokens(["quick"])


def other_side(tokenizer: Any) -> None:
    tokenizer.truncation_side = "left"


@pytest.mark.parametrize("change", [other_tokenizer, other_side])
def test_another_tokenizer_prepares_again(
    change: Callable[[Any], None], bert: Any, folder: Path, made: list[int]
) -> None:
    given = examples("classify", 9)
    before = prepare("classify", given, bert, 16)
    change(bert)
    after = prepare("classify", given, bert, 16)
    assert made == [9, 9] and [*before.items] != [*after.items]
    bert("The dog.", truncation=True, max_length=4, padding="max_length")  # what calls ask for is not the tokenizer
    prepare("classify", given, bert, 16)
    assert made == [9, 9]


def test_another_text_label_order_or_length_prepares_again_and_another_id_does_not(
    bert: Any, folder: Path, made: list[int]
) -> None:
    given = examples("classify", 9)
    others = [
        given, given[::-1], given[:-1], [replace(given[0], label=1), *given[1:]],
        [replace(given[0], text_pair=None), *given[1:]], [replace(given[0], text=given[0].text + " "), *given[1:]],
    ]  # fmt: skip
    for one in others:
        prepare("classify", one, bert, 64)
    prepare("classify", given, bert, 63)
    assert made == [9, 9, 8, 9, 9, 9, 9]
    renamed = prepare("classify", [replace(one, id="x", language="de") for one in given], bert, 64)
    assert len(made) == 7 and renamed.examples[0].id == "x"


def test_an_edited_preparing_function_prepares_again(
    bert: Any, folder: Path, made: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = examples("classify", 9)
    prepare("classify", given, bert, 64)
    source = Path(prepare_module.__file__).read_text(encoding="utf-8")
    edited = source.replace("[encoding.ids]", "[encoding.ids[::-1]]", 1)
    assert edited != source
    (tmp_path / "edited.py").write_text(edited, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("adapterxl.data.edited", tmp_path / "edited.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "adapterxl.data.edited", module)
    spec.loader.exec_module(module)
    items = module.prepare("classify", given, bert, 64).items
    assert items[0].rows[0] == prepare("classify", given, bert, 64).items[0].rows[0][::-1]
    assert made == [9] and len(kept(folder)) == 2

    def other(chunk: Any, start: int, *_: Any) -> Any:  # written in this file
        return [Item(start + n, [[7]], [[0]], 0) for n in range(len(chunk))], 0, 0

    monkeypatch.setitem(prepare_module._MAKERS, "classify", other)
    assert prepare("classify", given, bert, 64).items[0].rows == [[7]]


def test_the_key_knows_the_source_of_all_that_prepares() -> None:
    """What prepare.py imports from beside it, other than the cache, which makes no item."""
    tree = ast.parse(Path(prepare_module.__file__).read_text(encoding="utf-8"))
    beside = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}
    assert beside == {"examples", "items", "masking", "row_cache"}
    named = [prepare, ClassifyExample, Item, prepare_module.Masking]
    assert {one.__module__.rpartition(".")[2] for one in named} == beside - {"row_cache"} | {"prepare"}
    assert prepare_module._SOURCE == row_cache.source_digest(*named)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_file_is_made_again_with_one_line(
    damage: str, bert: Any, folder: Path, made: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    given = examples("classify", 9)
    whole = [*prepare("classify", given, bert, 64).items]
    (path,) = kept(folder)
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    path.write_bytes({"flip": bytes(changed), "cut": content[:-100], "empty": b""}[damage])
    assert [*prepare("classify", given, bert, 64).items] == whole and made == [9, 9]
    assert capsys.readouterr().err.splitlines() == [f"note: prepared rows: {path} is damaged; they are prepared anew."]
    assert path.read_bytes() == content and kept(folder) == [path]


WRITER = """
import os, signal, sys, time
from adapterxl.data import row_cache
from adapterxl.data.items import Item

what = sys.argv[1]

def chunks():
    print("made", flush=True)
    for start in range(0, 4000, 1000):
        if start == 2000 and what == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "shares":
            time.sleep(0.1)
        yield [Item(start + n, [[start + n] * 9], [[0] * 9], n) for n in range(1000)], 1, 0

row_cache.row_key = lambda *_, **__: "key"
cache = row_cache.RowCache()
for number in range(8 if what == "clears" else 1):
    rows = cache.rows("classify", [], None, chunks)
    if rows is None:  # cleared by the other one just as it was whole
        assert what == "clears"
        continue
    if what == "clears":
        for path in cache.folder.glob("*.arrow"):
            path.unlink(missing_ok=True)
    assert len(rows.items) == 4000 and rows.items[3999].rows == [[3999] * 9] and rows.truncated == 4
"""


def writers(folder: Path, what: str, count: int) -> list[tuple[int, str]]:
    """Exit code and output of processes that run at the same time."""
    command, env = [sys.executable, "-c", WRITER, what], {**os.environ, "ADAPTERXL_CACHE": str(folder.parent)}
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [(each.wait(), each.communicate()[0]) for each in started]


def test_a_killed_writer_leaves_nothing_that_is_read_and_what_it_left_is_cleared_later(folder: Path) -> None:
    assert writers(folder, "dies", 1) == [(-signal.SIGKILL, "made\n")]
    assert any(path.name.startswith(".key.arrow.tmp") for path in folder.iterdir()) and not kept(folder)
    assert row_cache.RowCache().find("key", "classify") is None
    chunk = ([Item(0, [[1]], [[0]], 0)], 0, 0)
    row_cache.RowCache().write("other", "classify", [chunk])
    assert {path.name for path in folder.iterdir()} == {".held", "other.arrow"}


def test_of_processes_that_want_the_same_rows_one_makes_them_and_a_folder_may_be_cleared_at_any_time(
    folder: Path,
) -> None:
    found = writers(folder, "shares", 2)
    assert [code for code, _ in found] == [0, 0] and "".join(said for _, said in found) == "made\n"
    assert [code for code, _ in writers(folder, "clears", 2)] == [0, 0]


def test_files_unused_for_longest_give_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def keep(name: str, time: int) -> Path:
        cache.write(name, "classify", [([Item(0, [[1] * 50_000], [[0] * 50_000], 0)], 0, 0)])
        path = folder / f"{name}.arrow"
        os.utime(path, (time, time))
        return path

    cache = row_cache.RowCache()
    old, used = keep("old", 1), keep("used", 2)
    assert cache.find("old", "classify") is not None and old.stat().st_mtime > 1000
    monkeypatch.setenv(row_cache.LIMIT, str(2.5 * used.stat().st_size / 1e9))
    cache = row_cache.RowCache(aloud=True)
    fresh = keep("fresh", 3)
    assert kept(folder) == sorted([old, fresh])
    said = capsys.readouterr().err
    assert f"1 are kept in {fresh}, 0.000252 GB (all together at most 0.00063 GB, set by {row_cache.LIMIT})" in said
    assert f"{used.name} gives way" in said
    monkeypatch.setenv(row_cache.LIMIT, "1e-9")
    cache = row_cache.RowCache()
    assert cache.find("old", "classify") is not None  # what is there is used, whatever the limit
    large = keep("large", 4)
    assert kept(folder) == [large]  # and what is in use stays, however large


@pytest.mark.parametrize("text", ["-1", "much", "nan"])
def test_a_limit_that_is_no_number_is_refused(text: str, bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(row_cache.LIMIT, text)
    with pytest.raises(UsageError, match=f"ADAPTERXL_PREPARED_LIMIT: found '{text}', expected GB from 0"):
        prepare("classify", examples("classify", 9), bert, 64)


def test_a_folder_that_cannot_be_used_is_said_and_the_rows_are_made_all_the_same(
    bert: Any, folder: Path, made: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_text("a file in the way")
    items = prepare("classify", examples("classify", 9), bert, 64).items
    assert len(items) == 9 and made == [9]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: prepared rows are not kept: {folder} cannot be used (")
