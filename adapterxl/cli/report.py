"""`adapterxl report`: compare scores of several modules, language by language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    scores: Annotated[list[Path], typer.Argument(metavar="SCORES...", help="scores.json of each run to compare.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page.")] = Path("report.html"),
) -> None:
    """Write an HTML page with tables and plots per language, and print the table."""
    from adapterxl.report import report as reported
    from adapterxl.report import to_table

    page = reported(scores, out)
    typer.echo(to_table(scores))
    typer.echo(f"saved: {page}")
