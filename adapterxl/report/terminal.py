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
from adapterxl.report.formats import interval, percent, points, span, verdict
from adapterxl.report.model import Group, Row, Section
from adapterxl.report.notes import notes, uncertainty
from adapterxl.report.statistics import Estimate
from adapterxl.report.tables import read, sections


def to_table(scores: Sequence[Scores | str | Path], width: int | None = None) -> str:
    """Return the tables as text, as wide as the terminal, with bold and colour only if it is one.

    Raises:
        UsageError: If there are no scores, or two of the same run.
        DataError: If a scores file or its predictions cannot be read.
    """
    return draw(sections(read(scores)), width)


def draw(found: Sequence[Section], width: int | None = None) -> str:
    """Return these sections as text. Intervals are below the means; those of languages are in the other forms."""
    written = io.StringIO()
    console = Console(
        file=written,
        width=width or max(shutil.get_terminal_size((110, 24)).columns, 60),
        force_terminal=sys.stdout.isatty(),
        highlight=False,
    )
    for section in found:
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
    blank = [Text()] * (2 if detailed else 1)
    for row in group.rows:
        lead = [Text(f"{row.label} (source)" if row.kind == "source" else row.label)]
        lead += [Text(row.detail)] if detailed else []
        cells = [_cell(percent(cell), remark, place in row.best) for place, (cell, remark) in _numbered(row)]
        table.add_row(*lead, span(row.n), *cells, end_section=row is group.rows[-1])
    for row in group.summary:
        cells = [
            _cell(percent(cell), remark, place in row.best, interval(cell))
            for place, (cell, remark) in _numbered(row)
        ]  # fmt: skip
        table.add_row(Text(row.label), *blank, *cells)
    if group.gains.mean:
        cells = [Text()] * len(section.columns)
        for place, position in enumerate(group.gains.columns):
            cell, remark = group.gains.mean.cells[place], group.gains.mean.remarks[place]
            cells[position] = _cell(points(cell), remark, False, interval(cell, signed=True), _verdict(cell))
        table.add_row(Text("gain of the mean"), *blank, *cells)
    return table


def _numbered(row: Row) -> list[tuple[int, tuple[Estimate | None, str]]]:
    return list(enumerate(zip(row.cells, row.remarks, strict=True)))


def _verdict(cell: Estimate | None) -> str:
    return "" if cell is None or cell.shown is None else verdict(cell)


def _cell(value: str, remark: str, best: bool, *below: str) -> Text:
    text = Text(value, style="bold" if best else "")
    if remark:
        text.append(f" ({remark})", style="dim")
    for line in below:
        if line:
            text.append(f"\n{line}", style="dim")
    return text
