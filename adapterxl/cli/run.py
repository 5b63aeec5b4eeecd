"""`adapterxl run`: a whole experiment from one YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import options as opt


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="What to train, compose, score and report.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", show_default="out/RECIPE", help="Folder of all results.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a variable or a field (modules.*.limit=9)."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="NAME", show_default="full", help="A block of its sizes, such as small."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan: steps, rows, sizes, rough time and memory.")
    ] = False,
    accept_data: opt.AcceptData = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Run a recipe. Steps that are done already are kept, so an interrupted run goes on where it stopped."""
    from adapterxl.recipes.schema import load_recipe

    loaded = load_recipe(recipe, changes or (), size)
    folder = out if out is not None else Path("out") / (f"{recipe.stem}-{size}" if size else recipe.stem)

    from adapterxl.recipes.execute import RecipeRun

    work = RecipeRun(loaded, folder, overwrite=overwrite, accept_data=accept_data)
    if dry_run:
        for line in work.plan():
            typer.echo(line)
        return
    report = work.execute(typer.echo)
    if report is not None:
        from adapterxl.report import to_table

        typer.echo(to_table(work.scores))
        typer.echo(f"report: {report}")
