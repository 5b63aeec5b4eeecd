"""The tables of a report in the terminal."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapterxl.evaluation.scores import Scores
from adapterxl.report.formats import percent, points, span, spread
from adapterxl.report.notes import notes, uncertainty
from adapterxl.report.tables import Group, Row, Section, read, sections


def to_table(scores: Sequence[Scores | str | Path], width: int | None = None) -> str:
    """Return the tables as text, as wide as the terminal, with bold and colour only if it is one.

    Raises:
        UsageError: If there are no scores, or two of the same run.
        DataError: If a scores file cannot be read.
    """
    written = io.StringIO()
    console = Console(
        file=written,
        width=width or max(shutil.get_terminal_size((110, 24)).columns, 60),
        force_terminal=sys.stdout.isatty(),
        highlight=False,
    )
    for section in sections(read(scores)):
        for group in section.groups:
            console.print(_table(section, group))
        for note in [*notes(section), uncertainty(section)]:
            console.print(Text(note, style="dim"))
        console.print()
    return written.getvalue().rstrip("\n")


def _table(section: Section, group: Group) -> Table:
    title = f"{section.task} · {group.metric}, % · {section.split} · {section.base.name}"
    table = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("language", no_wrap=True)
    detailed = any(row.detail for row in group.rows)
    if detailed:
        table.add_column("", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for column in section.columns:
        table.add_column(Text(column.label), justify="right", overflow="fold")
    gains = {row.label: row for row in group.gains.rows}
    for row in group.rows:
        lead = [Text(f"{row.label} (source)" if row.kind == "source" else row.label)]
        lead += [Text(row.detail)] if detailed else []
        table.add_row(*lead, span(row.n), *map(_cell, *_columns(row)), end_section=row is group.rows[-1])
    for row in group.summary:
        blank = [Text()] * (2 if detailed else 1)
        table.add_row(Text(row.label), *blank, *map(_cell, *_columns(row)))
    if group.gains.columns:
        mean = gains["mean"]
        cells = [Text()] * len(section.columns)
        for place, position in enumerate(group.gains.columns):
            value = f"{points(mean.cells[place])} {spread(mean.cells[place])}".strip()
            cells[position] = _cell(value, mean.remarks[place], best=False)
        table.add_row(Text("gain of the mean"), *[Text()] * (2 if detailed else 1), *cells)
    return table


def _columns(row: Row) -> tuple[list[str], list[str], list[bool]]:
    values = [f"{percent(cell)} {spread(cell)}".strip() for cell in row.cells]
    return values, list(row.remarks), [position in row.best for position in range(len(values))]


def _cell(value: str, remark: str, best: bool) -> Text:
    text = Text(value, style="bold" if best else "")
    return text.append(f" ({remark})", style="dim") if remark else text
