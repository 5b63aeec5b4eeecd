"""`adapterxl verify`: does a vanilla library compute the same from this folder?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import options as opt
from adapterxl.errors import EngineError


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A module folder.")],
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="peft|adapters", show_default="by layout", help="The library to compare with."
        ),
    ] = None,
    base: opt.Base = None,
    dtype: opt.Dtype = "fp32",
    device: opt.Device = "auto",
) -> None:
    """Load a module folder with a vanilla library and compare its answers with ours on the same rows."""
    if against is not None:
        opt.one_of("--against", against, ("peft", "adapters"))
    backbone = opt.backbone(base, dtype, device)

    from adapterxl.engines import verify as verified

    result = verified(folder, on=backbone, against=against)
    if not result.passed:
        raise EngineError(f"{folder}: not the same: {result.detail}.")
    typer.echo(f"passed: {result.detail}")
