"""`adapterxl report`: compare scores of several modules, language by language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    scores: Annotated[list[Path], typer.Argument(metavar="SCORES...", help="scores.json of each run to compare.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The report: .html for a page, .md for Markdown.")
    ] = Path("report.html"),
) -> None:
    """Write a page (or Markdown) with tables and plots per language, the numbers as CSV, and print the table."""
    from adapterxl.report import tables, terminal, writing

    writing.check_name(out)
    found = tables.sections(tables.read(scores))  # once for both: it resamples all test examples
    page = writing.write(found, out)
    typer.echo(terminal.draw(found))
    typer.echo(f"saved: {page}")
