"""Evaluate a module in every language of a task: predictions, metrics, scores."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..artifacts import TaskModule
from ..artifacts.module import check_base, versions
from ..artifacts.store import check_writable
from ..backbone import Backbone
from ..console import say
from ..data.resolve import DataLike, TaskLike, resolve_task
from ..data.source import DataSource, OnBadRow
from ..engines import Engine, get_engine
from ..engines.packed import PackedEngine
from ..errors import CompositionError, TaskError, UsageError, did_you_mean
from ..modules import FusionPart, Head, make_head
from ..modules.attention_record import Shares, recording
from ..operators import Member, compose
from ..tasks.base import Task
from .languages import HeadSet, LanguageSet, RetrievalSet, score_all, vector_reader
from .predict import answer, head_reader
from .scores import Attention, BaseInfo, ModuleInfo, Record, Scores

# jiant and XTREME pool hidden state 14 of XLM-R large's 24 layers; other depths take the same share.
_RETRIEVAL_DEPTH = 14 / 24
_HEADLESS = ("retrieve", "mask")  # kinds that need no head of a module


def evaluate(
    module: Member | None,
    *,
    on: Backbone,
    task: TaskLike,
    languages: str | Sequence[str] = "all",
    split: str | None = None,
    data: DataLike = None,
    engine: str = "packed",
    limit: int | None = None,
    layer: int | None = None,
    center: bool = False,
    train_from: str | None = None,
    head: str | None = None,
    tokens_per_batch: int = 8192,
    merged: bool = True,
    seed: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    on_bad_row: OnBadRow = "stop",
    progress: bool = True,
) -> Scores:
    """Score a module in the languages of a task. Rows of several languages share batches of one length.

    Args:
        module: A module, its folder, or (for retrieval and plain text, which need no head) a composition; None or
            "none" for the plain backbone.
        languages: "all", or language codes. With "all", languages of the benchmark that the data does not hold
            make the result partial.
        split: The task's evaluation split by default: test, or dev where only dev is labelled.
        limit: First examples of each language only.
        layer: Retrieval: hidden state to pool (0: embeddings); 14/24 of the depth by default.
        center: Retrieval: subtract each side's mean before the cosine.
        train_from: Say so when the module was trained on another task than the one whose training data this
            task has (xquad after tydiqa).
        head: Of a composition: the member whose head answers.
        merged: Run with LoRA and IA3 parts added to copies of the weights, within rounding the same: less to compute,
            for the memory of the copies. The packed engine does so on a backbone in full precision; else never.
        seed: Recorded with the scores; the module's own by default.
        out: scores.json to write; predictions go beside it. Scores of another module or task that are there are
            not replaced without
        overwrite: which says that they may be.

    Raises:
        TaskError, DataError, BackboneError, CompositionError: Before anything slow starts, where possible.
    """
    started = time.monotonic()
    task, source = resolve_task(task, data)
    if module is None or module == "none":
        if head is not None:
            raise UsageError(f"--head {head}: the plain backbone has none, and no member either.")
        whole = None
    else:
        whole = compose(module, head=head)
    check_base(whole, on)
    split = choose_split(task, source, split)
    chosen, expected = choose_languages(task, source, split, languages)
    subject = whole and choose_head(whole, task, train_from)
    origin = check_fit(subject, task, train_from)
    if subject is not None:
        say(subject.notes)
    if origin is not None:
        say([f"'{subject.name if subject else ''}' was trained on {origin}, not on {task.name}."])
    if out is not None:
        _check_out(Path(out), task, whole, overwrite)
    if limit is not None and limit < 1:
        raise UsageError(f"limit: found {limit}, expected at least 1 example.")
    options: dict[str, Any] = {"limit": limit} if limit else {}
    if on.dtype_name != "fp32":
        options["dtype"] = on.dtype_name
    if on.bits:
        options["bits"] = on.bits
    if on.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(on.device)
    runner = get_engine(engine)(on, subject.parts if subject else (), None)
    if merged and isinstance(runner, PackedEngine):
        runner.merge()
    records: list[Record] = []
    rows: list[dict[str, Any]] = []
    attention: list[Attention] = []
    if task.kind == "retrieve":
        layer = round(on.layers * _RETRIEVAL_DEPTH) if layer is None else layer
        if not 0 <= layer <= on.layers:
            raise UsageError(f"--layer {layer}: this backbone has hidden states 0 to {on.layers}.")
        options |= {"layer": layer, "pooling": "mean", "centered": center}
        reader = vector_reader(runner, layer)
    else:
        own = subject.head if subject is not None and task.kind != "mask" else None
        answers = make_head(task.kind, on, task.labels) if own is None else own.build(on)
        reader = head_reader(runner, answers.to(on.device))

    def load(number: int, language: str) -> LanguageSet:
        loaded = source.load(task, split, language, on_bad_row=on_bad_row)
        say(f"{language}: {warning}" for warning in loaded.warnings)
        if loaded.dropped:
            options[f"dropped_rows.{language}"] = len(loaded.dropped)
        if language in task.context_languages:
            options[f"context_language.{language}"] = task.context_languages[language]
        given = (task, loaded.examples[:limit], split, language, on, reader, number)
        return RetrievalSet(*given, center) if task.kind == "retrieve" else HeadSet(*given)

    fused = subject is not None and any(isinstance(part, FusionPart) for part in subject.parts)
    sets = (load(number, language) for number, language in enumerate(chosen))
    with recording(len(chosen)) as seen:
        for found in score_all(
            sets, on, tokens_per_batch, record=seen if fused else None, expected=len(chosen),
            progress=f"{task.name} {split}" if progress else None,
        ):  # fmt: skip
            records += found[0]
            rows += found[1]
    for number, language in enumerate(chosen):
        attention += [Attention.model_validate({"language": language} | _listed(one)) for one in seen.means(number)]
    scores = Scores.build(
        task=task.name,
        base=BaseInfo(name=on.name, fingerprint=on.fingerprint, id=on.id, revision=on.revision),
        module=_module_info(subject, whole),
        seed=seed if seed is not None else int(subject.training.get("seed", 0)) if subject else 0,
        engine=engine,
        records=records,
        expected_languages=expected,
        versions=versions(),
        seconds=round(time.monotonic() - started, 3),
        peak_memory_bytes=peak_memory(on.device),
        source_language=task.source_language,
        train_from=origin,
        options=options,
        attention=attention,
    )
    if out is not None:
        scores.save(out, rows)
    return scores


def _listed(shares: Shares) -> dict[str, Any]:
    return vars(shares) | {"weights": [round(weight, 6) for weight in shares.weights]}


def score_source(
    engine: Engine, head: Head, on: Backbone, task: Task, examples: Sequence[Any], tokens_per_batch: int = 8192
) -> float:
    """The task's primary metric on given examples: what early stopping looks at."""
    asked = HeadSet(task, examples, "dev", task.source_language, on, head_reader(engine, head), 0)
    answer(asked.requests, on, tokens_per_batch=tokens_per_batch)
    return asked.score()[0][0].value


