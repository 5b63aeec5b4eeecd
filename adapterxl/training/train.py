"""`train`: tasks, methods and starting points -> a TaskModule each; and its plan for a dry run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..artifacts import HeadState, TaskModule, load
from ..artifacts.module import check_name
from ..artifacts.store import MANIFEST, check_target
from ..backbone import Backbone
from ..console import say
from ..data.augment import AugmentLike
from ..data.examples import ChoiceExample
from ..data.masking import Masking
from ..data.resolve import DataLike, TaskLike
from ..data.source import OnBadRow
from ..engines import Engine, get_engine
from ..errors import TrainingError, UsageError, did_you_mean
from ..evaluation.zero_shot import score_source
from ..frozen import bits_note
from ..modules import FusionPart, Head, Method, Part
from ..operators import Member
from .job import Job, TaskRows, prepare_job
from .loop import Loop, Stream
from .plan import TrainingPlan, estimate, together
from .processes import Processes, is_main
from .randomness import seeded
from .run_folder import check_space, held, run_folder
from .sampling import Mix, is_mix, read_mix, short_name
from .settings import Settings
from .together import Together
from .trunk import use_trunk_cache


def train(
    task: TaskLike | Mix | Sequence[TaskLike | Mix] | Mapping[str, Mapping[str, Any]],
    *,
    on: Backbone,
    method: Method | None = None,
    settings: Settings | None = None,
    start: Member | None = None,
    engine: str = "packed",
    data: DataLike = None,
    train_from: str | None = None,
    train_languages: Sequence[str] | None = None,
    limit: int | None = None,
    augment: AugmentLike = None,
    name: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    override: bool = False,
    overwrite: bool = False,
    on_bad_row: OnBadRow = "stop",
    progress: bool = True,
) -> TaskModule | dict[str, TaskModule]:
    """Train a module for a task in its source language, on a frozen backbone.

    Args:
        task: Task name, Task, or the path of a user's own `my_task.yaml`; or `mix(...)` of several, for one module
            with several heads. A list of these gives a module each, as a dict by task name; `out` then holds one folder
            for each. The packed engine trains them together, in one pass over the backbone; others one by one. A dict
            gives names to the modules, and to each what is its own of task, method, settings, start, train_from,
            train_languages, limit, augment and on_bad_row: ``{"pos-4": {"task": "udpos", "method": LoRA(rank=4)}}``;
            the task is the name where it is not said.
        method: LoRA or Bottleneck settings; None trains the head alone.
        start: Composition, module or folder to train on top of; it stays frozen and becomes part of the result. Of a
            `fuse` that was not trained before, the attention is trained too; its members stay frozen.
        train_from: Another task's training rows stand in (same kind and labels).
        limit: This many training rows, a sample by seed; of a mix, of each task.
        augment: Data operators on the training rows, in order: "codeswitch(ratio=0.5, lexicon=FOLDER)", ... Dev rows
            stay as they are. `adapterxl list augmentations` names all.
        out: Folder to write. While training, ``<out>.run`` beside it holds log and checkpoints.
        resume: Go on from the last checkpoint in ``<out>.run``, if there is one; keep a finished module of the
            same request.
        override: Go on although data, settings or device are others than the run was begun with, which the module's
            manifest then says. Steps count on from the checkpoint's.
        overwrite: Replace an existing module; without `resume`, forget an unfinished run.

    Under a launcher (``accelerate launch``, torchrun) every batch is divided among the processes.

    Raises:
        AdapterXLError: In one line, before anything slow starts where possible; nothing half-written. Of several
            modules, those whose training did not fail are whole.
    """
    common: dict[str, Any] = dict(
        on=on, method=method, settings=settings, start=start, engine=engine, data=data, train_from=train_from,
        train_languages=train_languages, limit=limit, augment=augment, on_bad_row=on_bad_row,
        progress=progress and is_main(),
    )  # fmt: skip
    wanted = _wanted(task, name, settings)
    targets = _targets(wanted, out)
    finished = {key: out for key, out in targets.items() if out is not None and _finished(out, resume, overwrite)}
    runs: dict[str, Path] = {}
    for key, target in targets.items():
        if target is not None and key not in finished:
            check_target(target, overwrite)
            runs[key] = run_folder(target, resume, overwrite)
    jobs = {key: prepare_job(**common | _read(own)) for key, own in wanted.items()}
    modules = {key: _kept(jobs[key], folder) for key, folder in finished.items()}
    left = [key for key in wanted if key not in finished]
    say(dict.fromkeys(note for key in left for note in jobs[key].notes) if is_main() else ())
    for keys in [left] if engine == "packed" else [[key] for key in left]:
        if not keys:
            continue
        precision = "bf16" if on.device.type == "cuda" and on.dtype == torch.bfloat16 else "no"
        processes = Processes(on.device, precision)
        with ExitStack() as stack:
            for folder in (runs[key] for key in keys if key in runs):
                processes.main_first(partial(stack.enter_context, held(folder, resume=resume)))
            stack.enter_context(seeded(jobs[keys[0]].settings.seed, processes.rank, on.device))
            each = [(jobs[key], runs.get(key), targets[key]) for key in keys]
            modules |= zip(keys, _fit(each, processes, resume, override, overwrite, progress), strict=True)
    return modules[_ONE] if _ONE in wanted else {key: modules[key] for key in wanted}


def plan(
    task: TaskLike | Mix | Sequence[TaskLike | Mix] | Mapping[str, Mapping[str, Any]],
    *,
    settings: Settings | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    override: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    **arguments: Any,
) -> TrainingPlan:
    """What `train` with the same arguments would do: rows, steps, sizes, FLOPs, time and memory. Trains nothing."""
    wanted = _wanted(task, name, settings)
    for target in _targets(wanted, out).values():
        if target is not None:
            check_target(target, overwrite)
    jobs = {key: prepare_job(**{"settings": settings} | arguments | _read(own)) for key, own in wanted.items()}
    say(dict.fromkeys(note for job in jobs.values() for note in job.notes))
    plans = {key: _estimate(job) for key, job in jobs.items()}
    first, *others = plans.values()
    return together(plans, next(iter(jobs.values())).engine == "packed") if others else first


def _estimate(job: Job) -> TrainingPlan:
    answered = [(head, one.rows.items) for head, one in zip(job.new_heads(), job.given, strict=True)]
    return estimate(
        job.on, job.new_part(), job.start_parts(), job.rows, answered, job.settings,
        task=job.task.name if job.mix is None else str(job.mix),
        origin="; ".join(origin for one in job.given for origin in one.origin),
        rate=job.rate, engine=job.engine, dev=len(job.dev), augmented=job.augmented,
    )  # fmt: skip


_ONE = ""  # the key of a module that was asked for alone
_OF_EACH = ("task", "method", "settings", "start", "train_from", "train_languages", "limit", "augment", "on_bad_row")


def _wanted(
    task: TaskLike | Mix | Sequence[TaskLike | Mix] | Mapping[str, Mapping[str, Any]],
    name: str | None,
    settings: Settings | None,
) -> dict[str, dict[str, Any]]:
    """What is said of each module, by name; by `_ONE` if it was asked for alone."""
    if isinstance(task, TaskLike | Mix):
        return {_ONE: {"task": task, "name": name}}
    if name is not None:
        raise UsageError("name: several tasks give several modules, each named after its task; leave it out.")
    found: dict[str, dict[str, Any]]
    if isinstance(task, Mapping):
        for name, own in task.items():
            check_name(name)
            if unknown := sorted(set(own) - set(_OF_EACH)):
                raise UsageError(
                    f"{name}: found '{unknown[0]}'.{did_you_mean(unknown[0], _OF_EACH)} "
                    f"Each module may have its own {', '.join(_OF_EACH)}."
                )
        found = {name: {"task": name, "name": name} | dict(own) for name, own in task.items()}
    else:
        read = [_read({"task": one})["task"] for one in task]
        names = [one.name if isinstance(one, Mix) else short_name(one) for one in read]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"Tasks: '{twice}' is named twice. Give a dict with a name for each module instead.")
        found = {name: {"task": one, "name": None} for name, one in zip(names, read, strict=True)}
    if not found:
        raise UsageError("Tasks: none given; name at least one.")
    if len(found) > 1 and any((own.get("settings") or settings or Settings()).memory for own in found.values()):
        raise UsageError("memory plans for one training, not for several together; train the tasks one by one.")
    return found


def _targets(wanted: Mapping[str, Any], out: str | Path | None) -> dict[str, Path | None]:
    """The folder of each module."""
    return {key: None if out is None else Path(out) / key for key in wanted}  # `/ _ONE` leaves a path as it is


def _read(own: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a module, with the text of a mix read."""
    task = own["task"]
    return {**own, "task": read_mix(task) if is_mix(task) else task}


