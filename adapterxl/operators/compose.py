"""Turn an expression into one module: load its leaves, check that they fit together, combine their parts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..artifacts.module import TaskModule, check_name
from ..artifacts.reading import load
from ..errors import CompositionError, did_you_mean
from ..frozen import BITS, bits_note
from ..modules.fusion import FusionPart
from .expression import OPERATORS, Expression, Leaf, Member, as_member


def compose(
    expression: Member,
    *,
    strict: bool = False,
    known: Mapping[str, TaskModule | Path] | None = None,
    name: str | None = None,
    untrained: bool = False,
    head: str | None = None,
) -> TaskModule:
    """The module that an expression stands for. A single name or folder gives that module as it is.

    A composition keeps no head, unless one is asked for: train a target task on it. What a user should know of it (an
    order other than the trained one, heads left behind) is in its `notes`.

    Args:
        strict: Refuse modules that follow others than those they were trained on.
        known: Modules or folders that names in the expression stand for, before folders are looked for.
        name: Name of the result; the operator's name by default.
        untrained: Allow a fusion that is yet to be trained; only training can use one.
        head: The member, by name or as the expression names it, whose head (with its task) the result takes along; or,
            of a member of several tasks, the task whose head it takes.

    Raises:
        CompositionError: If a member is missing, was trained on another backbone, or cannot take part; if `head` is
            not one member that has a head.
    """
    if name is not None:
        check_name(name)
    member = as_member(expression)
    made, heads = _made(member, strict, known or {})
    if not untrained and any(isinstance(part, FusionPart) and not part.trained for part in made.parts):
        raise CompositionError(
            f"{member} has not been trained, so it has no weights yet. Train it on the target task: "
            f"adapterxl train TASK --start '{member}' --method none."
        )
    owner, kept = (None, None) if head is None else _with_head(head, heads)
    if isinstance(member, Leaf):
        return kept or made
    left = [f"{one.name} ({_kinds(one)})" for _, one in heads if one.head is not None and one is not owner]
    notes = list(made.notes)
    if kept is not None and kept.head is not None:
        notes.append(f"The head is that of '{kept.name}' ({kept.head.kind}), which was trained on its own parts.")
    if left:
        notes.append(f"Heads not taken along: {', '.join(left)}.")
    made = replace(made, name=name or made.name, notes=tuple(notes))
    if kept is None:
        return made
    training = {**made.training, **{key: kept.training[key] for key in _OF_HEADS if key in kept.training}}
    return replace(made, task=kept.task, kind=kept.kind, head=kept.head, heads=kept.heads, training=training)


Named = list[tuple[str, TaskModule]]
"""Modules with what an expression calls them."""


def _made(member: Expression | Leaf, strict: bool, known: Mapping[str, TaskModule | Path]) -> tuple[TaskModule, Named]:
    """The module of a member, of a composition without head and name; and the modules that it was made of."""
    if isinstance(member, Leaf):
        found = _leaf(member, known)
        return found, [(member.reference, found)]
    inner = [_made(one, strict, known) for one in member.members]
    members = [module for module, _ in inner]
    base = members[0].base
    for other in members[1:]:
        if other.base["fingerprint"] != base["fingerprint"]:
            raise CompositionError(
                f"'{other.name}' was trained on a backbone with fingerprint {other.base['fingerprint'][:12]} "
                f"({other.base['name']}), '{members[0].name}' on {base['fingerprint'][:12]} ({base['name']}). "
                "Modules of different backbones cannot be composed."
            )
    told = {digest: one for one in members if (digest := one.base.get("tokenizer"))}  # format 1 does not tell
    if len(told) > 1:
        names = " and ".join(f"'{one.name}'" for one in told.values())
        raise CompositionError(f"{names} were trained with different tokenizers, and cannot be composed.")
    base = next((one.base for one in told.values()), base)
    operator = OPERATORS[member.operator]
    for one in members:
        operator.check(one)
    if operator.together is not None:
        operator.together(members, dict(member.options))
    made = operator.combine(members, dict(member.options))
    if strict and made.order:
        raise CompositionError(f"{member}: {made.order[0]} Compose in the order of training, or without --strict.")
    bits = min((int(m.training["bits"]) for m in members if m.training.get("bits") in BITS), default=None)
    module = TaskModule(
        name=member.operator,
        task="",
        kind="",
        parts=made.parts,
        head=None,
        base=base,
        operator=member.operator,
        composition=member.text(one.text for one in members),
        lineage={
            "operator": member.operator,
            "options": json.loads(json.dumps(dict(member.options))),
            "parents": [one.as_parent() for one in members],
        },
        training={} if bits is None else {"bits": bits},
        notes=(*made.order, *made.notes, *bits_note(bits)),
        backbone=next((one.backbone for one in members if one.backbone is not None), None),
    )
    return module, [named for _, below in inner for named in below]


_OF_HEADS = ("choices", "train_from", "mix")  # what a head's training says of the head itself


def _kinds(module: TaskModule) -> str:
    """What heads a module has."""
    heads = module.heads.values() or [module.head]
    return ", ".join(dict.fromkeys(head.kind for head in heads if head is not None)) or "no head"


def _with_head(name: str, modules: Named) -> tuple[TaskModule, TaskModule]:
    """The one module of this name, or with a head for this task; and it with that head."""
    named = {id(module): module for reference, module in modules if name in (module.name, reference)}
    named = named or {id(module): module for _, module in modules if name in module.heads}
    distinct = {
        module.digest() if module.heads else module.head.digest() if module.head else "" for module in named.values()
    }
    there = ", ".join(f"{module.name} ({_kinds(module)})" for _, module in modules)
    if not named:
        raise CompositionError(f"No member '{name}' to take the head of; the members: {there}.")
    if len(distinct) > 1:
        raise CompositionError(f"{len(distinct)} members are named '{name}', with different heads. Name a folder.")
    module = next(iter(named.values()))
    if module.head is None:
        raise CompositionError(f"'{name}' has no head to take along; the members: {there}.")
    return module, module if name == module.name else module.for_task(name)


def _leaf(leaf: Leaf, known: Mapping[str, TaskModule | Path]) -> TaskModule:
    found = leaf.module or known.get(leaf.reference)
    if isinstance(found, TaskModule):
        return found
    folder = Path(found or leaf.reference)
    if not folder.is_dir():
        names = f" Known names: {', '.join(known)}." if known else ""
        on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", leaf.reference)
        fetch = f" If it is on a hub: adapterxl pull {leaf.reference} --out DIR." if on_hub else ""
        raise CompositionError(
            f"No module folder '{leaf.reference}'.{did_you_mean(leaf.reference, known)}{names} "
            f"Give the --out folder of an earlier train or compose.{fetch}"
        )
    return load(folder)


__all__ = ["Expression", "compose"]
