"""`adapterxl inspect`: what a module folder holds, without loading a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A module folder.")]) -> None:
    """Print a module's method, task, base, lineage and digests."""
    from adapterxl.artifacts import inspect as inspected

    for label, value in inspected(folder):
        typer.echo(f"{label}: {value}")