def _kept(job: Job, folder: Path) -> TaskModule:
    """A module that is finished already, if it is of this very request."""
    kept = load(folder)
    if kept.training.get("request") != job.request_digest():
        raise UsageError(
            f"{folder}: holds a module of other data, settings or base, so there is nothing to resume. "
            "Give another --out, or --overwrite to replace it."
        )
    if is_main():
        say([f"{folder} is finished already, and is kept."])
        shutil.rmtree(run_folder(folder, resume=True, overwrite=False), ignore_errors=True)  # killed just before that
    return kept


def _fit(
    each: Sequence[tuple[Job, Path | None, Path | None]],
    processes: Processes,
    resume: bool,
    override: bool,
    overwrite: bool,
    progress: bool,
) -> list[TaskModule]:
    """Train jobs together: each with the folder of its run and that of its module, which is written when it ends."""
    loops = [make_loop(job, folder, progress=progress) for job, folder, _ in each]
    modules: dict[int, TaskModule] = {}
    facts: dict[str, Any] = {"together": [job.name for job, _, _ in each]} if len(each) > 1 else {}
    facts |= {"processes": processes.count} if processes.count > 1 else {}

    def ended(loop: Loop) -> None:
        index = loops.index(loop)
        job, folder, out = each[index]
        scores = processes.from_main(_dev_scores(job, loop) if processes.rank == 0 else {})
        module = _result(job, loop, facts | _dev_facts(scores))
        if out is not None and processes.rank == 0:
            log = None if folder is None else folder / "log.jsonl"
            extra = {"training_log.jsonl": log.read_bytes()} if log is not None and log.is_file() else {}
            module.save(out, overwrite=overwrite, extra=extra)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        processes.wait()
        modules[index] = module if out is None else replace(module, path=out)

    for loop in loops:
        if loop.folder is not None:
            processes.main_first(partial(check_space, loop.folder, sum(one.checkpoint_bytes() for one in loops)))
    Together(loops, processes, ended, progress=progress).run(resume=resume, override=override)
    return [modules[index] for index in range(len(each))]