def _check_out(out: Path, task: Task, module: TaskModule | None, overwrite: bool) -> None:
    """Refuse a target that cannot be written or holds other scores, before anything is scored."""
    if out.suffix != ".json":
        raise UsageError(f"--out {out}: expected a name that ends in .json.")
    check_writable(out)
    if out.exists() and not overwrite:
        there = Scores.load(out)
        digest = None if module is None else module.digest()
        if there.task != task.name or there.module.digest != digest:
            raise UsageError(
                f"--out {out}: holds scores of '{there.module.name}' on {there.task}. "
                "Give another --out, or --overwrite to replace them."
            )


def choose_head(module: TaskModule, task: Task, train_from: str | None) -> TaskModule:
    """Of a module of several tasks, it with the head that answers this one."""
    found = module.for_task(*(name for name in (train_from, task.name, task.train_from) if name))
    if found.heads and task.kind not in _HEADLESS:
        there = ", ".join(f"{name} ({head.kind})" for name, head in module.heads.items())
        raise TaskError(
            f"'{module.name}' has no head for {task.name}; it has those of {there}. If one of them is meant, name it "
            "with --train-from."
        )
    return found


def check_fit(module: TaskModule | None, task: Task, train_from: str | None) -> str | None:
    """Check that a module can answer a task; give the training task where it is to be said aloud."""
    if task.kind in _HEADLESS:
        return None
    if module is None or module.head is None:
        what = "The plain backbone" if module is None else f"'{module.name}'"
        raise CompositionError(
            f"{what} has no head for {task.name}. Train one: adapterxl train {task.train_from or task.name}"
            f"{' --start ' + repr(module.composition or str(module.path)) if module else ''}. "
            "Or name the member of a composition whose head answers with --head."
        )
    if module.kind != task.kind:
        raise TaskError(f"'{module.name}' answers {module.kind} tasks, but {task.name} is a {task.kind} task.")
    if module.head.labels != (task.labels if task.kind in ("classify", "tag") else ()):
        raise TaskError(
            f"'{module.name}' has the labels {', '.join(module.head.labels)}, "
            f"but {task.name} has {', '.join(task.labels)}."
        )
    trained = str(module.training.get("train_from") or module.task)
    usual = {task.name, task.train_from or task.name}
    if trained not in usual | {train_from}:
        raise TaskError(
            f"'{module.name}' was trained on {trained}, not on {task.train_from or task.name}, whose training data "
            f"{task.name} has. If that is meant, say --train-from {trained}."
        )
    if train_from is not None and train_from != trained:
        raise TaskError(f"--train-from {train_from}: but '{module.name}' was trained on {trained}.")
    return None if trained == task.name else trained


