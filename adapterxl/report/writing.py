"""Write a report: a page or a Markdown file by its name, and the numbers beside it as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapterxl.errors import UsageError
from adapterxl.evaluation.scores import Scores, write_whole
from adapterxl.report import html, markdown
from adapterxl.report.attention import shares_csv
from adapterxl.report.listing import records_csv, results_csv
from adapterxl.report.model import Section
from adapterxl.report.overview import overviews
from adapterxl.report.tables import read, sections

_FORMS = {".html": html.render, ".htm": html.render, ".md": markdown.render}


def report(scores: Sequence[Scores | str | Path], out: str | Path, title: str | None = None) -> Path:
    """Write a report, and its numbers beside it: ``<stem>.csv`` and, as measured, ``<stem>.records.csv``;
    of fusions also ``<stem>.attention.csv``.

    Args:
        scores: Files written by `evaluate`, or `Scores` themselves. Intervals over test examples need the
            predictions beside the files.
        out: A name ending in ``.html`` or ``.htm`` for a page that holds all it shows, in ``.md`` for Markdown.
        title: Heading; made from the tasks if not given.

    Returns:
        The path of the report.

    Raises:
        UsageError: If there are no scores, two of the same run, or `out` cannot be written.
        DataError: If a scores file or its predictions cannot be read.
    """
    check_name(Path(out))
    return write(sections(read(scores)), Path(out), title)


def check_name(out: Path) -> None:
    """Refuse a name that tells no form, before anything is read."""
    if out.suffix not in _FORMS:
        raise UsageError(
            f"{out}: found the ending '{out.suffix}', expected .html or .htm for a page or .md for Markdown, "
            "such as report.html"
        )


def write(found: Sequence[Section], out: Path, title: str | None = None) -> Path:
    """Write these sections to `out`, whose name tells the form."""
    text = _FORMS[out.suffix](found, title)
    write_whole(out.with_suffix(".csv"), [results_csv(found, overviews(found))])
    write_whole(out.with_suffix(".records.csv"), [records_csv(found)])
    if listened := shares_csv(found):
        write_whole(out.with_suffix(".attention.csv"), [listened])
    write_whole(out, [text])
    return out