def make_loop(job: Job, folder: Path | None = None, *, progress: bool = False) -> Loop:
    """The training of a job: its engine, heads and streams of batches."""
    on, frozen, part = job.on, job.start_parts(), job.new_part()
    engine = get_engine(job.engine)(on, frozen, part)
    heads = [head.to(on.device) for head in job.new_heads()]
    own = [p for one in frozen if isinstance(one, FusionPart) and not one.trained for p in one.learnable().values()]
    expected = sum(p.numel() for p in (*own, *(() if part is None else part.parameters())))
    learning = sum(p.numel() for p in engine.parameters().values())
    if learning != expected:
        raise TrainingError(f"The {job.engine} engine would train {learning:,} weights, expected {expected:,}.")
    use_trunk_cache(engine, job, progress=progress)
    streams = [
        Stream(
            one.task.name, one.task.kind, head, one.rows.items,
            Masking(on.tokenizer) if one.task.kind == "mask" else None,
        )
        for one, head in zip(job.given, heads, strict=True)
    ]  # fmt: skip
    loop = Loop(
        engine, streams, job.settings, job.rate, on.device, name=job.name,
        sample=None if job.mix is None else job.mix.sampler(_rows(job), job.settings.seed),
        dev_score=(lambda: _dev_scores(job, loop)) if job.dev else None,
        folder=folder,
        request=job.request(),
    )  # fmt: skip
    return loop


def _dev_scores(job: Job, loop: Loop) -> dict[str, float]:
    """The dev score of each task that has dev rows."""
    return {
        one.task.name: score_source(loop.engine, stream.head, job.on, one.task, one.dev, job.dev_tokens)
        for one, stream in zip(job.given, loop.streams, strict=True)
        if one.dev
    }


def _dev_facts(scores: Mapping[str, float]) -> dict[str, Any]:
    each = {task: round(score, 6) for task, score in scores.items()}
    if not each:
        return {}
    return {"dev_score": round(sum(scores.values()) / len(each), 6)} | ({"dev_scores": each} if len(each) > 1 else {})


