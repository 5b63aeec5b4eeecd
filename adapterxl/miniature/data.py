"""The miniature's tasks as files: one folder with an `adapterxl-data.yaml`, as a user's own data would be."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapterxl.durable import write_folder
from adapterxl.folders import cache_folder
from adapterxl.miniature.facts import ANIMALS, OBJECTS, PERSONS, Split
from adapterxl.miniature.grammar import Language
from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.puzzles import (
    Choice,
    Inference,
    Paraphrase,
    Question,
    choice,
    inference,
    paraphrase,
    question,
    sentence,
)
from adapterxl.miniature.text import Line
from adapterxl.miniature.world import COMPARED, EVERYTHING, PLACED, RELATIONS, World

INDEX_NAME = "adapterxl-data.yaml"  # as in data.schema, which stands above this package
VERSION = "1"  # of the world: it names the folder of the written files
_HOME = ("at", "lives", "works", "older")
_TOWN = ("at", "at", "at", "faster")


@dataclass(frozen=True)
class Source:
    """How a task's rows are made.

    Attributes:
        make: (world, relations, number) -> a puzzle.
        relations: What its statements are about.
        subjects: Persons and animals that occur.
        sizes: Rows per split; the train split and intermediate tasks are in English only.
        writer: How the rows of one language become a file.
        target: Test (and the English dev) rows in every language.
    """

    make: Callable[..., Any]
    relations: tuple[str, ...]
    subjects: tuple[str, ...]
    writer: str
    sizes: dict[Split, int]
    target: bool


_MANY: dict[Split, int] = {"train": 2_400, "dev": 300}
_FEW: dict[Split, int] = {"train": 600, "dev": 200, "test": 300}
_EVERYBODY = EVERYTHING
SOURCES = {
    "mini_nli": Source(inference, _HOME, PERSONS, "tsv", _MANY, False),
    "mini_paraphrase": Source(paraphrase, (*PLACED, *COMPARED, "gives"), _EVERYBODY, "csv", _MANY, False),
    "mini_qa": Source(question, (*PLACED, "has"), PERSONS, "squad", _MANY, False),
    "mini_choice": Source(choice, tuple(PLACED), PERSONS, "jsonl", _MANY, False),
    "mini_pos": Source(sentence, RELATIONS, _EVERYBODY, "conllu", _MANY, False),
    "mini_ner": Source(sentence, (*PLACED, "has", "sees"), _EVERYBODY, "iob", _MANY, False),
    "mini_xnli": Source(inference, _TOWN, ANIMALS + OBJECTS, "tsv", _FEW, True),
    "mini_xpos": Source(sentence, RELATIONS, _EVERYBODY, "conllu", _FEW, True),
    "mini_xner": Source(sentence, ("at", "lives", "works", "older", "gives", "loves"), _EVERYBODY, "iob", _FEW, True),
    "mini_xqa": Source(question, ("at", "has", "gives", "behind", "sees", "seeks"), _EVERYBODY, "squad", _FEW, True),
    "mini_bitext": Source(sentence, RELATIONS, _EVERYBODY, "bitext", {"test": 300}, True),
}


def write(folder: Path, names: Collection[str] = tuple(SOURCES)) -> Path:
    """Write tasks and their index into a folder; the same files for ever, on every machine.

    The index is written last: a folder with one is complete.
    """
    index: dict[str, Any] = {}
    for name in names:
        source = SOURCES[name]
        files: dict[str, dict[str, list[str]]] = {}
        seen: set[str] = set()
        for split in source.sizes:
            puzzles = list(_puzzles(name, source, split, seen))
            wanted = LANGUAGES if source.target and split == "test" else ["en"]
            if source.writer == "bitext":
                wanted = [code for code in LANGUAGES if code != "en"]
            for code in wanted:
                paths = []
                for suffix, content in _WRITERS[source.writer].files(puzzles, LANGUAGES[code]):
                    path = f"{name}/{split}.{code}{suffix}"
                    (folder / name).mkdir(parents=True, exist_ok=True)
                    (folder / path).write_text(content, encoding="utf-8", newline="")
                    paths.append(path)
                files.setdefault(split, {})[code] = paths
        index[name] = copy.deepcopy({**_WRITERS[source.writer].entry, **files})  # shared parts would become aliases
    text = yaml.safe_dump({"format": 1, "tasks": index}, sort_keys=False, allow_unicode=True)
    (folder / INDEX_NAME).write_text(
        f"# The tasks of the miniature world, version {VERSION}; written by adapterxl.\n{text}", encoding="utf-8"
    )
    return folder


def data_folder(name: str) -> Path:
    """The folder with a task's files and their index, written on first use below the user's cache.

    ADAPTERXL_CACHE names another cache. A folder that another process writes at the same time is never half seen:
    it appears whole.
    """
    folder = cache_folder() / f"miniature-{VERSION}" / name
    if not (folder / INDEX_NAME).is_file():
        with tempfile.TemporaryDirectory() as place:
            whole = write(Path(place) / name, [name])
            files = {
                path.relative_to(whole).as_posix(): path.read_bytes() for path in whole.rglob("*") if path.is_file()
            }

        def check() -> None:
            if (folder / INDEX_NAME).is_file():
                raise FileExistsError(folder)

        with suppress(FileExistsError):  # another process was first; the content is the same
            write_folder(folder, files, INDEX_NAME, check=check)
    return folder


def _puzzles(name: str, source: Source, split: Split, seen: set[str]) -> Iterator[Any]:
    """The puzzles of a split; none reads as an earlier one does, in whatever split.

    Different facts can give one text: "Who is in the garden?" asks for anybody.
    """
    files = _WRITERS[source.writer].files
    number = attempt = 0
    while number < source.sizes[split]:
        world = World(f"{VERSION} {name} {split} {attempt}", [split], source.subjects)
        attempt += 1
        puzzle = source.make(world, source.relations, number)
        if puzzle is None:
            continue
        key = hashlib.sha256(repr(list(files([puzzle], LANGUAGES["en"]))).encode()).hexdigest()
        if key not in seen:
            seen.add(key)
            number += 1
            yield puzzle


def _passage(lines: Sequence[Line], language: Language) -> str:
    return (" " if language.spaced else "").join(language.text(line.words(language)) for line in lines)


def _inferences(puzzles: Sequence[Inference], language: Language) -> Iterator[Sequence[str]]:
    for one in puzzles:
        yield _passage(one.premises, language), language.text(one.hypothesis.words(language)), one.label


def _paraphrases(puzzles: Sequence[Paraphrase], language: Language) -> Iterator[Sequence[str]]:
    for one in puzzles:
        first, second = (language.text(line.words(language)) for line in (one.first, one.second))
        yield first, second, "yes" if one.same else "no"


def _table(columns: Sequence[str], rows: Callable[..., Iterator[Sequence[str]]], delimiter: str) -> _Files:
    def files(puzzles: Sequence[Any], language: Language) -> Iterator[tuple[str, str]]:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows(puzzles, language))
        yield ".tsv" if delimiter == "\t" else ".csv", text.getvalue()

    return files


def _choices(puzzles: Sequence[Choice], language: Language) -> Iterator[tuple[str, str]]:
    lines = []
    for one in puzzles:
        answers = [language.span(line.words(language), one.slot)[0] for line in one.options]
        row = {
            "context": _passage(one.context, language),
            "question": language.text(one.question.words(language)),
            "choices": answers,
            "label": one.right,
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    yield ".jsonl", "\n".join(lines) + "\n"


def _questions(puzzles: Sequence[Question], language: Language) -> Iterator[tuple[str, str]]:
    paragraphs = []
    space = " " if language.spaced else ""
    for number, one in enumerate(puzzles):
        before = _passage(one.context[: one.line], language)
        answer, start = language.span(one.context[one.line].words(language), one.slot)
        start += len(before + space) if one.line else 0
        asked = {
            "id": str(number),
            "question": language.text(one.question.words(language)),
            "answers": [{"text": answer, "answer_start": start}],
        }
        paragraphs.append({"context": _passage(one.context, language), "qas": [asked]})
    data = {"version": "1.1", "data": [{"title": "miniature", "paragraphs": paragraphs}]}
    yield ".json", json.dumps(data, ensure_ascii=False) + "\n"


def _conllu(puzzles: Sequence[Line], language: Language) -> Iterator[tuple[str, str]]:
    blocks = []
    for line in puzzles:
        rows = enumerate(line.words(language), 1)
        blocks.append("".join(f"{n}\t{w.text}\t_\t{w.tag}" + "\t_" * 6 + "\n" for n, w in rows))
    yield ".conllu", "\n".join(blocks) + "\n"


def _iob(puzzles: Sequence[Line], language: Language) -> Iterator[tuple[str, str]]:
    blocks = ["".join(f"{w.text}\t{w.entity}\n" for w in line.words(language)) for line in puzzles]
    yield ".iob", "\n".join(blocks) + "\n"


def _bitext(puzzles: Sequence[Line], language: Language) -> Iterator[tuple[str, str]]:
    for code in (language.code, "en"):
        said = LANGUAGES[code]
        yield f".{code}", "".join(said.text(line.words(said)) + "\n" for line in puzzles)


_Files = Callable[[Sequence[Any], Language], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class _Writer:
    """How rows become the text of files, and what the index says of them."""

    files: _Files
    entry: dict[str, Any]


_PAIR = {"text": "premise", "text_pair": "hypothesis", "label": "label"}
_SAME = {"text": "sentence1", "text_pair": "sentence2", "label": "label"}
_ASKED = {"context": "context", "question": "question", "choices": "choices", "label": "label"}
_WRITERS = {
    "tsv": _Writer(
        _table(list(_PAIR.values()), _inferences, "\t"), {"reader": "tsv", "header": True, "columns": _PAIR}
    ),
    "csv": _Writer(_table(list(_SAME.values()), _paraphrases, ","), {"reader": "csv", "columns": _SAME}),
    "jsonl": _Writer(_choices, {"reader": "jsonl", "columns": _ASKED}),
    "squad": _Writer(_questions, {"reader": "squad"}),
    "conllu": _Writer(_conllu, {"reader": "conllu"}),
    "iob": _Writer(_iob, {"reader": "iob"}),
    "bitext": _Writer(_bitext, {"reader": "bitext"}),
}
