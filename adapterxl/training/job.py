"""What a training is made of, found out before anything slow starts: rows, dev rows, starting point, method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..artifacts import TaskModule
from ..artifacts.module import check_base, check_name
from ..artifacts.store import sha256
from ..backbone import Backbone
from ..data.augment import Augmentation, AugmentLike, Ready, read_augmentations
from ..data.augment.translated import Translated
from ..data.examples import Example
from ..data.prepare import Prepared, prepare
from ..data.resolve import DataLike, TaskLike, resolve_task
from ..data.source import DataSource, OnBadRow
from ..engines import get_engine
from ..errors import TaskError, UsageError, did_you_mean
from ..modules import FUSIONS, FusionPart, Head, Method, Part, make_head
from ..modules.heads import MaskHead
from ..operators import Member, compose
from ..tasks import get_task
from ..tasks.base import Task
from .memory import fit_memory
from .request import Request, flat
from .sampling import Mix
from .settings import HEAD_LR, NO_RESULT, Settings

# Held out of the training rows where no other dev rows may be looked at.
_HOLD_OUT = 0.05


@dataclass
class TaskRows:
    """One task of a training with its rows; `dev` is None where there are no dev rows."""

    task: Task
    trained_from: Task
    rows: Prepared
    dev: Prepared | None
    origin: list[str]
    digests: dict[str, str]
    dropped: int
    notes: list[str]
    augmented: list[dict[str, Any]] = field(default_factory=list)  # what each data operator did, for the lineage


@dataclass
class Job:
    """Everything that `train` and `plan` find out before a model runs: one task, or the tasks of a mix.

    Attributes:
        dev_tokens: Tokens per batch when dev rows are scored.
    """

    given: tuple[TaskRows, ...]
    mix: Mix | None
    start: TaskModule | None
    method: Method | None
    settings: Settings
    on: Backbone
    engine: str
    name: str
    dev_tokens: int = 8192

    @property
    def task(self) -> Task:
        """The first task."""
        return self.given[0].task

    @property
    def trained_for(self) -> str:
        """What the module learns, in words: the task whose rows it is trained on, or the mix."""
        return self.given[0].trained_from.name if self.mix is None else str(self.mix)

    @property
    def rows(self) -> Prepared:
        """The training rows of all tasks."""
        if self.mix is None:
            return self.given[0].rows
        each = [one.rows for one in self.given]
        return Prepared(
            "mix",
            tuple(example for rows in each for example in rows.examples),
            tuple(item for rows in each for item in rows.items),
            sum(rows.truncated for rows in each),
            sum(rows.unlabelled for rows in each),
        )

    @property
    def dev(self) -> tuple[Example, ...]:
        return tuple(example for one in self.given if one.dev for example in one.dev.examples)

    @property
    def digests(self) -> dict[str, str]:
        """Of all files that were read."""
        return {path: digest for one in self.given for path, digest in one.digests.items()}

    @property
    def augmented(self) -> list[dict[str, Any]]:
        """What each data operator did to the rows of each task."""
        of = [{"task": one.task.name} if self.mix else {} for one in self.given]
        return [facts | name for one, name in zip(self.given, of, strict=True) for facts in one.augmented]

    @property
    def notes(self) -> list[str]:
        return [*(self.start.notes if self.start else ()), *(note for one in self.given for note in one.notes)]

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
        part.task = self.trained_for
        part.trained_on = tuple(earlier.digest() for earlier in self.start.parts) if self.start else ()
        return part

    def new_heads(self) -> list[Head]:
        """The head of each task, at its seeded initial values; one for all of a kind with the same labels."""
        made: dict[tuple[str, tuple[str, ...]], Head] = {}
        heads = []
        for task in (one.task for one in self.given):
            head = make_head(task.kind, self.on, task.labels)
            if (task.kind, head.labels) not in made:
                generator = torch.Generator().manual_seed(self.settings.seed + 1 + 1000 * len(made))
                head.initialise(self.on.config.initializer_range, generator)
                made[task.kind, head.labels] = head.double() if self.on.dtype == torch.float64 else head
            heads.append(made[task.kind, head.labels])
        return heads

    def request(self) -> Request:
        """What decides the result, flat, as JSON has it: only a run or module of the same request is gone on with."""
        masked = [head.digest() for head in self.new_heads() if isinstance(head, MaskHead)]
        request: dict[str, Any] = {
            "task": ", ".join(one.task.name for one in self.given),
            "tasks": {
                one.task.name: {
                    "labels": one.task.labels,
                    "max_length": one.task.max_length,
                    "trained_from": one.trained_from.name,
                    "data": one.digests,
                    "rows": len(one.rows.examples),
                }
                for one in self.given
            },
            "mix": None if self.mix is None else self.mix.sampling,
            **({"augment": self.augmented} if self.augmented else {}),
            "method": None if self.method is None else {"name": self.method.method, **vars(self.method)},
            "settings": self.settings.model_dump(exclude=NO_RESULT),
            "base": self.on.fingerprint,
            **({"masked_head": masked[0]} if masked else {}),
            "dtype": self.on.dtype_name,
            **({"bits": self.on.bits} if self.on.bits else {}),
            "device": self.on.device.type,
            "engine": self.engine,
            "start": self.start.digest() if self.start else None,
        }
        return flat(json.loads(json.dumps(request, default=str)))

    def request_digest(self) -> str:
        return sha256(json.dumps(self.request(), sort_keys=True).encode())


def prepare_job(
    task: TaskLike | Mix,
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
    on_bad_row: OnBadRow = "stop",
    progress: bool = True,
    augment: AugmentLike = None,
) -> Job:
    settings = settings or Settings()
    if limit is not None and limit < 1:
        raise UsageError(f"limit: found {limit}, expected at least 1 row.")
    get_engine(engine)
    if on.compile and engine != "packed":
        raise UsageError(f"--compile is of the packed engine, not of {engine}; leave one of the two out.")
    operators = read_augmentations(augment)
    mixed = task if isinstance(task, Mix) else None
    if mixed is not None and train_from is not None:
        raise UsageError("--train-from is of one task, but a mix has several; leave it out.")
    found = [resolve_task(one, data) for one in (mixed.tasks if mixed else (task,))]  # type: ignore[arg-type]
    for one, _ in found:
        if one.kind == "retrieve":
            raise TaskError(f"{one.name} is a retrieval task: it is evaluated, not trained.")
    name = check_name(name or (mixed.name if mixed else found[0][0].name))
    before = compose(start, untrained=True) if start is not None else None
    check_base(before, on)
    ready = [begun for one in operators if (begun := one.begin(data)) is not None]
    given = tuple(
        _task_rows(
            one, source, on, settings, data, train_from, train_languages, limit, on_bad_row, progress, operators, ready
        )
        for one, source in found
    )
    if (settings.patience or settings.eval_every) and not all(one.dev for one in given):
        without = next(one for one in given if not one.dev)
        raise UsageError(
            f"patience and eval_every need dev rows, but {without.trained_from.name} has none: of its "
            f"{len(without.rows.examples)} training rows none can be held out. Leave both out, or give more rows."
        )
    job = Job(given, mixed, before, method, settings, on, engine, name)
    _refuse_idle(job.augmented)
    text = next((one.task.name for one in given if one.task.kind == "mask"), None)
    if job.trains == "none" and text is not None:
        raise UsageError(f"--method none trains the head alone, but plain text ({text}) trains no head.")
    return job if settings.memory is None else fit_memory(job)


def _refuse_idle(augmented: Sequence[dict[str, Any]]) -> None:
    """Refuse a data operator that changed nothing: its name in the lineage would be untrue."""
    changed: dict[str, int] = {}
    for one in augmented:
        if "rows_changed" in one:
            changed[one["operator"]] = changed.get(one["operator"], 0) + one["rows_changed"]
    for operator, count in changed.items():
        if not count:
            told = next(one for one in augmented if one["operator"] == operator)
            counts = ", ".join(f"{name} {value}" for name, value in told.items() if isinstance(value, int))
            raise UsageError(f"{operator}: no training row was changed ({counts}). Give it other options.")


def _task_rows(
    task: Task,
    source: DataSource,
    on: Backbone,
    settings: Settings,
    data: DataLike,
    train_from: str | None,
    train_languages: Sequence[str] | None,
    limit: int | None,
    on_bad_row: OnBadRow,
    progress: bool,
    operators: Sequence[Augmentation],
    ready: Sequence[Ready],
) -> TaskRows:
    """The training and dev rows of a task."""
    added = [language for one in operators for language in one.adds]
    trained_from, source = _training_task(task, source, train_from, data, train_languages, added)
    splits = source.splits(trained_from)
    languages = list(dict.fromkeys([*(train_languages or [trained_from.source_language]), *added]))
    for language in languages:
        if language not in splits["train"]:
            raise TaskError(
                f"No training rows of {trained_from.name} in '{language}' in {source.describe}."
                f"{did_you_mean(language, splits['train'])} Languages there: {', '.join(splits['train'])}."
            )
    loads = [source.load(trained_from, "train", language, on_bad_row=on_bad_row) for language in languages]
    translated = [language for language, loaded in zip(languages, loads, strict=True) if loaded.translated]
    if plain := [language for language in added if language not in translated]:
        raise UsageError(
            f"translated: {source.describe} does not say that the training rows of {trained_from.name} in '{plain[0]}' "
            "are machine translated. Say so there (translated: [...]), or take them as they are with --train-languages."
        )
    rows = [example for loaded in loads for example in loaded.examples]
    digests = {file.path: file.sha256 for loaded in loads for file in loaded.files}
    notes = [warning for loaded in loads for warning in loaded.warnings]
    if trained_from.name != task.name:
        notes.append(f"{task.name} is trained on the rows of {trained_from.name}.")
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
    if limit is not None:
        rows = list(_sample(rows, limit, settings.seed))
    if not rows:
        raise TaskError(f"{trained_from.name}: no training rows are left after holding out dev rows.")
    augmented: list[dict[str, Any]] = []
    if translated:
        count = sum(row.language in translated for row in rows)
        augmented.append({"operator": str(Translated(languages=tuple(translated))), "rows": len(rows), "added": count})
    for apply in ready:
        done = apply(rows, trained_from, settings.seed)
        rows = list(done.rows)
        augmented.append(done.facts)
        notes += done.notes
        digests |= done.files
    max_length = min(settings.max_length or task.max_length, on.max_length)
    prepared = prepare(task.kind, rows, on.tokenizer, max_length, progress=progress)
    if not prepared.items:
        raise TaskError(f"{trained_from.name}: its training rows have no word that the backbone's tokenizer knows.")
    if prepared.truncated:
        notes.append(f"{prepared.truncated} of {len(rows)} training rows are longer than {max_length} tokens, and cut.")
    if prepared.unlabelled:
        notes.append(f"{prepared.unlabelled} words have no sub-word, so nothing is learned from them.")
    origin = [loaded.origin for loaded in loads]
    held = prepare(task.kind, dev, on.tokenizer, min(task.max_length, on.max_length)) if dev else None
    return TaskRows(task, trained_from, prepared, held, origin, digests, dropped, notes, augmented)


def _training_task(
    task: Task,
    source: DataSource,
    train_from: str | None,
    data: DataLike,
    languages: Sequence[str] | None,
    added: Sequence[str],
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
            wanted = [*(languages or [candidate.source_language]), *added]
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
