"""Readers of one row a record: csv, tsv, jsonl, lines of text and pairs of aligned text files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapterxl.data.rows import BadRow, Row, is_blank, shown, value_at
from adapterxl.data.textfile import TextFile, parse_json
from adapterxl.errors import DataError, did_you_mean

Column = str | int
Columns = Mapping[str, Column | Sequence[Column]]


def read_csv(file: TextFile, columns: Columns, *, header: bool) -> Iterator[Row | BadRow]:
    """Yield the rows of an RFC 4180 file: comma, double quotes, fields of several lines."""
    reader = csv.reader(io.StringIO(file.text.rstrip("\r\n")), strict=True)

    def records() -> Iterator[tuple[int, list[str]]]:
        while True:
            line = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{file.shown}:{line}: {error}; expected RFC 4180. Check the double quotes of the row "
                    "that starts here (a quote inside a field is written twice)."
                ) from error
            yield line, fields

    yield from _table(file, records(), columns, header=header, separator="comma")


def read_tsv(file: TextFile, columns: Columns, *, header: bool) -> Iterator[Row | BadRow]:
    """Yield the rows of a tab-separated file; quotes have no meaning in it."""
    records = ((number, line.split("\t")) for number, line in enumerate(file.lines(), 1))
    yield from _table(file, records, columns, header=header, separator="tab")


def _table(
    file: TextFile,
    records: Iterator[tuple[int, list[str]]],
    columns: Columns,
    *,
    header: bool,
    separator: str,
) -> Iterator[Row | BadRow]:
    width: int | None = None
    where_header: list[str] = []
    if header:
        _, where_header = next(records)
        width = len(where_header)
        repeated = {name for name in where_header if where_header.count(name) > 1}
        if repeated:
            raise DataError(f"{file.shown}:1: column {shown(min(repeated))} occurs twice; rename one.")
    positions, names = _resolve(file, columns, where_header if header else None)
    number = 0
    for line, fields in records:
        number += 1
        where = f"{file.shown}:{line}"
        width = width or len(fields)
        if len(fields) != width:
            of = "the header" if header else "the first row"
            yield BadRow(
                where,
                f"row: found {len(fields)} fields, expected {width} as in {of}, separated by {separator}.",
            )
            continue
        if not header and number == 1:
            _check_width(file, positions, width, separator)
        values: dict[str, Any] = {
            role: fields[at] if isinstance(at, int) else [fields[n] for n in at] for role, at in positions.items()
        }
        values |= {role: values[role].split() for role in ("words", "tags") if role in values}
        yield Row(where, f"{file.name}:{number}", values, names, file.shown)
    if number == 0:
        raise DataError(f"{file.shown}:1: found a header and no row, expected at least one row.")


def _resolve(
    file: TextFile, columns: Columns, header: list[str] | None
) -> tuple[dict[str, int | list[int]], dict[str, str]]:
    """Return role -> position(s) in a row, and role -> name for messages."""
    names: dict[str, str] = {}

    def position(role: str, column: Column) -> int:
        names[role] = column if isinstance(column, str) else f"{role} (column {column})"
        if isinstance(column, int):
            if header is not None and column >= len(header):
                raise DataError(
                    f"{file.shown}:1: {role}: no column {column}, found {len(header)} columns counted from 0."
                )
            return column
        assert header is not None  # the index schema refuses names without a header
        if column not in header:
            raise DataError(
                f"{file.shown}:1: {role}: no column '{column}', found: {', '.join(header)}."
                f"{did_you_mean(column, header)}{_other_separator(header)} Mend columns.{role} in the YAML file."
            )
        return header.index(column)

    positions: dict[str, int | list[int]] = {}
    for role, column in columns.items():
        if isinstance(column, str | int):
            positions[role] = position(role, column)
        else:
            positions[role] = [position(f"{role}[{n}]", each) for n, each in enumerate(column)]
    return positions, names


def _other_separator(header: Sequence[str]) -> str:
    """Point out a header that is one cell because the file is separated otherwise."""
    if len(header) == 1:
        for sign, name, reader in ((",", "commas", "csv"), ("\t", "tabs", "tsv"), (";", "semicolons", "")):
            if sign in header[0]:
                use = f"use reader: {reader}" if reader else "save it with commas or tabs"
                return f" The columns look separated by {name}: {use}."
    return ""


def _check_width(file: TextFile, positions: Mapping[str, int | list[int]], width: int, separator: str) -> None:
    for role, at in positions.items():
        highest = at if isinstance(at, int) else max(at)
        if highest >= width:
            raise DataError(
                f"{file.shown}:1: {role}: no column {highest}, found {width} columns counted from 0, "
                f"separated by {separator}. Mend columns.{role} in the YAML file."
            )


def read_jsonl(file: TextFile, columns: Columns) -> Iterator[Row | BadRow]:
    """Yield the rows of a file with one JSON object a line."""
    names = {
        (role if isinstance(column, str) else f"{role}[{n}]"): each
        for role, column in columns.items()
        for n, each in enumerate([column] if isinstance(column, str) else _texts(column))
    }
    for number, line in enumerate(file.lines(), 1):
        where = f"{file.shown}:{number}"
        if not line.strip():
            yield BadRow(where, "row: found an empty line, expected a JSON object.")
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            yield BadRow(where, f"row: found no whole JSON object ({error}), expected one a line.")
            continue
        if not isinstance(record, dict):
            yield BadRow(where, f"row: found {shown(record)}, expected a JSON object.")
            continue
        try:
            values: dict[str, Any] = {
                role: value_at(record, column) if isinstance(column, str)
                else [value_at(record, each) for each in _texts(column)]
                for role, column in columns.items()
            }  # fmt: skip
        except KeyError as error:
            key, found = error.args
            hint = did_you_mean(key, found)
            yield BadRow(where, f"{key}: no such key, found: {', '.join(map(str, found)) or 'no object'}.{hint}")
            continue
        if "is_impossible" in record:
            values["is_impossible"] = record["is_impossible"]
        yield Row(where, f"{file.name}:{number}", values, names, file.shown)


def _texts(column: Column | Sequence[Column]) -> list[str]:
    return [str(each) for each in column] if not isinstance(column, str | int) else [str(column)]


def with_labels(rows: Iterator[Row | BadRow], labels: TextFile) -> Iterator[Row | BadRow]:
    """Add the label of each row from a file that holds one a line, in the same order."""
    lines = labels.lines()
    used = 0
    for used, row in enumerate(rows, 1):
        if used > len(lines):
            raise DataError(
                f"{labels.shown}:{len(lines)}: labels_file: found {len(lines)} labels and more rows; "
                "expected one label a row."
            )
        if isinstance(row, BadRow):
            yield row
            continue
        values = {**row.values, "label": lines[used - 1]}
        names = {**row.names, "label": f"label ({labels.shown}:{used})"}
        yield Row(row.where, row.id, values, names, row.path)
    if used != len(lines):
        raise DataError(
            f"{labels.shown}:{used + 1}: labels_file: found {len(lines)} labels for {used} rows, expected one a row."
        )


def read_lines(file: TextFile) -> Iterator[Row | BadRow]:
    """Yield the lines of a plain text; blank ones stand between paragraphs, and are none."""
    for number, line in enumerate(file.lines(), 1):
        if not is_blank(line):
            yield Row(f"{file.shown}:{number}", f"{file.name}:{number}", {"text": line}, path=file.shown)


def read_bitext(text: TextFile, english: TextFile) -> Iterator[Row | BadRow]:
    """Yield aligned lines of two files: a language and English."""
    left, right = text.lines(), english.lines()
    if len(left) != len(right):
        raise DataError(
            f"{text.shown}:{min(len(left), len(right)) + 1}: found {len(left)} lines, and {len(right)} in "
            f"{english.shown}; expected as many. Line i of both must be the same sentence."
        )
    for number, (first, second) in enumerate(zip(left, right, strict=True), 1):
        yield Row(
            f"{text.shown}:{number}",
            f"{text.name}:{number}",
            {"text": first, "english": second},
            {"english": f"english ({english.shown}:{number})"},
            text.shown,
        )
