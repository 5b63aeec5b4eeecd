"""Turn an expression into one module: load its leaves, check that they fit together, combine their parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..artifacts.module import TaskModule, check_name
from ..artifacts.reading import load
from ..errors import CompositionError, did_you_mean
from ..modules.fusion import FusionPart
from .expression import OPERATORS, Expression, Leaf, Member, as_member


def compose(
    expression: Member,
    *,
    strict: bool = False,
    known: Mapping[str, TaskModule | Path] | None = None,
    name: str | None = None,
    untrained: bool = False,
) -> TaskModule:
    """The module that an expression stands for. A single name or folder gives that module as it is.

    A composition keeps no head: train a target task on it. What a user should know of it (an order other than
    the trained one, heads left behind) is in its `notes`.

    Args:
        strict: Refuse modules that follow others than those they were trained on.
        known: Modules or folders that names in the expression stand for, before folders are looked for.
        name: Name of the result; the operator's name by default.
        untrained: Allow a fusion that is yet to be trained; only training can use one.

    Raises:
        CompositionError: If a member is missing, was trained on another backbone, or cannot take part.
    """
    if name is not None:
        check_name(name)
    member = as_member(expression)
    if isinstance(member, Leaf):
        return _leaf(member, known or {})
    members = [compose(inner, strict=strict, known=known, untrained=True) for inner in member.members]
    base = members[0].base
    for other in members[1:]:
        if other.base["fingerprint"] != base["fingerprint"]:
            raise CompositionError(
                f"'{other.name}' was trained on a backbone with fingerprint {other.base['fingerprint'][:12]} "
                f"({other.base['name']}), '{members[0].name}' on {base['fingerprint'][:12]} ({base['name']}). "
                "Modules of different backbones cannot be composed."
            )
    operator = OPERATORS[member.operator]
    for one in members:
        operator.check(one)
    if operator.together is not None:
        operator.together(members, dict(member.options))
    made = operator.combine(members, dict(member.options))
    if not untrained and any(isinstance(part, FusionPart) and not part.trained for part in made.parts):
        raise CompositionError(
            f"{member} has not been trained, so it has no weights yet. Train it on the target task: "
            f"adapterxl train TASK --start '{member}' --method none."
        )
    if strict and made.order:
        raise CompositionError(f"{member}: {made.order[0]} Compose in the order of training, or without --strict.")
    notes = [*made.order, *made.notes]
    left = [f"{one.name} ({one.head.kind})" for one in members if one.head is not None]
    if left:
        notes.append(f"Heads not taken along: {', '.join(left)}.")
    return TaskModule(
        name=name or member.operator,
        task="",
        kind="",
        parts=made.parts,
        head=None,
        base=base,
        operator=member.operator,
        composition=member.text(one.text for one in members),
        notes=tuple(notes),
        backbone=next((one.backbone for one in members if one.backbone is not None), None),
    )


def _leaf(leaf: Leaf, known: Mapping[str, TaskModule | Path]) -> TaskModule:
    found = leaf.module or known.get(leaf.reference)
    if isinstance(found, TaskModule):
        return found
    folder = Path(found or leaf.reference)
    if not folder.is_dir():
        names = f" Known names: {', '.join(known)}." if known else ""
        raise CompositionError(
            f"No module folder '{leaf.reference}'.{did_you_mean(leaf.reference, known)}{names} "
            "Give the --out folder of an earlier train or compose."
        )
    return load(folder)


__all__ = ["Expression", "compose"]
