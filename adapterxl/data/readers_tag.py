"""Readers of one word a line: IOB files (token TAB tag) and CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterator

from adapterxl.data.rows import BadRow, Row, shown
from adapterxl.data.textfile import TextFile
from adapterxl.errors import DataError

_CONLLU_COLUMNS = {"upos": 3, "xpos": 4}
_NAMES = {"words": "word", "tags": "tag"}


def _blocks(file: TextFile) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number of the first line, lines) for each run of lines between blank ones."""
    block: list[str] = []
    start = 1
    for number, line in enumerate(file.lines(), 1):
        if line.strip(" "):
            if not block:
                start = number
            block.append(line)
        elif block:
            yield start, block
            block = []
    if block:
        yield start, block


def read_iob(file: TextFile) -> Iterator[Row | BadRow]:
    """Yield sentences of ``token TAB tag`` lines, separated by blank lines.

    A ``lang:`` at the start of every token of the file ("en:Paris", as in the original WikiANN) is taken off.
    """
    prefix = _language_prefix(file)
    for number, (start, block) in enumerate(_blocks(file), 1):
        pairs = [line.split("\t") for line in block]
        wrong = next((n for n, pair in enumerate(pairs) if len(pair) != 2), None)
        if wrong is not None:
            yield BadRow(
                f"{file.shown}:{start + wrong}",
                f"tag: found {len(pairs[wrong])} fields in {shown(block[wrong])}, expected token TAB tag.",
            )
            continue
        yield Row(
            f"{file.shown}:{start}",
            f"{file.name}:{number}",
            {"words": [pair[0][len(prefix) :] for pair in pairs], "tags": [pair[1] for pair in pairs]},
            _NAMES,
            file.shown,
            range(start, start + len(block)),
        )


def _language_prefix(file: TextFile) -> str:
    """Return "en:" if every token of the file starts with it and goes on after it, else an empty text."""
    tokens = (line.split("\t")[0] for _, block in _blocks(file) for line in block)
    code, colon, _ = next(tokens, "").partition(":")
    if not colon or not 2 <= len(code) <= 12 or not code.replace("-", "").isalpha() or not code.islower():
        return ""
    prefix = code + colon
    tokens = (line.split("\t")[0] for _, block in _blocks(file) for line in block)
    return prefix if all(token.startswith(prefix) and len(token) > len(prefix) for token in tokens) else ""


def read_conllu(file: TextFile, column: str) -> Iterator[Row | BadRow]:
    """Yield sentences of a CoNLL-U file; multiword ranges (1-2) and empty nodes (1.1) are left out.

    Args:
        column: "upos" or "xpos".
    """
    at = _CONLLU_COLUMNS[column]
    number = 0
    for start, block in _blocks(file):
        words: list[str] = []
        tags: list[str] = []
        lines: list[int] = []
        problem: BadRow | None = None
        for line_number, line in enumerate(block, start):
            if line.startswith("#"):
                continue
            fields = line.split("\t")
            where = f"{file.shown}:{line_number}"
            if len(fields) != 10:
                problem = BadRow(where, f"row: found {len(fields)} fields, expected 10 separated by tab.")
                break
            if "-" in fields[0] or "." in fields[0]:
                continue
            if fields[0] != str(len(words) + 1):
                problem = BadRow(where, f"id: found {shown(fields[0])}, expected {len(words) + 1}; a word is missing.")
                break
            words.append(fields[1])
            tags.append(fields[at])
            lines.append(line_number)
        if problem is None and not words:
            continue  # a block of comments
        number += 1
        yield problem or Row(
            f"{file.shown}:{start}",
            f"{file.name}:{number}",
            {"words": words, "tags": tags},
            {"words": "form", "tags": column},
            file.shown,
            lines,
        )
    if number == 0:
        raise DataError(f"{file.shown}:1: found no sentence, expected CoNLL-U.")
