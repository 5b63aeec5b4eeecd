"""`adapterxl compose`: write a composition of modules as one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import options as opt
from adapterxl.console import say


def compose(
    expression: Annotated[
        str, typer.Argument(metavar="EXPR", help="""Such as "merge(out/nli, out/ner)"; quote paths that hold commas.""")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the result.")],
    base: opt.Base = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Shorten the result to this rank: svd(EXPR, rank=N).")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse modules that were not trained on top of each other in this order.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(metavar="MEMBER", help="The member, or the task, whose head the result takes along."),
    ] = None,
    name: Annotated[str | None, typer.Option(show_default="the operator", help="Name of the result.")] = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Compose trained modules into one that vanilla libraries load, where such a form exists."""
    from adapterxl.operators import compose as composed
    from adapterxl.operators import parse, svd

    wanted = parse(expression)
    if rank is not None:
        wanted = svd(wanted, rank=rank)
    module = composed(wanted, strict=strict, name=name, head=head)
    module.save(out, overwrite=overwrite, on=None if base is None else opt.backbone(base, "fp32", "cpu"))
    say(module.notes)
    typer.echo(f"saved: {out}")
