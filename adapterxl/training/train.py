"""`train`: one task, one method, one starting point -> one TaskModule; and the plan of it for a dry run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..artifacts import HeadState, TaskModule
from ..artifacts.module import check_name
from ..artifacts.store import check_target, sha256
from ..backbone import Backbone
from ..console import say
from ..data.examples import ChoiceExample, Example
from ..data.prepare import Prepared, prepare
from ..data.resolve import DataLike, TaskLike, resolve_task
from ..data.source import DataSource, OnBadRow
from ..engines import Engine, get_engine
from ..errors import TaskError, TrainingError, UsageError, did_you_mean
from ..evaluation.zero_shot import check_base, score_source
from ..modules import Head, Method, Part, make_head
from ..operators import Member, compose
from ..tasks import get_task
from ..tasks.base import Task
from .loop import Loop, count_steps
from .plan import TrainingPlan, estimate
from .settings import HEAD_LR, Settings

# Held out of the training rows where no other dev rows may be looked at.
_HOLD_OUT = 0.05


@dataclass
class _Job:
    """Everything that `train` and `plan` find out before a model runs."""

    task: Task
    trained_from: Task
    start: TaskModule | None
    rows: Prepared
    dev: tuple[Example, ...]
    origin: list[str]
    digests: dict[str, str]
    dropped: int
    notes: list[str]
    method: Method | None
    settings: Settings
    on: Backbone
    engine: str
    name: str

    @property
    def rate(self) -> float:
        base = HEAD_LR if self.method is None else self.method.base_lr
        return self.settings.rate(base, self.on.hidden)

    def new_part(self) -> Part | None:
        """The part to be trained, at its seeded initial values."""
        if self.method is None:
            return None
        dtype = torch.float64 if self.on.dtype == torch.float64 else torch.float32
        part = self.method.build(self.name, self.on, torch.Generator().manual_seed(self.settings.seed), dtype)
        part.task = self.trained_from.name
        part.trained_on = tuple(earlier.digest() for earlier in self.start.parts) if self.start else ()
        return part

    def new_head(self) -> Head:
        head = make_head(self.task.kind, self.on, self.task.labels)
        generator = torch.Generator().manual_seed(self.settings.seed + 1)
        head.initialise(self.on.config.initializer_range, generator)
        return head.double() if self.on.dtype == torch.float64 else head

    def request(self) -> dict[str, Any]:
        """What decides the result: the key under which a run is resumed."""
        return {
            "task": self.task.name,
            "labels": self.task.labels,
            "max_length": self.task.max_length,
            "trained_from": self.trained_from.name,
            "method": None if self.method is None else {"name": self.method.method, **vars(self.method)},
            "settings": self.settings.model_dump(),
            "base": self.on.fingerprint,
            "dtype": self.on.dtype_name,
            "engine": self.engine,
            "start": self.start.digest() if self.start else None,
            "data": self.digests,
            "rows": len(self.rows.examples),
        }


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
        start: Composition, module or folder to train on top of; it stays frozen and becomes part of the result.
        train_from: Another task's training rows stand in (same kind and labels).
        limit: This many training rows, a sample by seed.
        out: Folder to write. While training, ``<out>.run`` beside it holds log and checkpoints.
        resume: Go on from the last checkpoint in ``<out>.run``, if there is one.
        overwrite: Replace an existing module; forget an unfinished run.

    Raises:
        AdapterXLError: In one line, before anything slow starts where possible; nothing half-written.
    """
    arguments = dict(
        on=on, method=method, settings=settings, start=start, engine=engine, data=data, train_from=train_from,
        train_languages=train_languages, limit=limit, on_bad_row=on_bad_row, progress=progress,
    )  # fmt: skip
    if not isinstance(task, TaskLike):
        modules = {}
        names = [_short_name(one) for one in task]
        twice = next((one for one in names if names.count(one) > 1), None)
        if twice or not names:
            raise UsageError(f"Tasks: '{twice}' is named twice." if twice else "Tasks: none given; name at least one.")
        if out is not None:
            for short in names:
                check_target(Path(out) / short, overwrite)
        for one in task:
            target = None if out is None else Path(out) / _short_name(one)
            keep = dict(out=target, resume=resume, overwrite=overwrite)
            modules[_short_name(one)] = train(one, **arguments, **keep)  # type: ignore[arg-type]
        return modules  # type: ignore[return-value]
    folder = None
    if out is not None:
        out = Path(out)
        check_target(out, overwrite)
        folder = _run_folder(out, resume, overwrite)
    job = _prepare(task, name=name, **arguments)  # type: ignore[arg-type]
    say(job.notes, show=progress)
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
    job = _prepare(task, name=name, **arguments)
    part, head = job.new_part(), job.new_head()
    lengths = [item.tokens for item in job.rows.items]
    return estimate(
        job.on, part, head, job.start.parts if job.start else (), job.rows, lengths, job.settings,
        task=job.task.name, origin="; ".join(job.origin), rate=job.rate, engine=job.engine, dev=len(job.dev),
    )  # fmt: skip


