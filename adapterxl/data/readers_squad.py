"""Reader of SQuAD JSON: articles, paragraphs, questions and answers with start characters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from adapterxl.data.rows import BadRow, Row, shown
from adapterxl.data.textfile import TextFile, parse_json
from adapterxl.errors import DataError


def read_squad(file: TextFile) -> Iterator[Row | BadRow]:
    """Yield the questions of a SQuAD v1.1 or v2.0 file.

    Ids that repeat inside the file (as in TyDiQA) make all of its ids unusable as keys: every question is
    then numbered ``<file>:<n>`` instead.
    """
    rows = list(_questions(file, _data(file)))
    if not rows:
        raise DataError(f"{file.shown}: data: found no question, expected at least one.")
    ids = Counter(str(row.values["id"]) for row in rows if isinstance(row, Row))
    repeated = any(count > 1 for count in ids.values())
    for number, row in enumerate(rows, 1):
        if repeated and isinstance(row, Row):
            yield replace(row, values={**row.values, "id": f"{file.name}:{number}"})
        else:
            yield row


def _data(file: TextFile) -> list[Any]:
    try:
        document = parse_json(file.text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file.shown}:{error.lineno}: the JSON breaks off or is damaged at column {error.colno} "
            f"({error.msg}). Get the file again."
        ) from error
    except ValueError as error:
        raise DataError(f"{file.shown}:1: no JSON that can be read: {error}.") from error
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        found = ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        raise DataError(f"{file.shown}:1: data: found {shown(found)}, expected SQuAD JSON: a list 'data'.")
    return document["data"]


def _questions(file: TextFile, data: list[Any]) -> Iterator[Row | BadRow]:
    for i, article in enumerate(data):
        for j, paragraph in enumerate(_items(file, article, "paragraphs", f"data[{i}]")):
            place = f"data[{i}].paragraphs[{j}]"
            for k, question in enumerate(_items(file, paragraph, "qas", place)):
                where = f"{file.shown}: {place}.qas[{k}]"
                if not isinstance(question, Mapping):
                    yield BadRow(where, f"found {shown(question)}, expected an object.")
                    continue
                missing = [key for key in ("id", "question", "answers") if key not in question]
                if missing:
                    yield BadRow(where, f"{missing[0]}: no such key, found: {', '.join(map(str, question))}.")
                    continue
                values = {key: question[key] for key in ("id", "question", "answers")}
                values["context"] = paragraph.get("context")
                values["is_impossible"] = question.get("is_impossible")
                values["sentence_breaks"] = paragraph.get("sentence_breaks")
                yield Row(where, "", values, path=file.shown)


def _items(file: TextFile, holder: Any, key: str, place: str) -> list[Any]:
    if not isinstance(holder, Mapping) or not isinstance(holder.get(key), list):
        raise DataError(f"{file.shown}: {place}.{key}: found {shown(holder)}, expected an object with a list '{key}'.")
    return holder[key]
