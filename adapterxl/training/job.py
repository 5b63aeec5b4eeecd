"""What a training is made of, found out before anything slow starts: rows, dev rows, starting point, method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..artifacts import TaskModule
from ..artifacts.module import check_base, check_name
from ..artifacts.store import sha256
from ..backbone import Backbone
from ..data.examples import Example
from ..data.prepare import Prepared, prepare
from ..data.resolve import DataLike, TaskLike, resolve_task
from ..data.source import DataSource, OnBadRow
from ..engines import get_engine
from ..errors import TaskError, UsageError, did_you_mean
from ..modules import FUSIONS, FusionPart, Head, Method, Part, make_head
from ..operators import Member, compose
from ..tasks import get_task
from ..tasks.base import Task
from .settings import HEAD_LR, Settings

# Held out of the training rows where no other dev rows may be looked at.
_HOLD_OUT = 0.05


@dataclass
class Job:
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
    def fusions(self) -> list[FusionPart]:
        """The fusions of the starting point that this training trains."""
        parts = self.start.parts if self.start else ()
        return [part for part in parts if isinstance(part, FusionPart) and not part.trained]

    @property
    def rate(self) -> float:
        """The highest learning rate: of all that learns beside the head, the smallest."""
        rates = [FUSIONS[part.variant].base_lr for part in self.fusions]
        rates += [] if self.method is None else [self.method.base_lr]
        return self.settings.rate(min(rates, default=HEAD_LR), self.on.hidden)

    @property
    def trains(self) -> str:
        """What is trained beside the head, in a word: the method, "fusion", or "none"."""
        return self.method.method if self.method else "fusion" if self.fusions else "none"

    def start_parts(self) -> tuple[Part, ...]:
        """The parts to train on top of; fusions that are to be trained at their seeded initial values.

        The library's dropout of AdapterFusion is that of the backbone's own attention; so is ours.
        """
        parts: list[Part] = list(self.start.parts) if self.start else []
        rate = self.on.config.attention_probs_dropout_prob
        for index, part in enumerate(parts):
            if isinstance(part, FusionPart) and not part.trained:
                generator = torch.Generator().manual_seed(self.settings.seed + 2 + index)
                parts[index] = part.begun(self.on, generator, self._dtype, rate)
        return tuple(parts)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self.on.dtype == torch.float64 else torch.float32

    def new_part(self) -> Part | None:
        """The part to be trained, at its seeded initial values."""
        if self.method is None:
            return None
        part = self.method.build(self.name, self.on, torch.Generator().manual_seed(self.settings.seed), self._dtype)
        part.task = self.trained_from.name
        part.trained_on = tuple(earlier.digest() for earlier in self.start.parts) if self.start else ()
        return part

    def new_head(self) -> Head:
        head = make_head(self.task.kind, self.on, self.task.labels)
        generator = torch.Generator().manual_seed(self.settings.seed + 1)
        head.initialise(self.on.config.initializer_range, generator)
        return head.double() if self.on.dtype == torch.float64 else head

    def request_digest(self) -> str:
        """Digest of what decides the result: only a run or a module of the same request is gone on with."""
        request = {
            "task": self.task.name,
            "labels": self.task.labels,
            "max_length": self.task.max_length,
            "trained_from": self.trained_from.name,
            "method": None if self.method is None else {"name": self.method.method, **vars(self.method)},
            "settings": self.settings.model_dump(exclude={"trunk_cache_limit"}),  # which changes no result
            "base": self.on.fingerprint,
            "dtype": self.on.dtype_name,
            **({"bits": self.on.bits} if self.on.bits else {}),
            "device": self.on.device.type,
            "engine": self.engine,
            "start": self.start.digest() if self.start else None,
            "data": self.digests,
            "rows": len(self.rows.examples),
        }
        return sha256(json.dumps(request, sort_keys=True, default=str).encode())


def prepare_job(
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
) -> Job:
    settings = settings or Settings()
    if limit is not None and limit < 1:
        raise UsageError(f"limit: found {limit}, expected at least 1 row.")
    get_engine(engine)
    found, source = resolve_task(task, data)
    if found.kind == "retrieve":
        raise TaskError(f"{found.name} is a retrieval task: it is evaluated, not trained.")
    name = check_name(name or found.name)
    before = compose(start, untrained=True) if start is not None else None
    check_base(before, on)
    trained_from, source = _training_task(found, source, train_from, data, train_languages)
    splits = source.splits(trained_from)
    languages = list(dict.fromkeys(train_languages or [trained_from.source_language]))
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
        rows, dev = _hold_out(rows, trained_from.source_language, settings)
        if dev:
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
    prepared = prepare(found.kind, rows, on.tokenizer, max_length, progress=progress)
    if prepared.truncated:
        notes.append(f"{prepared.truncated} of {len(rows)} training rows are longer than {max_length} tokens, and cut.")
    if prepared.unlabelled:
        notes.append(f"{prepared.unlabelled} words have no sub-word, so nothing is learned from them.")
    return Job(
        task=found,
        trained_from=trained_from,
        start=before,
        rows=prepared,
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


def _training_task(
    task: Task, source: DataSource, train_from: str | None, data: DataLike, languages: Sequence[str] | None
) -> tuple[Task, DataSource]:
    """The task whose training rows are used, and where they are: the one named, the task itself, or, where it has
    none in these languages, the one it borrows from. A user's own task has its files beside it; another task's are
    in the data folder or on the hub."""
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
            where = source if candidate is task else resolve_task(candidate, data)[1]
            rows = where.splits(candidate).get("train", ())
            wanted = languages or [candidate.source_language]
            if rows and (candidate is candidates[-1] or set(rows).intersection(wanted)):
                return candidate, where
            of = f" in {', '.join(wanted)}, only in {', '.join(rows)}" if rows else ""
            reasons.append(f"{candidate.name} has no train split{of}")
        except TaskError as error:
            reasons.append(str(error).rstrip("."))
    raise TaskError(
        f"{task.name} has no training rows in {source.describe}: {'; '.join(reasons)}. "
        "Name a task whose training rows stand in with --train-from."
    )


def _hold_out(rows: Sequence[Example], language: str, settings: Settings) -> tuple[list[Example], list[Example]]:
    """Split off dev rows, in the source language only: nothing is chosen by rows of another one."""
    own = [i for i, row in enumerate(rows) if row.language == language]
    count = min(round(len(own) * _HOLD_OUT), settings.dev_limit)
    held = {own[i] for i in np.random.default_rng([settings.seed, 1]).permutation(len(own))[:count].tolist()}
    return [r for i, r in enumerate(rows) if i not in held], [r for i, r in enumerate(rows) if i in held]


def _sample(rows: Sequence[Example], limit: int, seed: int) -> Sequence[Example]:
    if limit >= len(rows):
        return rows
    chosen = np.random.default_rng([seed, 2]).permutation(len(rows))[:limit]
    return [rows[i] for i in sorted(chosen.tolist())]


def short_name(task: TaskLike) -> str:
    if isinstance(task, Task):
        return task.name
    return Path(task).stem if str(task).endswith((".yaml", ".yml")) else str(task)
