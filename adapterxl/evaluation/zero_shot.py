"""Evaluate a module in every language of a task: predictions, metrics, scores."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args, overload

import torch

from ..artifacts import TaskModule
from ..artifacts.module import check_base, versions
from ..artifacts.store import check_writable
from ..backbone import Backbone
from ..console import say
from ..data.perturb import Perturbation
from ..data.prepare import Prepared
from ..data.resolve import DataLike, TaskLike, resolve_task
from ..data.source import DataSource, OnBadRow
from ..engines import Engine, get_engine
from ..engines.packed import PackedEngine
from ..errors import CompositionError, TaskError, UsageError
from ..modules import FusionPart, Head, make_head
from ..modules.attention_record import Shares, recording
from ..operators import Member, compose
from ..tasks.base import Task
from .choices import choose_languages, choose_split
from .languages import HeadSet, LanguageSet, Pooling, score_all, vector_reader
from .layers import layer_score
from .layers import sweep_layers as try_layers
from .predict import Reader, answer, head_reader
from .scores import Attention, BaseInfo, ModuleInfo, Option, Record, Scores
from .sets import Sets

# jiant and XTREME pool hidden state 14 of XLM-R large's 24 layers; other depths take the same share.
_RETRIEVAL_DEPTH = 14 / 24
_HEADLESS = ("retrieve", "mask")  # kinds that need no head of a module

TaskList = list[str] | list[Path] | list[Task] | tuple[TaskLike, ...]


@overload
def evaluate(module: Member | None, *, on: Backbone, task: TaskLike, **options: Any) -> Scores: ...


@overload
def evaluate(module: Member | None, *, on: Backbone, task: TaskList, **options: Any) -> dict[str, Scores]: ...


def evaluate(  # type: ignore[misc] # the overloads leave the options to the one signature that people read
    module: Member | None,
    *,
    on: Backbone,
    task: TaskLike | TaskList,
    languages: str | Sequence[str] = "all",
    split: str | None = None,
    data: DataLike = None,
    engine: str = "packed",
    limit: int | None = None,
    layer: int | None = None,
    sweep_layers: str | Sequence[str] | None = None,
    pooling: Pooling = "mean",
    center: bool = False,
    perturb: str | Perturbation | None = None,
    train_from: str | None = None,
    head: str | None = None,
    tokens_per_batch: int = 8192,
    merged: bool = True,
    seed: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    on_bad_row: OnBadRow = "stop",
    progress: bool = True,
) -> Scores | dict[str, Scores]:
    """Score a module in the languages of a task, or of several. Rows of all share batches of one length.

    Args:
        module: A module, its folder, or (for retrieval and plain text, which need no head) a composition; None or
            "none" for the plain backbone.
        task: One task; or a list of them for a dict of scores by task name, the same as of one after another. A module
            of a mix answers each with that task's head; rows that several heads read run once.
        languages: "all", language codes that every task has, or the name of a benchmark, whose languages are taken:
            "xtreme", "xtreme-r". With a name, languages that the data does not hold make the result partial.
        split: The task's evaluation split by default: test, or dev where only dev is labelled.
        limit: First examples of each language only. Where queries are ranked, the pool stays whole.
        layer: Retrieval: hidden state to pool (0: embeddings); 14/24 of the depth by default.
        sweep_layers: Retrieval: dev languages to choose the layer on, of all layers: on their dev rows, or, where there
            are none, on the rows of the split, which are then not reported.
        pooling: Retrieval: "mean" of a text's hidden states, or "cls", that of its first token.
        center: Retrieval: subtract each side's mean, or in a pool of languages that of each, before the cosine.
        perturb: Score a perturbed copy of the input, such as "characters=0.1" or "casing=lower"; see `Perturbation`.
        train_from: Say so when the module was trained on another task than the one whose training data this
            task has (xquad after tydiqa).
        head: Of a composition: the member whose head answers.
        merged: Run with LoRA and IA3 parts added to copies of the weights, within rounding the same: less to compute,
            for the memory of the copies. The packed engine does so on a backbone in full precision; else never.
        seed: Recorded with the scores; the module's own by default.
        out: scores.json to write; predictions go beside it. Of a list of tasks: a folder with ``<task>.json`` each
            (``<task>.perturbed.json``), written when the task is done. Scores of another module, task or input that are
            there are not replaced without
        overwrite: which says that they may be.

    Raises:
        TaskError, DataError, BackboneError, CompositionError, UsageError: Before anything slow starts, where possible.
    """
    started = time.monotonic()
    several = isinstance(task, list | tuple)
    resolved = [resolve_task(each, data) for each in (task if isinstance(task, list | tuple) else [task])]
    names = [each.name for each, _ in resolved]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"tasks: found {', '.join(names) or 'none'}; expected one or more, each once.")
    if module is None or module == "none":
        if head is not None:
            raise UsageError(f"--head {head}: the plain backbone has none, and no member either.")
        whole = None
    else:
        whole = compose(module, head=head)
    check_base(whole, on)
    if several and out is not None and Path(out).suffix == ".json":
        raise UsageError(f"--out {out}: expected a folder, as there is a list of tasks; it gets a file for each.")
    changed = Perturbation.parse(perturb) if isinstance(perturb, str) else perturb
    suffix = "" if changed is None else ".perturbed"
    asked = [
        _Asked(
            each, source, whole, split, languages, train_from, sweep_layers, changed,
            None if out is None else Path(out, f"{each.name}{suffix}.json") if several else Path(out), overwrite,
        )
        for each, source in resolved
    ]  # fmt: skip
    say(dict.fromkeys(note for each in asked for note in each.notes))
    if limit is not None and limit < 1:
        raise UsageError(f"limit: found {limit}, expected at least 1 example.")
    if pooling not in get_args(Pooling):
        raise UsageError(f"pooling: found '{pooling}', expected mean or cls.")
    if sweep_layers is not None and (layer is not None or not any(each.kind == "retrieve" for each, _ in resolved)):
        other = "retrieval, and no task is" if layer is None else f"choosing the layer, and layer {layer} is given"
        raise UsageError(f"--sweep-layers: is for {other}; leave one out.")
    layer = round(on.layers * _RETRIEVAL_DEPTH) if layer is None else layer
    if any(each.kind == "retrieve" for each, _ in resolved) and not 0 <= layer <= on.layers:
        raise UsageError(f"--layer {layer}: this backbone has hidden states 0 to {on.layers}.")
    options: dict[str, Option] = {"limit": limit} if limit else {}
    if changed is not None:
        options["perturbation"] = str(changed)
    if on.dtype_name != "fp32":
        options["dtype"] = on.dtype_name
    if on.bits:
        options["bits"] = on.bits
    if on.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(on.device)
    parts = whole.parts if whole else ()
    runner = get_engine(engine)(on, parts, None)
    if merged and isinstance(runner, PackedEngine):
        runner.merge()
    readers = dict[int, Reader]()
    vectors = {layer: vector_reader(runner, layer, pooling)}
    for each in asked:
        each.options = dict(options)
        each.sets = Sets(
            each.task, each.source, on, each.options, limit=limit, on_bad_row=on_bad_row, center=center,
            perturbation=changed, tokens_per_batch=tokens_per_batch, progress=progress,
        )  # fmt: skip
        if each.task.kind == "retrieve":
            best = layer
            if each.dev:
                score = layer_score(each.sets, runner, on, each.dev_split, each.dev, pooling)
                found_best = try_layers(score, range(on.layers + 1), each.dev)
                best = found_best.layer
                each.options |= {"layer_chosen_on": f"{' '.join(each.dev)} ({each.dev_split})",
                                 "layer_sweep": str(found_best)}  # fmt: skip
                say([f"{each.task.name}: layer {best}, chosen on {each.options['layer_chosen_on']} ({found_best})"])
            each.options |= {"layer": best, "pooling": pooling, "centered": center}
            each.reader = vectors.setdefault(best, vector_reader(runner, best, pooling))
        elif each.task.kind == "mask":  # the backbone's own head
            each.reader = head_reader(runner, make_head("mask", on, each.task.labels).to(on.device))
        else:
            assert each.subject is not None and each.subject.head is not None
            state = each.subject.head  # tasks may share one
            if id(state) not in readers:
                readers[id(state)] = head_reader(runner, state.build(on).to(on.device))
            each.reader = readers[id(state)]
    places = [(each, language) for each in asked for language in each.chosen]

    def load() -> Iterator[LanguageSet]:
        owner = 0
        for each in asked:
            yield from each.sets.of(each.split, each.chosen, each.reader, range(owner, owner + len(each.chosen)))
            owner += len(each.chosen)

    fused = any(isinstance(part, FusionPart) for part in parts)
    what = f"{len(asked)} tasks" if several else f"{names[0]} {asked[0].split}"
    begun = (time.monotonic() - started) / len(asked)
    results: dict[str, Scores] = {}
    with recording(len(places)) as seen:
        found = score_all(
            load(), on, tokens_per_batch, record=seen if fused else None, expected=len(places),
            progress=what if progress else None,
        )  # fmt: skip
        for each in asked:
            records: list[Record] = []
            rows: list[dict[str, Any]] = []
            seconds = begun
            for (new_records, new_rows), share in islice(found, 1 if each.sets.together else len(each.chosen)):
                records += new_records
                rows += new_rows
                seconds += share
            attention = [
                Attention.model_validate({"language": language} | _listed(one))
                for owner, (whose, language) in enumerate(places)
                if whose is each
                for one in seen.means(owner)
            ]
            scores = results[each.task.name] = Scores.build(
                task=each.task.name,
                base=BaseInfo(name=on.name, fingerprint=on.fingerprint, id=on.id, revision=on.revision),
                module=_module_info(each.subject, whole),
                seed=seed if seed is not None else int(each.subject.training.get("seed", 0)) if each.subject else 0,
                engine=engine,
                records=records,
                expected_languages=each.expected,
                versions=versions(),
                seconds=round(seconds, 3),
                peak_memory_bytes=peak_memory(on.device),
                source_language=each.task.source_language,
                train_from=each.origin,
                options=each.options,
                attention=attention,
            )
            if each.out is not None:
                scores.save(each.out, rows)
    return results if several else scores


class _Asked:
    """One task of an evaluation, checked before anything runs."""

    reader: Reader
    sets: Sets

    def __init__(
        self,
        task: Task,
        source: DataSource,
        whole: TaskModule | None,
        split: str | None,
        languages: str | Sequence[str],
        train_from: str | None,
        sweep: str | Sequence[str] | None,
        changed: Perturbation | None,
        out: Path | None,
        overwrite: bool,
    ) -> None:
        self.task, self.source, self.out = task, source, out
        self.options: dict[str, Option] = {}
        self.split = choose_split(task, source, split)
        self.chosen, self.expected = choose_languages(task, source, self.split, languages)
        self.dev, self.dev_split = self._dev(sweep)
        self.subject = whole and choose_head(whole, task, train_from)
        self.origin = check_fit(self.subject, task, train_from)
        self.notes = list(self.subject.notes) if self.subject else []
        if self.origin is not None:
            name = self.subject.name if self.subject else ""
            self.notes.append(f"'{name}' was trained on {self.origin}, not on {task.name}.")
        if out is not None:
            _check_out(out, task, whole, changed, overwrite)

    def _dev(self, sweep: str | Sequence[str] | None) -> tuple[list[str], str]:
        """The languages and the split to choose a layer on. What is chosen on is not scored."""
        if sweep is None or self.task.kind != "retrieve":
            return [], ""
        split = "dev" if "dev" in self.source.splits(self.task) else self.split
        dev, _ = choose_languages(self.task, self.source, split, sweep)
        if split == self.split:
            self.chosen = [language for language in self.chosen if language not in dev]
            if not self.chosen:
                raise UsageError(
                    f"--sweep-layers: {self.task.name} has no dev rows, so that the layer is chosen on {split} rows of "
                    f"{', '.join(dev)}, and no language is left to be scored; expected other --languages."
                )
        return dev, split


def _listed(shares: Shares) -> dict[str, Any]:
    return vars(shares) | {"weights": [round(weight, 6) for weight in shares.weights]}


def score_source(
    engine: Engine, head: Head, on: Backbone, task: Task, examples: Prepared, tokens_per_batch: int = 8192
) -> float:
    """The task's primary metric on given examples: what early stopping looks at."""
    asked = HeadSet(task, examples, "dev", task.source_language, on, head_reader(engine, head), 0)
    answer(asked.requests, on, tokens_per_batch=tokens_per_batch)
    return asked.score()[0][0].value


def _check_out(out: Path, task: Task, module: TaskModule | None, changed: Perturbation | None, overwrite: bool) -> None:
    """Refuse a target that cannot be written or holds other scores, before anything is scored."""
    if out.suffix != ".json":
        raise UsageError(f"--out {out}: expected a name that ends in .json.")
    check_writable(out)
    if out.exists() and not overwrite:
        there = Scores.load(out)
        digest = None if module is None else module.digest()
        before = there.options.get("perturbation")
        if there.task != task.name or there.module.digest != digest or before != (changed and str(changed)):
            input_was = f", input {before}" if before else ""
            raise UsageError(
                f"--out {out}: holds scores of '{there.module.name}' on {there.task}{input_was}. "
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
