"""`train`: one task, one method, one starting point -> one TaskModule; and the plan of it for a dry run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..artifacts import HeadState, TaskModule, load
from ..artifacts.store import MANIFEST, check_target
from ..backbone import Backbone
from ..console import say
from ..data.examples import ChoiceExample
from ..data.resolve import DataLike, TaskLike
from ..data.source import OnBadRow
from ..engines import Engine, get_engine
from ..errors import TrainingError, UsageError
from ..evaluation.zero_shot import score_source
from ..frozen import bits_note
from ..modules import FusionPart, Head, Method, Part
from ..operators import Member
from .job import Job, prepare_job, short_name
from .loop import Loop
from .plan import TrainingPlan, estimate
from .settings import Settings


def train(
    task: TaskLike | Sequence[TaskLike],
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
    name: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_bad_row: OnBadRow = "stop",
    progress: bool = True,
) -> TaskModule | dict[str, TaskModule]:
    """Train a module for a task in its source language, on a frozen backbone.

    Args:
        task: Task name, Task, or the path of a user's own `my_task.yaml`. For several, one module each is trained
            in turn, and a dict by task name comes back; `out` then holds one folder for each.
        method: LoRA or Bottleneck settings; None trains the head alone.
        start: Composition, module or folder to train on top of; it stays frozen and becomes part of the result. Of a
            `fuse` that was not trained before, the attention is trained too; its members stay frozen.
        train_from: Another task's training rows stand in (same kind and labels).
        limit: This many training rows, a sample by seed.
        out: Folder to write. While training, ``<out>.run`` beside it holds log and checkpoints.
        resume: Go on from the last checkpoint in ``<out>.run``, if there is one; keep a finished module of the
            same request.
        overwrite: Replace an existing module; without `resume`, forget an unfinished run.

    Raises:
        AdapterXLError: In one line, before anything slow starts where possible; nothing half-written.
    """
    arguments = dict(
        on=on, method=method, settings=settings, start=start, engine=engine, data=data, train_from=train_from,
        train_languages=train_languages, limit=limit, on_bad_row=on_bad_row, progress=progress,
    )  # fmt: skip
    if not isinstance(task, TaskLike):
        if name is not None:
            raise UsageError("name: several tasks give several modules, each named after its task; leave it out.")
        modules = {}
        names = [short_name(one) for one in task]
        twice = next((one for one in names if names.count(one) > 1), None)
        if twice or not names:
            raise UsageError(f"Tasks: '{twice}' is named twice." if twice else "Tasks: none given; name at least one.")
        if out is not None:
            for short in names:
                if not _finished(Path(out) / short, resume, overwrite):
                    check_target(Path(out) / short, overwrite)
        for one in task:
            target = None if out is None else Path(out) / short_name(one)
            keep = dict(out=target, resume=resume, overwrite=overwrite)
            modules[short_name(one)] = train(one, **arguments, **keep)  # type: ignore[arg-type]
        return modules  # type: ignore[return-value]
    folder = None
    finished = out is not None and _finished(Path(out), resume, overwrite)
    if out is not None and not finished:
        out = Path(out)
        check_target(out, overwrite)
        folder = _run_folder(out, resume, overwrite)
    job = prepare_job(task, name=name, **arguments)  # type: ignore[arg-type]
    if out is not None and finished:
        kept = load(out)
        if kept.training.get("request") != job.request_digest():
            raise UsageError(
                f"{out}: holds a module of other data, settings or base, so there is nothing to resume. "
                "Give another --out, or --overwrite to replace it."
            )
        say([f"{out} is finished already, and is kept."])
        return kept
    say(job.notes)
    with _seeded(job.settings.seed, on.device):
        result, figures = _fit(job, folder, resume, progress)
    if out is None:
        return result
    extra = {}
    if folder is not None and (folder / "log.jsonl").is_file():
        extra["training_log.jsonl"] = (folder / "log.jsonl").read_bytes()
    saved = result.save(out, overwrite=overwrite, extra=extra)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return saved


def plan(
    task: TaskLike | Sequence[TaskLike],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    name: str | None = None,
    **arguments: Any,
) -> TrainingPlan:
    """What `train` with the same arguments would do: rows, steps, sizes, FLOPs, time and memory. Trains nothing."""
    if not isinstance(task, TaskLike):
        tasks = list(task)
        if len(tasks) != 1:
            raise UsageError("A dry run is for one task; give them one at a time.")
        task = tasks[0]
    if out is not None:
        check_target(Path(out), overwrite)
    job = prepare_job(task, name=name, **arguments)
    say(job.notes)
    part, head = job.new_part(), job.new_head()
    lengths = [item.tokens for item in job.rows.items]
    return estimate(
        job.on, part, head, job.start_parts(), job.rows, lengths, job.settings,
        task=job.task.name, origin="; ".join(job.origin), rate=job.rate, engine=job.engine, dev=len(job.dev),
    )  # fmt: skip


def _fit(job: Job, folder: Path | None, resume: bool, progress: bool) -> tuple[TaskModule, dict[str, Any]]:
    on, settings = job.on, job.settings
    frozen = job.start_parts()
    part = job.new_part()
    engine = get_engine(job.engine)(on, frozen, part)
    head = job.new_head().to(on.device)
    own = [p for one in frozen if isinstance(one, FusionPart) and not one.trained for p in one.learnable().values()]
    expected = sum(p.numel() for p in (*own, *(() if part is None else part.parameters())))
    learning = sum(p.numel() for p in engine.parameters().values())
    if learning != expected:
        raise TrainingError(f"The {job.engine} engine would train {learning:,} weights, expected {expected:,}.")

    def dev_score() -> float:
        return score_source(engine, head, on, job.task, job.dev, job.dev_tokens)

    loop = Loop(
        engine, head, job.task.kind, job.rows.items, settings, job.rate, on.device,
        dev_score=dev_score if job.dev else None,
        folder=folder,
        request=job.request_digest(),
        mixed_precision="bf16" if on.device.type == "cuda" and on.dtype == torch.bfloat16 else "no",
    )  # fmt: skip
    figures = loop.run(resume=resume, progress=progress)
    dev = round(dev_score(), 6) if job.dev else None
    return _result(job, engine, head, figures | ({"dev_score": dev} if dev is not None else {})), figures


def _result(job: Job, engine: Engine, head: Head, figures: dict[str, Any]) -> TaskModule:
    exported = engine.export()
    state = HeadState(job.task.kind, head.labels, {name: t.cpu().clone() for name, t in head.tensors().items()})
    trained = sum(p.numel() for p in engine.parameters().values()) + sum(p.numel() for p in head.parameters())
    first = job.rows.examples[0]
    training = {
        "method": job.trains,
        "options": {}
        if job.method is None
        else {k: v for k, v in vars(job.method).items() if v is not None and v != {}},
        **({"fusion": [_fusion_options(part) for part in job.fusions]} if job.fusions else {}),
        "engine": job.engine,
        "dtype": job.on.dtype_name,
        **job.on.options(),
        "parameters": trained,
        "lr": job.rate,
        "settings": {k: v for k, v in job.settings.model_dump().items() if v is not None},
        "seed": job.settings.seed,
        "rows": len(job.rows.examples),
        "dev_rows": len(job.dev),
        "dropped_rows": job.dropped,
        "truncated_rows": job.rows.truncated,
        "data": [_without_folders(origin) for origin in job.origin],
        "data_digests": job.digests,
        "train_from": job.trained_from.name,
        "request": job.request_digest(),
        **({"choices": len(first.choices)} if isinstance(first, ChoiceExample) else {}),
        **({"start_digest": job.start.digest()} if job.start else {}),
        **figures,
    }
    start = job.start
    return TaskModule(
        name=job.name,
        task=job.trained_from.name,
        kind=job.task.kind,
        parts=_parts(job, engine, exported),
        head=state,
        base=job.on.describe(),
        operator="train",
        composition=start.text if start else None,
        training=json.loads(json.dumps(training)),
        notes=tuple(dict.fromkeys((*(start.notes if start else ()), *bits_note(job.on.bits)))),
        backbone=job.on,
    )


def _parts(job: Job, engine: Engine, exported: Part | None) -> tuple[Part, ...]:
    """The parts below, with the fusions that were trained in their places, then the new part."""
    parts: list[Part] = list(job.start.parts) if job.start else []
    for index, fusion in sorted(engine.fusions().items()):
        fusion.name, fusion.task = f"{job.name[:57]}-fusion", job.trained_from.name
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


def _run_folder(out: Path, resume: bool, overwrite: bool) -> Path:
    folder = out.with_name(f"{out.name}.run")
    if folder.exists() and not resume:
        if not overwrite:
            raise UsageError(
                f"{folder}: an unfinished run is there. Go on with --resume, or start anew with --overwrite."
            )
        shutil.rmtree(folder)
    return folder


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's generators start from the seed, and are put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
