"""A recipe unrolled into steps: what each one asks for, where its result lies, whether it is done already."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterxl.data import LocalIndex, load_user_task
from adapterxl.data.augment import read_augmentations
from adapterxl.data.schema import INDEX_NAME
from adapterxl.errors import ArtifactError, UsageError
from adapterxl.evaluation.scores import write_whole
from adapterxl.miniature.data import SOURCES, VERSION
from adapterxl.recipes.schema import EvaluateStep, ModuleStep, Recipe, references
from adapterxl.tasks import get_task
from adapterxl.training.sampling import is_mix, read_mix


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        key: Unique name of the step, such as ``seed1.nli``.
        result: Folder of the module or file of the scores.
        record: File that says which request the result answers; written when the result is complete.
        request: All that decides the result, with the digests of the steps that it builds on.
        seed: Seed of this repetition.
        spec: The recipe's step.
        expression: `start` or the module to score; None: nothing.
        folders: Where the modules lie that the expression may name.
        title: One line for a person.
        together: Keys of the steps that are trained in one pass, this one among them; none if it is trained alone.
    """

    key: str
    result: Path
    record: Path
    request: dict[str, Any]
    seed: int
    spec: ModuleStep | EvaluateStep
    expression: str | None
    folders: Mapping[str, Path]
    title: str
    together: tuple[str, ...] = ()

    @property
    def uses(self) -> list[str]:
        """Names and folders in the expression, in order."""
        return [] if self.expression is None else references(self.expression)

    @property
    def digest(self) -> str:
        """Digest of the request: equal for equal requests only."""
        return hashlib.sha256(json.dumps(self.request, sort_keys=True).encode()).hexdigest()

    def is_done(self, overwrite: bool) -> bool:
        """Whether the result is there and answers this very request.

        Raises:
            ArtifactError: If something else is there and `overwrite` is not given.
        """
        if not self.record.is_file():
            if self.result.exists() and not overwrite:
                raise ArtifactError(
                    f"{self.result}: is there already, but no finished step of this recipe made it; "
                    "pass --overwrite to replace it, or another --out"
                )
            return False
        try:
            record = json.loads(self.record.read_text(encoding="utf-8"))
            recorded, done = record["request"], record.get("done", True)
        except (OSError, ValueError, KeyError, TypeError):
            raise ArtifactError(f"{self.record}: not a record of a step; remove it and run again") from None
        if recorded == json.loads(json.dumps(self.request)):
            return done and self.result.exists()
        if not overwrite and (done or self.result.exists()):
            changed = ", ".join(_differences(recorded, self.request)) or "everything"
            raise ArtifactError(
                f"{self.result}: was made with another request (changed: {changed}); "
                "pass --overwrite to make it again, or another --out"
            )
        return False

    def mark(self, *, done: bool) -> None:
        """Record that the result answers the request, or is going to: a run may end between result and record."""
        record = {"step": self.key, "request": self.request, "done": done}
        write_whole(self.record, [json.dumps(record, indent=2) + "\n"])


def unroll(recipe: Recipe, out: Path) -> list[Step]:
    """Return the steps in order: for every seed its modules, then what is scored.

    Raises:
        UsageError: If two evaluations would write the same file.
    """
    steps: list[Step] = []
    groups = _groups(recipe)
    for seed in recipe.seeds:
        folder = out / f"seed{seed}"
        digests: dict[str, str] = {}
        for name, spec in recipe.modules.items():
            step = _train_step(recipe, out, folder, seed, name, spec, digests, groups[name])
            digests[name] = step.digest
            steps.append(step)
        for scored in recipe.evaluate:
            # The backbone alone knows no seed: once is enough.
            wanted = [text for text in scored.modules if text != "none" or seed == recipe.seeds[0]]
            steps += [_evaluate_step(recipe, out, folder, seed, text, scored, digests) for text in wanted]
    seen: set[Path] = set()
    for step in steps:
        if step.result in seen:
            raise UsageError(
                f"recipe: two steps would write {step.result}; score a module and task once per split and layer"
            )
        seen.add(step.result)
    return steps