def _fit(job: _Job, folder: Path | None, resume: bool, progress: bool) -> tuple[TaskModule, dict[str, Any]]:
    on, settings = job.on, job.settings
    frozen = job.start.parts if job.start else ()
    part = job.new_part()
    engine = get_engine(job.engine)(on, frozen, part)
    head = job.new_head().to(on.device)
    expected = 0 if part is None else sum(p.numel() for p in part.parameters())
    learning = sum(p.numel() for p in engine.parameters().values())
    if learning != expected:
        raise TrainingError(f"The {job.engine} engine would train {learning:,} weights, expected {expected:,}.")

    def dev_score() -> float:
        return score_source(engine, head, on, job.task, job.dev)

    loop = Loop(
        engine, head, job.task.kind, job.rows.items, settings, job.rate, on.device,
        dev_score=dev_score if job.dev else None,
        folder=folder,
        request=sha256(json.dumps(job.request(), sort_keys=True, default=str).encode()),
        mixed_precision="bf16" if on.device.type == "cuda" and on.dtype == torch.bfloat16 else "no",
    )  # fmt: skip
    figures = loop.run(resume=resume, progress=progress)
    dev = round(dev_score(), 6) if job.dev else None
    return _result(job, engine, head, figures | ({"dev_score": dev} if dev is not None else {})), figures


def _result(job: _Job, engine: Engine, head: Head, figures: dict[str, Any]) -> TaskModule:
    exported = engine.export()
    state = HeadState(job.task.kind, head.labels, {name: t.cpu().clone() for name, t in head.tensors().items()})
    trained = sum(p.numel() for p in engine.parameters().values()) + sum(p.numel() for p in head.parameters())
    first = job.rows.examples[0]
    training = {
        "method": job.method.method if job.method else "none",
        "options": {} if job.method is None else {k: v for k, v in vars(job.method).items() if v is not None},
        "engine": job.engine,
        "dtype": job.on.dtype_name,
        "parameters": trained,
        "lr": job.rate,
        "settings": {k: v for k, v in job.settings.model_dump().items() if v is not None},
        "seed": job.settings.seed,
        "rows": len(job.rows.examples),
        "dev_rows": len(job.dev),
        "dropped_rows": job.dropped,
        "truncated_rows": job.rows.truncated,
        "data": job.origin,
        "data_digests": job.digests,
        "train_from": job.trained_from.name,
        **({"choices": len(first.choices)} if isinstance(first, ChoiceExample) else {}),
        **({"start_digest": job.start.digest()} if job.start else {}),
        **figures,
    }
    start = job.start
    parts = (*(start.parts if start else ()), *([exported] if exported is not None else []))
    return TaskModule(
        name=job.name,
        task=job.trained_from.name,
        kind=job.task.kind,
        parts=parts,
        head=state,
        base=job.on.describe(),
        operator="train",
        composition=_composition(start),
        training=json.loads(json.dumps(training)),
        notes=start.notes if start else (),
    )


def _composition(start: TaskModule | None) -> str | None:
    """The starting point in words: an operator's own text, or the name of a single module."""
    if start is None:
        return None
    return start.composition if start.operator != "train" and start.composition else start.name


