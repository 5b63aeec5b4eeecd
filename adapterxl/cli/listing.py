"""`adapterxl list`: what tasks, methods, operators and augmentations there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from adapterxl.cli import options as opt

if TYPE_CHECKING:
    from adapterxl.tasks import Task


def listing(
    what: Annotated[str, typer.Argument(metavar="tasks|methods|operators|augmentations", help="What to list.")],
) -> None:
    """List the known tasks, methods, operators on modules, or augmentations of training rows."""
    opt.one_of("list", what, ("tasks", "methods", "operators", "augmentations"))
    if what == "tasks":
        from adapterxl.tasks import all_tasks

        rows = [(task.name, task.kind, f"{task.summary}\n{_facts(task)}") for task in all_tasks().values()]
        opt.show_table(("task", "kind", "what it asks; languages, what it is trained on, metrics, licence"), rows)
    elif what == "methods":
        from adapterxl.modules import METHODS

        known = [(name, method.summary) for name, method in METHODS.items()]
        opt.show_table(("method", "what it trains"), [*known, ("none", "the task's head alone")])
    elif what == "augmentations":
        from adapterxl.data.augment import all_augmentations

        kinds = [(one.name, ", ".join(one.model_fields), one.summary) for one in all_augmentations().values()]
        opt.show_table(("augmentation", "options", "what it does to training rows"), kinds)
    else:
        from adapterxl.operators import OPERATORS

        found = [(o.name, ", ".join(option.name for option in o.options), o.summary) for o in OPERATORS.values()]
        opt.show_table(("operator", "options", "what it does"), found)


def _facts(task: Task) -> str:
    """Languages, the training data that is used unless another is named, metrics and licence, on one line."""
    few = len(task.languages) <= 3
    languages = " ".join(task.languages) if few else f"{len(task.languages)} languages"
    own = "nothing" if task.kind == "retrieve" else "its own rows"
    trained = f"on {task.train_from or ' + '.join(task.parts) or own}"
    return "; ".join((languages, trained, ", ".join(task.metrics), task.licence))