def _groups(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """For each module the names of those that are trained in one pass with it; none for one that is trained alone."""
    groups: list[list[str]] = []
    joined = False  # whether the next one may come to the last group
    for name, spec in recipe.modules.items():
        own = recipe.together and spec.engine == "packed" and "memory" not in _settings(recipe.defaults, spec.settings)
        used = [] if spec.start is None else references(spec.start)
        if own and joined and not set(used) & set(groups[-1]):
            groups[-1].append(name)
        else:
            groups.append([name])
        joined = own
    return {name: tuple(group) if len(group) > 1 else () for group in groups for name in group}


def _short(task: str) -> str:
    """A task's name; of a user's own task file, the file's."""
    return Path(task).stem if task.endswith((".yaml", ".yml")) else task


def _common(recipe: Recipe, seed: int, tasks: Iterable[str | None]) -> dict[str, Any]:
    content = {task: found for task in tasks if task is not None and (found := _content(recipe, task)) is not None}
    bits = {"bits": recipe.bits} if recipe.bits else {}
    return {"base": recipe.base, "data": recipe.data, "dtype": recipe.dtype, **bits, "seed": seed, "content": content}


def _content(recipe: Recipe, task: str) -> str | None:
    """Digest of a task's local files, so that what was made from others is not taken for the same; None for the hub."""
    if task.endswith((".yaml", ".yml")):
        if not Path(task).is_file():
            return None
        found, source = load_user_task(task)
        return source.content(found) if isinstance(source, LocalIndex) else None
    if recipe.data is None and task in SOURCES:
        return f"miniature {VERSION}"
    if recipe.data is None or not (Path(recipe.data) / INDEX_NAME).is_file():
        return None  # the hub; or nothing there, which is refused when it is used
    index, asked = LocalIndex.open(recipe.data), get_task(task)
    digests = [index.content(each) for each in (asked, *map(get_task, asked.parts))]
    return digests[0] if not asked.parts else " ".join(digest or "absent" for digest in digests)


def _train_step(
    recipe: Recipe, out: Path, folder: Path, seed: int, name: str, spec: ModuleStep, digests: dict[str, str],
    group: tuple[str, ...],
) -> Step:  # fmt: skip
    tasks = [str(task) for task in read_mix(spec.task).tasks] if is_mix(spec.task) else [spec.task]
    borrowed = [get_task(task).train_from for task in tasks if not task.endswith((".yaml", ".yml"))]
    read = [*tasks, *([spec.train_from] if spec.train_from else borrowed)]
    request = _common(recipe, seed, read) | spec.model_dump(mode="json")
    del request["augment"]
    if spec.augment is not None:  # with what is in its files, so that other words are another request
        operators = read_augmentations(spec.augment)
        request["augment"] = {str(one): one.content(recipe.data) for one in operators}
    request["settings"] = _settings(recipe.defaults, spec.settings)
    request["built_on"] = _built_on(spec.start, digests)
    if group:  # their dropout masks come from one generator
        request["together"] = list(group)
    kind = "the head alone" if spec.method == "none" else spec.method
    return Step(
        key=f"seed{seed}.{name}",
        result=folder / name,
        record=out / "steps" / f"seed{seed}.{name}.json",
        request=request,
        seed=seed,
        spec=spec,
        expression=spec.start,
        folders={used: folder / used for used in digests},
        title=f"train {name}: {_short(spec.task)}, {kind} on {spec.start or 'nothing'}, seed {seed}",
        together=tuple(f"seed{seed}.{one}" for one in group),
    )


def _settings(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A module's settings over those of all; steps take the place of epochs, tokens that of rows, and back."""
    settings = {**defaults, **own}
    for one, other in (("epochs", "max_steps"), ("batch_size", "tokens_per_batch")):
        for given, replaced in ((one, other), (other, one)):
            if given in own and replaced not in own:
                settings.pop(replaced, None)
    return settings


def _evaluate_step(
    recipe: Recipe, out: Path, folder: Path, seed: int, text: str, spec: EvaluateStep, digests: dict[str, str]
) -> Step:
    expression = None if text == "none" else text
    request = _common(recipe, seed, (spec.task,)) | spec.model_dump(mode="json") | {"module": text}
    request["built_on"] = _built_on(expression, digests)
    stem = f"{re.sub('[^A-Za-z0-9_-]+', '-', text).strip('-')}.{_short(spec.task)}"
    stem += f".{spec.split}" if spec.split else ""
    stem += f".layer{spec.layer}" if spec.layer is not None else ""
    stem += f".head-{spec.head}" if spec.head else ""
    stem += ".centered" if spec.center else ""
    stem += f".swept-{'-'.join(spec.sweep_layers)}" if spec.sweep_layers else ""
    stem += f".{spec.pooling}" if spec.pooling != "mean" else ""
    stem += f".{re.sub('[^a-z0-9.]+', '-', spec.perturb)}" if spec.perturb else ""
    return Step(
        key=f"seed{seed}.scores.{stem}",
        result=folder / "scores" / f"{stem}.json",
        record=out / "steps" / f"seed{seed}.scores.{stem}.json",
        request=request,
        seed=seed,
        spec=spec,
        expression=expression,
        folders={used: folder / used for used in digests},
        title=f"evaluate {text} on {_short(spec.task)}, seed {seed}",
    )


def _built_on(expression: str | None, digests: Mapping[str, str]) -> list[str]:
    """Digests of what an expression names: of the steps above, or of the manifests of foreign folders."""
    found = []
    for used in [] if expression is None else references(expression):
        manifest = Path(used) / "adapterxl.json"
        if used in digests:
            found.append(digests[used])
        elif manifest.is_file():
            found.append(hashlib.sha256(manifest.read_bytes()).hexdigest())
        else:
            raise ArtifactError(f"{used}: is not a module folder (no adapterxl.json in it)")
    return found


def _differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Dotted names of the fields that differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [
            found
            for key in keys
            for found in _differences(old.get(key), new.get(key), f"{place}.{key}" if place else key)
        ]
    return [] if json.loads(json.dumps(new)) == old else [place]
