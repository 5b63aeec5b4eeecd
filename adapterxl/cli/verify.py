"""`adapterxl verify`: is a folder whole, is it what its parents give, and does a vanilla library compute the same?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import options as opt
from adapterxl.errors import EngineError, UsageError


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A module folder.")],
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="peft|adapters", show_default="by layout", help="The library to compare with."
        ),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Walk the parents by digest, and make what operators made of them again."),
    ] = False,
    among: Annotated[
        list[Path] | None,
        typer.Option("--among", metavar="DIR", help="--deep: where parents are; by default beside DIR. Repeatable."),
    ] = None,
    trust_foreign: Annotated[
        bool,
        typer.Option(
            "--trust-foreign",
            help="DIR is a folder of peft or adapters: the same checks, but for the digests that it does not have.",
        ),
    ] = False,
    base: opt.Base = None,
    dtype: opt.Dtype = "fp32",
    device: opt.Device = "auto",
) -> None:
    """Check a folder: by a vanilla library's answers to the same rows, by its parents, or as a foreign one."""
    if against is not None:
        opt.one_of("--against", against, ("peft", "adapters"))
    if trust_foreign and (deep or against):
        raise UsageError("--trust-foreign: such a folder has no parents, and is not run; import it to compare answers.")
    if among and not deep:
        raise UsageError("--among: says where the parents are for --deep. Add --deep, or leave it out.")
    if deep and against:
        raise UsageError("--deep and --against are two checks; run verify once with each.")
    backbone = opt.backbone(base, dtype, device) if base or not deep else None
    if trust_foreign:
        from adapterxl.artifacts import import_folder

        assert backbone is not None
        module = import_folder(folder, on=backbone)
        typer.echo(f"passed: {len(module.parts)} part(s), {module.size():,} weights, all accounted for")
        for note in module.notes:
            typer.echo(f"note: {note}")
        return
    if deep:
        from adapterxl.operators.lineage import verify_deep

        for line in verify_deep(folder, among or (), backbone):
            typer.echo(f"passed: {line}")
        return

    from adapterxl.engines import verify as verified

    assert backbone is not None

    result = verified(folder, on=backbone, against=against)
    if not result.passed:
        raise EngineError(f"{folder}: not the same: {result.detail}.")
    typer.echo(f"passed: {result.detail}")
