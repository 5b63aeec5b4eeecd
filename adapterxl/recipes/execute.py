"""Run a recipe step by step, keeping what is already there, or plan it without running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterxl.data import hub_or_folder, open_data
from adapterxl.recipes.method import make_method, make_settings
from adapterxl.recipes.schema import EvaluateStep, ModuleStep, Recipe
from adapterxl.recipes.steps import Step, unroll

if TYPE_CHECKING:
    from adapterxl.artifacts import TaskModule
    from adapterxl.backbone import Backbone
    from adapterxl.operators import Expression, Leaf


class RecipeRun:
    """A recipe and the folder that its results go to.

    Args:
        recipe: A checked recipe.
        out: Folder of the results: ``seed<N>/<module>``, ``seed<N>/scores/``, the report, ``steps/``.
        overwrite: Make results again that answer another request.

    Raises:
        UsageError: If a setting, a method or a step of the recipe does not fit.
    """

    def __init__(self, recipe: Recipe, out: Path, *, overwrite: bool = False, accept_data: bool = False) -> None:
        self.recipe = recipe
        self.out = out
        self.data = hub_or_folder(recipe.data, recipe.lock, accept_data)
        self.overwrite = overwrite
        self.steps = unroll(recipe, out)
        for step in self.steps:  # all of them before the first one starts
            if isinstance(step.spec, ModuleStep):
                make_settings(step.request["settings"])
                make_method(step.spec.method, step.spec.method_options())

    @cached_property
    def backbone(self) -> Backbone:
        from adapterxl.backbone import Backbone

        recipe = self.recipe
        return Backbone(
            recipe.base, dtype=recipe.dtype, device=recipe.device, bits=recipe.bits, embeddings=recipe.embeddings,
            checkpointing=recipe.checkpointing, compile=recipe.compile,
        )  # fmt: skip

    def execute(self, say: Callable[[str], None]) -> Path | None:
        """Run every step that is not done; return the report's path, if the recipe wants one.

        Args:
            say: Called with one line for each step.

        Raises:
            ArtifactError: Before anything runs, if a result in the way answers another request.
        """
        done = {step.key: step.is_done(self.overwrite) for step in self.steps}
        places = {step.key: f"[{number}/{len(self.steps)}]" for number, step in enumerate(self.steps, 1)}
        left = [step for step in self.steps if not done[step.key]]
        if left:  # what is missing is found before anything is written
            _ = self.backbone
            if isinstance(self.data, str | Path):
                open_data(self.data)
        for step in self.steps:
            if done[step.key]:
                say(f"{places[step.key]} kept: {step.result}")
            elif step in left:  # else it was trained together with one before
                now = [other for other in left if other is step or other.key in step.together]
                self._run(now, places, say)
                left = [other for other in left if other not in now]
        if self.recipe.report is None:
            return None
        from adapterxl.report import report

        return report(self.scores, self.out / self.recipe.report)

    def _run(self, steps: Sequence[Step], places: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Run a step, or several trainings in one pass."""
        started = time.perf_counter()
        for step in steps:
            say(f"{places[step.key]} {step.title}{', together with others' if len(steps) > 1 else ''}")
            step.mark(done=False)
        first = steps[0]
        if isinstance(first.spec, EvaluateStep):
            self._evaluate(first, first.spec)
        else:
            self._train(steps)
        for step in steps:
            step.mark(done=True)
            say(f"{places[step.key]} saved: {step.result} ({time.perf_counter() - started:.0f} s)")

    def plan(self) -> Iterator[str]:
        """Say line by line what `execute` would do, what it would keep, and what the trainings would cost.

        A module that is not there yet is left out of the sizes of those on top of it. Seeds cost the same, so
        only the first one is planned in detail.
        """
        from adapterxl.training import plan

        for number, step in enumerate(self.steps, 1):
            kept = "kept: " if step.is_done(self.overwrite) else ""
            yield f"[{number}/{len(self.steps)}] {kept}{step.title} -> {step.result}"
            if kept or step.seed != self.recipe.seeds[0]:
                continue
            if isinstance(step.spec, EvaluateStep):
                languages = (
                    step.spec.languages if isinstance(step.spec.languages, str) else " ".join(step.spec.languages)
                )
                yield f"    languages: {languages}; rows of each: {step.spec.limit or 'all'}"
                continue
            arguments = self._train_arguments(step, step.spec)
            there = all(folder.is_dir() for name, folder in step.folders.items() if name in step.uses)
            arguments["start"] = resolve(step) if there else None
            for label, value in plan(step.spec.task, **arguments, progress=False).table():
                waiting = label == "on top of" and not there
                yield f"    {label}: {f'{step.expression} (not there yet, so not counted)' if waiting else value}"

    @property
    def scores(self) -> list[Path]:
        """The score files, in the order of the recipe."""
        return [step.result for step in self.steps if isinstance(step.spec, EvaluateStep)]

    @property
    def sizes(self) -> list[tuple[Path, int]]:
        """Every module's folder with the bytes of what would be shared."""
        folders = [step.result for step in self.steps if isinstance(step.spec, ModuleStep)]
        held = {folder: [file for file in folder.rglob("*") if file.is_file()] for folder in folders}
        return [(folder, sum(file.stat().st_size for file in files)) for folder, files in held.items()]

    def _train_arguments(self, step: Step, spec: ModuleStep) -> dict[str, Any]:
        return dict(
            on=self.backbone,
            method=make_method(spec.method, spec.method_options()),
            settings=make_settings(step.request["settings"] | {"seed": step.seed}),
            engine=spec.engine,
            data=self.data,
            train_from=spec.train_from,
            train_languages=spec.train_languages,
            limit=spec.limit,
            augment=spec.augment,
            on_bad_row=spec.on_bad_row,
        )

    def _train(self, steps: Sequence[Step]) -> None:
        from adapterxl.training import train

        wanted: dict[str, dict[str, Any]] = {}
        for step in steps:
            assert isinstance(step.spec, ModuleStep)
            given = self._train_arguments(step, step.spec) | {"task": step.spec.task, "start": resolve(step)}
            wanted[step.result.name] = given
        # An interrupted training of the same request goes on.
        begun = any(any(step.result.parent.glob(f"{step.result.name}*")) for step in steps)
        common: dict[str, Any] = {"overwrite": self.overwrite, "resume": begun and not self.overwrite}
        if len(steps) == 1:
            train(**given, **common, name=step.result.name, out=step.result)
            return
        of_all = {key: given[key] for key in ("on", "data", "engine")}
        own = {name: {k: v for k, v in each.items() if k not in of_all} for name, each in wanted.items()}
        train(own, **of_all, **common, out=step.result.parent)

    def _evaluate(self, step: Step, spec: EvaluateStep) -> None:
        from adapterxl.evaluation import evaluate

        evaluate(
            resolve(step),
            on=self.backbone,
            task=spec.task,
            languages=spec.languages,
            split=spec.split,
            data=self.data,
            engine=spec.engine,
            limit=spec.limit,
            layer=spec.layer,
            sweep_layers=spec.sweep_layers,
            pooling=spec.pooling,
            center=spec.center,
            train_from=spec.train_from,
            head=spec.head,
            seed=step.seed,
            overwrite=True,  # that it may be replaced was checked when the run began
            tokens_per_batch=spec.tokens_per_batch,
            out=step.result,
            on_bad_row=spec.on_bad_row,
            perturb=spec.perturb,
        )


def resolve(step: Step) -> Expression | TaskModule | None:
    """What the step is built on: its expression with modules in place of names, None where it has none.

    The text keeps the recipe's names, so that reports group the seeds of one composition.
    """
    if step.expression is None:
        return None
    from adapterxl.artifacts import load
    from adapterxl.operators import Leaf, parse

    def filled(member: Expression | Leaf) -> Expression | Leaf:
        if isinstance(member, Leaf):
            return Leaf(member.reference, load(step.folders.get(member.reference, Path(member.reference))))
        return replace(member, members=tuple(filled(inner) for inner in member.members))

    found = filled(parse(step.expression))
    return found.module if isinstance(found, Leaf) else found
