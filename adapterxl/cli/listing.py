"""`adapterxl list`: what tasks, methods and operators there are."""

from __future__ import annotations

from typing import Annotated

import typer

from adapterxl.cli import options as opt


def listing(
    what: Annotated[str, typer.Argument(metavar="tasks|methods|operators", help="What to list.")],
) -> None:
    """List the known tasks, methods or operators."""
    opt.one_of("list", what, ("tasks", "methods", "operators"))
    if what == "tasks":
        from adapterxl.tasks import all_tasks

        rows = [
            (task.name, task.kind, _languages(task.languages), ", ".join(task.metrics), task.summary)
            for task in all_tasks().values()
        ]
        opt.show_table(("task", "kind", "languages", "metrics", "what it asks"), rows)
    elif what == "methods":
        from adapterxl.modules import METHODS

        known = [(name, method.summary) for name, method in METHODS.items()]
        opt.show_table(("method", "what it trains"), [*known, ("none", "the task's head alone")])
    else:
        from adapterxl.operators import OPERATORS

        found = [(o.name, ", ".join(option.name for option in o.options), o.summary) for o in OPERATORS.values()]
        opt.show_table(("operator", "options", "what it does"), found)


def _languages(codes: tuple[str, ...]) -> str:
    return " ".join(codes) if len(codes) <= 3 else f"{len(codes)} languages"
