"""`adapterxl import` and `adapterxl convert`: folders that vanilla peft or adapters wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.artifacts import store
from adapterxl.cli import options as opt
from adapterxl.console import say


def import_folder(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that peft or adapters saved, as safetensors.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the module.")],
    base: opt.Base = None,
    task: Annotated[
        str | None, typer.Option(help="The task that its head answers: gives it that task's labels.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Label names in the order of the head's outputs.")
    ] = None,
    name: Annotated[str | None, typer.Option(show_default="the folder's", help="Name of the module.")] = None,
    other_base: Annotated[
        bool, typer.Option("--other-base", help="Take --base although the folder names another one.")
    ] = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Make a module of a folder that vanilla peft or adapters wrote; what it cannot hold exactly is refused by name."""
    store.check_target(out, overwrite)
    backbone = opt.backbone(base, "fp32", "cpu")
    from adapterxl.artifacts import import_folder as imported

    module = imported(
        folder, on=backbone, name=name, task=task, labels=opt.names("--labels", labels), other_base=other_base
    )
    module.save(out, overwrite=overwrite)
    say(module.notes)
    typer.echo(f"saved: {out}")


def convert(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that peft or adapters saved, with .bin files.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the copy.")],
) -> None:
    """Copy a folder with its pickled weights as safetensors; a separate process opens them, as tensors only."""
    from adapterxl.artifacts.convert import convert as converted

    for name in converted(folder, out):
        say([f"converted {name}"])
    typer.echo(f"saved: {out}")
