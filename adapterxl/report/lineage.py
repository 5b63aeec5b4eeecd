"""What the folder of a scored module says of it: options, training cost, the parts it stands on, data digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterxl.artifacts.manifest import Manifest, PartEntry, module_digest, read_manifest
from adapterxl.errors import ArtifactError
from adapterxl.evaluation.scores import ModuleInfo, Scores
from adapterxl.report.model import is_retrieval

_FIRST = ("rank", "reduction")  # options that a reader thinks of first


@dataclass(frozen=True)
class Cost:
    """What one training took; None where it is not recorded."""

    seconds: float | None = None
    rows: int | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Lineage:
    """What a module folder records.

    Attributes:
        options: Options of the module: rank, reduction, ...
        circumstances: How it was trained: engine, precision, learning rate, settings; not the seed.
        cost: Of its own training.
        own: Digest of the part that this training made; None for a composition and for a head alone.
        parts: (name, task, digest) of the parts it was trained on, in order.
        data: File of the training data -> digest.
    """

    options: Mapping[str, Any]
    circumstances: Mapping[str, Any]
    cost: Cost
    own: str | None
    parts: tuple[tuple[str, str, str], ...]
    data: Mapping[str, str]


def lineage(info: ModuleInfo) -> Lineage | None:
    """Read the manifest of a scored module; None if its folder is not there or holds another module now."""
    if info.path is None or info.digest is None:
        return None
    try:
        manifest = read_manifest(Path(info.path))
    except (ArtifactError, OSError, ValueError):  # a path of another machine, or any text
        return None
    if _digest(manifest) != info.digest.rpartition(":")[2]:
        return None
    training = manifest.training
    made = _made_here(manifest)
    before = tuple(part for part in manifest.parts if part is not made)
    settings = {name: value for name, value in _dict(training, "settings").items() if name != "seed"}
    return Lineage(
        options=_dict(training, "options"),
        circumstances={
            "trained by": training.get("engine"),
            "dtype": training.get("dtype"),
            "bits": training.get("bits"),
            "lr": training.get("lr"),
            "languages": " ".join(map(str, training.get("languages") or ())) or None,
            **({"augmented by": augmented} if (augmented := augmentations(training)) else {}),
        }
        | settings,
        cost=Cost(info.train_seconds, _count(training.get("rows")), _count(training.get("steps"))),
        own=made.digest if made else None,
        parts=tuple((part.name, part.task, part.digest) for part in before),
        data={str(name): str(value) for name, value in _dict(training, "data_digests").items()},
    )


def variants(everything: Sequence[Scores]) -> list[str]:
    """Return, per scores, what tells its module from others of its method: "rank 8", or "".

    That is the module options that differ, and how it was trained where nothing else tells two runs apart. Both
    are read from the module folders. Where a folder is not at hand, the number of trained parameters is used for
    what nothing else tells apart.
    """
    found = [lineage(scores.module) for scores in everything]
    names = [""] * len(everything)
    by_method: dict[str, list[int]] = {}
    for position, scores in enumerate(everything):
        if scores.module.task is not None:
            by_method.setdefault(scores.module.method, []).append(position)
    for members in by_method.values():
        told = {position: one for position in members if (one := found[position]) is not None}
        whole = len(told) == len(members)
        named = _by_folder(everything, told) if whole else _by_parameters(everything, members)
        for position, name in named.items():
            names[position] = name
    return names


def _by_folder(everything: Sequence[Scores], told: Mapping[int, Lineage]) -> dict[int, str]:
    values = {position: {name: _text(x) for name, x in _all(one).items()} for position, one in told.items()}
    options = sorted({name for one in told.values() for name in one.options}, key=lambda x: (x not in _FIRST, x))
    others = list(dict.fromkeys(name for one in told.values() for name in one.circumstances if name not in options))
    telling: list[str] = []

    def apart(names: Sequence[str], runs: bool) -> int:
        """How many modules (or, of `runs`, scores of one task, composition and seed) these names tell apart."""
        return len({
            (_run(everything[position]) if runs else (), *(one.get(name) for name in names))
            for position, one in values.items()
        })  # fmt: skip

    for name in options:  # alpha, for one, is left out where rank tells the same modules apart
        if apart([*telling, name], runs=False) > apart(telling, runs=False):
            telling.append(name)
    for name in others:
        if apart([*telling, name], runs=True) > apart(telling, runs=True) and apart(telling, runs=True) < len(told):
            telling.append(name)
    return {p: ", ".join(f"{name} {one.get(name, 'none')}" for name in telling) for p, one in values.items()}


def _by_parameters(everything: Sequence[Scores], members: Sequence[int]) -> dict[int, str]:
    groups: dict[tuple[Any, ...], list[int]] = {}
    for position in members:
        groups.setdefault(_place(everything[position]), []).append(position)
    named: dict[int, str] = {}
    for group in groups.values():
        if len({_run(everything[position]) for position in group}) < len(group):
            named |= {position: f"{everything[position].module.parameters:,} parameters" for position in group}
    return named


def _made_here(manifest: Manifest) -> PartEntry | None:
    """The part that a training made: the last; where it trained a fusion and nothing above it, the last fusion."""
    method = manifest.training.get("method")
    if manifest.operator != "train" or method == "none":
        return None
    found = [part for part in manifest.parts if method != "fusion" or part.kind == "fusion"]
    return found[-1] if found else None


def _place(scores: Scores) -> tuple[Any, ...]:
    """What two scores must share to be in one section, and of one engine."""
    measured = tuple(sorted({(record.metric, record.split) for record in scores.records}))
    return scores.task, scores.base.fingerprint, scores.source_language, scores.engine, measured


def _run(scores: Scores) -> tuple[Any, ...]:
    """What tells scores of one method apart without a look at the module."""
    trained_for = scores.module.task if is_retrieval(scores) else None
    changed = scores.options.get("perturbation")
    return *_place(scores), scores.module.composition, trained_for, changed, scores.seed


def _all(one: Lineage) -> dict[str, Any]:
    return dict(one.circumstances) | dict(one.options)


def augmentations(training: Mapping[str, Any]) -> str:
    """The data operators that a training's rows went through, as text; empty for none."""
    found = training.get("augment")
    texts = [str(one.get("operator")) for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    return " then ".join(dict.fromkeys(texts))


def _dict(training: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = training.get(name)
    return value if isinstance(value, dict) else {}


def _digest(manifest: Manifest) -> str:
    """The digest of the module that a manifest describes, as `TaskModule.digest` makes it, without its weights."""
    heads = {task: entry.digest for task, entry in manifest.heads.items()}
    head = None if manifest.head is None else manifest.head.digest
    return module_digest(manifest.base.fingerprint, [part.digest for part in manifest.parts], head, heads)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
