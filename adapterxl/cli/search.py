"""`adapterxl search`: find modules on a hub or in a folder."""

from __future__ import annotations

from typing import Annotated

import typer

from adapterxl.cli import hub as shared
from adapterxl.cli import options as opt


def search(
    hub: Annotated[
        str, typer.Argument(metavar="HUB", help="The word hub (Hugging Face, or HF_ENDPOINT), or a folder of modules.")
    ] = "hub",
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Trained for this task.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="ID", help="On this backbone; in a folder also name or fingerprint.")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", metavar="CODE", help="Scored in this language, such as de.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Most that are shown.")] = 20,
    deadline: shared.Deadline = 600,
    timeout: shared.Timeout = 30,
    tries: shared.Tries = 5,
) -> None:
    """Find modules by task, base and language; REPO or folder come first in each row."""
    from adapterxl.hub.searching import search as searched
    from adapterxl.hub.searching import unknown_task

    found = searched(hub, task=task, base=base, language=language, limit=limit,
                     patience=shared.patience(deadline, timeout, tries))  # fmt: skip
    if not found:
        asked = [f"{name} {value}" for name, value in (("task", task), ("base", base), ("language", language)) if value]
        typer.echo(f"nothing found in {hub} with {', '.join(asked) or 'any task'}.{unknown_task(task)}")
        return
    rows = [
        (one.place, one.task or "-", one.made_by or "-", (one.base or "-").partition(" (")[0], one.score or "-",
         _few(one.languages), "-" if one.size is None else f"{one.size / 1024:,.0f}")
        for one in found
    ]  # fmt: skip
    opt.show_table(("module", "task", "by", "base", "mean score, %", "languages", "KiB"), rows)


def _few(languages: tuple[str, ...]) -> str:
    return " ".join(languages) if len(languages) <= 6 else f"{' '.join(languages[:5])} and {len(languages) - 5} more"
