"""`adapterxl demo`: a whole experiment on the embedded miniature, without network, GPU or downloads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterxl.cli import options as opt

if TYPE_CHECKING:
    from adapterxl.recipes.execute import RecipeRun


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller one: one seed, fewer modules and rows.")] = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of all results.")] = Path("out/demo"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan: steps, rows, sizes.")] = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Train, compose and evaluate modules on the embedded miniature world, and report. Goes on where it stopped."""
    from adapterxl.miniature import DEMO, DEMO_QUICK
    from adapterxl.recipes.execute import RecipeRun
    from adapterxl.recipes.schema import load_recipe

    work = RecipeRun(load_recipe(DEMO_QUICK if quick else DEMO), out, overwrite=overwrite)
    if dry_run:
        for line in work.plan():
            typer.echo(line)
        return
    report = work.execute(typer.echo)

    from adapterxl.report import to_table

    typer.echo(to_table(work.scores))
    opt.show_table(("artifact", "KiB"), [(str(folder), f"{size / 1024:,.0f}") for folder, size in work.sizes])
    typer.echo("A world built to show transfer: docs/miniature.md says what that means, and what it does not.")
    for line in _further(work, out):
        typer.echo(f"try next: adapterxl {line}")
    typer.echo(f"report: {report}")


def _further(work: RecipeRun, out: Path) -> list[str]:
    """Commands on what the demo has made."""
    scored = work.recipe.evaluate[0]
    folder = out / f"seed{work.recipe.seeds[-1]}" / scored.modules[-1]
    return [
        f"verify {folder} --deep --among {folder.parent}",
        f"evaluate {folder} --task {scored.task} --perturb characters --out {out}/noisy.json",
        f"evaluate {folder} --task mini_bitext --center --out {out}/sentences.json",
        "train mini_nli mini_ner --dry-run",
        f"push {folder} me/module --hub {out}/hub",
        f"search {out}/hub --task {scored.task}",
    ]
