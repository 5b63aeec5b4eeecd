"""Options that push, pull and search share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adapterxl.hub import Patience

Hub = Annotated[
    Path | None,
    typer.Option("--hub", metavar="DIR", show_default="the Hugging Face hub, or HF_ENDPOINT",
                 help="A folder that serves as hub: REPO is a folder below it."),
]  # fmt: skip
Deadline = Annotated[float, typer.Option(metavar="SECONDS", help="For everything together.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="Without a byte, before a try is given up.")]
Tries = Annotated[int, typer.Option(metavar="N", help="Of one request, with growing waits between them.")]


def patience(deadline: float, timeout: float, tries: int) -> Patience:
    """The settings of the options."""
    from adapterxl.hub import Patience

    return Patience(deadline=deadline, timeout=timeout, attempts=tries)