def choose_split(task: Task, source: DataSource, split: str | None) -> str:
    """The split to score: the one asked for, else the task's own, else the other labelled one."""
    splits = source.splits(task)
    if split is not None:
        if split not in splits or split == "train":
            there = ", ".join(name for name in splits if name != "train") or "none"
            raise TaskError(f"--split {split}: {task.name} has these evaluation splits in {source.describe}: {there}.")
        return split
    for candidate in (task.eval_split, "test", "dev"):
        if candidate in splits:
            return candidate
    raise TaskError(f"{task.name} has no evaluation split in {source.describe}; found: {', '.join(splits) or 'none'}.")


def choose_languages(
    task: Task, source: DataSource, split: str, languages: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    """Languages to score and languages that a whole result would have. "all" is without crossed languages."""
    there = source.languages(task, split)
    if languages == "all":
        own = [key for key in there if len(set(task.spoken(key)) - {None}) == 1]
        return own, list(dict.fromkeys((*task.languages, *own)))
    wanted = languages.split(",") if isinstance(languages, str) else list(languages)
    wanted = list(dict.fromkeys(language.strip() for language in wanted))
    for language in wanted:
        if language not in there:
            raise TaskError(
                f"No language '{language}' for {task.name} {split} in {source.describe}."
                f"{did_you_mean(language, there)} Languages there: {', '.join(there)}."
            )
    return wanted, list(dict.fromkeys(task.spoken(language)[0] for language in wanted))


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on the GPU, or resident on the CPU, at most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _module_info(module: TaskModule | None, whole: TaskModule | None) -> ModuleInfo:
    """What scores say of a module, with the head that it was scored with; its digest is that of all its heads."""
    if module is None or whole is None:
        return ModuleInfo(name="backbone", method="none")
    size = None
    if module.path is not None:
        size = sum(file.stat().st_size for file in module.path.rglob("*") if file.is_file())
    return ModuleInfo(
        name=module.name,
        digest=whole.digest(),
        path=None if module.path is None else str(module.path),
        task=module.task or None,
        method=str(module.training.get("method", module.operator)),
        composition=module.composition,
        parts=[part.name for part in module.parts],
        parameters=int(module.training.get("parameters", module.size())),
        bytes=size,
        train_seconds=module.training.get("seconds"),
    )