def _result(job: Job, loop: Loop, facts: dict[str, Any]) -> TaskModule:
    engine, exported = loop.engine, loop.engine.export()
    states: dict[Head, HeadState] = {}
    for stream in loop.streams:
        if stream.head not in states and stream.kind != "mask":  # that head is the backbone's
            tensors = {name: tensor.cpu().clone() for name, tensor in stream.head.tensors().items()}
            states[stream.head] = HeadState(stream.kind, stream.head.labels, tensors)
    heads = {stream.task: states[stream.head] for stream in loop.streams if stream.head in states}
    start = job.start
    first = next((one for one in job.given if one.task.kind != "mask"), job.given[0])  # whose head answers
    training = {
        "method": job.trains,
        "options": {}
        if job.method is None
        else {k: v for k, v in vars(job.method).items() if v is not None and v != {}},
        **({"fusion": [_fusion_options(part) for part in job.fusions]} if job.fusions else {}),
        **({} if job.mix is None else {"mix": _mix_facts(job, loop)}),
        "engine": job.engine,
        "dtype": job.on.dtype_name,
        **job.on.options(),
        "parameters": sum(p.numel() for p in loop.parameters.values()),
        "lr": job.rate,
        "settings": {k: v for k, v in job.settings.model_dump().items() if v is not None},
        "seed": job.settings.seed,
        **({"augment": job.augmented} if job.augmented else {}),
        "rows": sum(_rows(job)),
        "languages": sorted({row.language for one in job.given for row in one.rows.examples}),
        "dev_rows": len(job.dev),
        "dropped_rows": sum(one.dropped for one in job.given),
        "truncated_rows": sum(one.rows.truncated for one in job.given),
        "data": [_without_folders(origin) for one in job.given for origin in one.origin],
        "data_digests": job.digests,
        **_task_facts(first),
        "request": job.request_digest(),
        **({"start_digest": start.digest()} if start else {}),
        **loop.facts(),
        **facts,
    }
    return TaskModule(
        name=job.name,
        task=first.trained_from.name,
        kind=first.task.kind,
        parts=_parts(job, engine, exported),
        head=heads.get(first.task.name),
        base=job.on.describe(),
        operator="train",
        composition=start.text if start else None,
        lineage={"operator": "train", "parents": [start.as_parent()]} if start else None,
        training=json.loads(json.dumps(training)),
        notes=tuple(dict.fromkeys((*(start.notes if start else ()), *bits_note(job.on.bits)))),
        heads={} if job.mix is None else dict(sorted(heads.items())),
        backbone=job.on,
    )


def _rows(job: Job) -> list[int]:
    """Training rows of each task."""
    return [len(one.rows.examples) for one in job.given]


def _task_facts(one: TaskRows) -> dict[str, Any]:
    """What a training records of a task for its head."""
    row = one.rows.examples[0]
    return {"train_from": one.trained_from.name} | (
        {"choices": len(row.choices)} if isinstance(row, ChoiceExample) else {}
    )


def _mix_facts(job: Job, loop: Loop) -> dict[str, Any]:
    assert job.mix is not None
    rows = _rows(job)
    each = zip(job.given, rows, job.mix.shares(rows), loop.drawn, strict=True)
    return {
        "sampling": job.mix.sampling,
        "tasks": {
            one.task.name: {"kind": one.task.kind, "rows": count, "share": round(share, 6), "batches": drawn}
            | _task_facts(one)
            for one, count, share, drawn in each
        },
    }


def _parts(job: Job, engine: Engine, exported: Part | None) -> tuple[Part, ...]:
    """The parts below, with the fusions that were trained in their places, then the new part."""
    parts: list[Part] = list(job.start.parts) if job.start else []
    for index, fusion in sorted(engine.fusions().items()):
        fusion.name, fusion.task = f"{job.name[:57]}-fusion", job.trained_for
        fusion.trained_on = tuple(part.digest() for part in parts[:index])
        parts[index] = fusion
    if exported is not None:
        exported.trained_on = tuple(part.digest() for part in parts)
        parts.append(exported)
    return tuple(parts)


def _fusion_options(part: FusionPart) -> dict[str, Any]:
    return {"kind": part.variant, "members": part.labels} | ({"rank": part.rank} if part.rank else {})


def _finished(out: Path, resume: bool, overwrite: bool) -> bool:
    """Whether `out` is a module that a resumed run may keep."""
    return resume and not overwrite and (out / MANIFEST).is_file()


def _without_folders(origin: str) -> str:
    """An origin as artifacts record it: where files lay on one machine is nobody else's business."""
    words = origin.split()
    return " ".join(Path(word).name if word.rstrip(",").endswith((".yaml", ".yml")) else word for word in words)