def _prepare(
    task: TaskLike,
    *,
    on: Backbone,
    method: Method | None,
    settings: Settings | None,
    start: Member | None,
    engine: str,
    data: DataLike,
    train_from: str | None,
    train_languages: Sequence[str] | None,
    limit: int | None,
    name: str | None,
    on_bad_row: OnBadRow = "stop",
    progress: bool = True,
) -> _Job:
    settings = settings or Settings()
    get_engine(engine)
    found, source = resolve_task(task, data)
    if found.kind == "retrieve":
        raise TaskError(f"{found.name} is a retrieval task: it is evaluated, not trained.")
    name = check_name(name or _short_name(task))
    before = compose(start) if start is not None else None
    check_base(before, on)
    trained_from = _training_task(found, source, train_from)
    splits = source.splits(trained_from)
    languages = list(train_languages or [trained_from.source_language])
    for language in languages:
        if language not in splits["train"]:
            raise TaskError(
                f"No training rows of {trained_from.name} in '{language}' in {source.describe}."
                f"{did_you_mean(language, splits['train'])} Languages there: {', '.join(splits['train'])}."
            )
    loads = [source.load(trained_from, "train", language, on_bad_row=on_bad_row) for language in languages]
    rows = [example for loaded in loads for example in loaded.examples]
    digests = {file.path: file.sha256 for loaded in loads for file in loaded.files}
    notes = [warning for loaded in loads for warning in loaded.warnings] + list(before.notes if before else ())
    if trained_from.name != found.name:
        notes.append(f"{found.name} is trained on the rows of {trained_from.name}.")
    if dropped := sum(len(loaded.dropped) for loaded in loads):
        notes.append(f"{dropped} bad rows of {trained_from.name} are left out.")
    dev: Sequence[Example]
    if "test" in splits and trained_from.source_language in splits.get("dev", ()):
        loaded = source.load(trained_from, "dev", trained_from.source_language, on_bad_row=on_bad_row)
        digests |= {file.path: file.sha256 for file in loaded.files}
        dev = _sample(loaded.examples, settings.dev_limit, settings.seed)
    else:
        # The only other labelled rows are those that results are reported on; nothing may be chosen by them.
        rows, dev = _hold_out(rows, settings)
        notes.append(f"{len(dev)} training rows of {trained_from.name} are held out as dev rows.")
    if not dev and (settings.patience or settings.eval_every):
        raise UsageError(
            f"patience and eval_every need dev rows, but {trained_from.name} has none: of its {len(rows)} training "
            "rows none can be held out. Leave both out, or give more rows."
        )
    if limit is not None:
        rows = list(_sample(rows, limit, settings.seed))
    if not rows:
        raise TaskError(f"{trained_from.name}: no training rows are left after holding out dev rows.")
    max_length = min(settings.max_length or found.max_length, on.max_length)
    return _Job(
        task=found,
        trained_from=trained_from,
        start=before,
        rows=prepare(found.kind, rows, on.tokenizer, max_length, progress=progress),
        dev=tuple(dev),
        origin=[loaded.origin for loaded in loads],
        digests=digests,
        dropped=dropped,
        notes=notes,
        method=method,
        settings=settings,
        on=on,
        engine=engine,
        name=name,
    )


def _training_task(task: Task, source: DataSource, train_from: str | None) -> Task:
    """The task whose training rows are used: the one named, the task itself, or the one it borrows from."""
    if train_from is not None:
        other = get_task(train_from)
        if other.kind != task.kind or (other.labels != task.labels and task.kind in ("classify", "tag")):
            raise TaskError(
                f"--train-from {train_from}: its rows ({other.kind}, labels {', '.join(other.labels) or 'none'}) "
                f"do not fit {task.name} ({task.kind}, labels {', '.join(task.labels) or 'none'})."
            )
        candidates = [other]
    else:
        candidates = [task] + ([get_task(task.train_from)] if task.train_from else [])
    reasons = []
    for candidate in candidates:
        try:
            if "train" in source.splits(candidate):
                return candidate
            reasons.append(f"{candidate.name} has no train split")
        except TaskError as error:
            reasons.append(str(error))
    raise TaskError(
        f"{task.name} has no training rows in {source.describe}: {'; '.join(reasons)}. "
        "Name a task whose training rows stand in with --train-from."
    )


def _hold_out(rows: Sequence[Example], settings: Settings) -> tuple[list[Example], list[Example]]:
    count = min(round(len(rows) * _HOLD_OUT), settings.dev_limit)
    held = set(np.random.default_rng([settings.seed, 1]).permutation(len(rows))[:count].tolist())
    return [r for i, r in enumerate(rows) if i not in held], [r for i, r in enumerate(rows) if i in held]


def _sample(rows: Sequence[Example], limit: int, seed: int) -> Sequence[Example]:
    if limit >= len(rows):
        return rows
    chosen = np.random.default_rng([seed, 2]).permutation(len(rows))[:limit]
    return [rows[i] for i in sorted(chosen.tolist())]


def _short_name(task: TaskLike) -> str:
    if isinstance(task, Task):
        return task.name
    return Path(task).stem if str(task).endswith((".yaml", ".yml")) else str(task)


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


__all__ = ["count_steps", "plan", "train"]
