"""Readers of files for retrieval: BUCC's numbered sentences with gold pairs, Mewsli-X's mentions and entities."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapterxl.data.rows import BadRow, Row, shown
from adapterxl.data.textfile import TextFile, parse_json
from adapterxl.errors import DataError


def read_bucc(text: TextFile, english: TextFile, gold: TextFile) -> Iterator[Row | BadRow]:
    """Yield the sentences of both sides: those with `right`, and then the English ones to be found.

    Each line is an id, a tab and a sentence; of the gold pairs two ids and a tab between them.
    """
    targets = {line.partition("\t")[0] for line in english.lines()}
    sources = {line.partition("\t")[0] for line in text.lines()}
    right: dict[str, list[str]] = {}
    for number, line in enumerate(gold.lines(), 1):
        where = f"{gold.shown}:{number}"
        source, tab, target = line.partition("\t")
        if not tab or "\t" in target:
            yield BadRow(where, f"pair: found {shown(line)}, expected two ids with one tab between them.")
        elif source not in sources or target not in targets:
            file, missing = (text, source) if source not in sources else (english, target)
            yield BadRow(where, f"pair: found {shown(missing)}, expected an id of {file.shown}.")
        else:
            right.setdefault(source, []).append(target)
    if not right:
        raise DataError(f"{gold.shown}:1: pair: found none that can be used, expected at least one.")
    for file in (text, english):
        for number, line in enumerate(file.lines(), 1):
            where = f"{file.shown}:{number}"
            name, tab, sentence = line.partition("\t")
            if not tab:
                yield BadRow(where, f"row: found {shown(line)}, expected an id, a tab and a sentence.")
                continue
            values: dict[str, Any] = {"id": name, "text": sentence}
            yield Row(where, "", values | ({"right": right.get(name, [])} if file is text else {}), path=file.shown)


def read_mentions(file: TextFile, language: str) -> Iterator[Row | BadRow]:
    """Yield the mentions of one language: each with the sentence around it, and its entity as `right`.

    The text is the mention, a colon, and the sentence with the mention in braces: so the mention is not cut off, and is
    marked. Braces of the sentence itself become parentheses.

    Source: the form of Mewsli-X's own baseline (Ruder et al. 2021).
    """
    for where, record in _objects(file):
        if isinstance(record, BadRow):
            yield record
            continue
        context, mentions = record.get("context"), record.get("mentions")
        if not isinstance(context, Mapping) or not isinstance(mentions, list):
            yield BadRow(where, f"row: found keys {shown(list(record))}, expected context and mentions.")
            continue
        if context.get("language") != language:
            continue
        for n, mention in enumerate(mentions):
            place = f"mentions[{n}]"
            try:
                start, end, entity = (
                    mention["mention_span"]["start"],
                    mention["mention_span"]["end"],
                    mention["entity_id"],
                )
                text = _marked(context["text"], context["sentence_spans"], start, end)
                values = {"id": mention["example_id"], "text": text, "right": [entity]}
            except (KeyError, TypeError, ValueError) as error:
                problem = f"no such key: {error}" if isinstance(error, KeyError) else str(error)
                yield BadRow(where, f"{place}: found {problem}; expected example_id, entity_id and mention_span.")
                continue
            yield Row(where, "", values, {"right": f"{place}.entity_id", "id": f"{place}.example_id"}, file.shown)


def _marked(text: str, sentences: list[Mapping[str, int]], start: int, end: int) -> str:
    if not isinstance(text, str) or not 0 <= start < end <= len(text):
        raise ValueError(
            f"mention_span {start} to {end} of a text with {len(text)} characters (is the text filled in?)"
        )
    first, last = next(
        ((s["start"], s["end"]) for s in sentences if s["start"] <= start and end <= s["end"]), (start, end)
    )
    left, mention, right = text[first:start], text[start:end], text[end:last]
    left, right = (re.sub(r"\{(.*?)\}", r"(\1)", side) for side in (left, right))
    return _one_line(f"{mention}: {left} {{ {mention} }} {right}")


def read_entities(file: TextFile) -> Iterator[Row | BadRow]:
    """Yield entities: the id, the description, and the language that it is in."""
    for where, record in _objects(file):
        if isinstance(record, BadRow):
            yield record
            continue
        missing = [key for key in ("entity_id", "description", "description_language") if key not in record]
        if missing:
            yield BadRow(where, f"{missing[0]}: no such key, found: {', '.join(map(str, record))}.")
            continue
        text = record["description"]
        values = {
            "id": record["entity_id"], "text": _one_line(text) if isinstance(text, str) else text,
            "language": record["description_language"],
        }  # fmt: skip
        yield Row(
            where,
            "",
            values,
            {"id": "entity_id", "text": "description", "language": "description_language"},
            file.shown,
        )


def _objects(file: TextFile) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(file.lines(), 1):
        where = f"{file.shown}:{number}"
        try:
            record = parse_json(line)
        except ValueError as error:
            record = BadRow(where, f"row: found no whole JSON object ({error}), expected one a line.")
        if not isinstance(record, Mapping | BadRow):
            record = BadRow(where, f"row: found {shown(record)}, expected a JSON object.")
        yield where, record


def _one_line(text: str) -> str:
    return " ".join(text.split())
