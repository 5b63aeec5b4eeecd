"""What a card says of a module, drawn from its manifest, its parts and its results; nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..artifacts import Manifest
from ..report.lineage import augmentations
from ..tasks import Task, all_tasks
from .markdown import Markdown, code, codes, escape, plain
from .results import Result

if TYPE_CHECKING:
    from ..artifacts import TaskModule

_KINDS = {"lora": "LoRA", "bottleneck": "bottleneck adapter", "fusion": "fusion"}
_HUB = re.compile(r"hub dataset (\S+) \(")
_DIGITS = 12  # of a digest, where the whole one stands elsewhere
_FEW = 200  # examples below which a difference of some points may be chance
# Recorded settings, in the order in which a reader wants them.
_OPTIONS = ("rank", "alpha", "variant", "reduction", "sites", "layers", "dropout")
_SETTINGS = ("epochs", "max_steps", "batch_size", "tokens_per_batch", "accumulation", "warmup", "weight_decay",
             "max_grad_norm", "max_length", "patience", "eval_every")  # fmt: skip


def what(manifest: Manifest) -> Markdown:
    """One sentence on what the folder holds."""
    on = f"the frozen encoder {code(manifest.base.name)}"
    if manifest.operator != "train":
        made = code(manifest.composition or manifest.operator)
        return Markdown(f"{made}: a composition of {len(manifest.parts)} modules over {on}.")
    method = str(manifest.training.get("method", ""))
    own = _KINDS.get(method) or (_KINDS[manifest.parts[-1].kind] if manifest.parts and method != "none" else None)
    thing = f"A {own} module" if own else "A head"
    after = f", trained on top of {code(manifest.composition)}" if manifest.composition else ""
    goal = f" for {code(manifest.task)}" if manifest.task else ""
    return Markdown(f"{thing}{goal} on {on}{after}.")


def training(manifest: Manifest, task: Task | None) -> list[tuple[str, Markdown]]:
    """What is recorded of the training, as (label, value) pairs."""
    found = manifest.training
    rows: list[tuple[str, Markdown]] = []

    def put(label: str, value: Any) -> None:
        if value is not None and value != "":
            rows.append((label, value if isinstance(value, Markdown) else escape(_show(value))))

    trained = found.get("train_from") or manifest.task
    put("task", code(trained) if trained else None)
    put("source", task.source if task else None)
    put("rows", found.get("rows"))
    put("dev rows", found.get("dev_rows"))
    put("rows left out as bad", found.get("dropped_rows") or None)
    put("rows cut to the longest length", found.get("truncated_rows") or None)
    put("data", Markdown("; ".join(escape(origin) for origin in _list(found.get("data")))) or None)
    put("augmented by", code(how) if (how := augmentations(found)) else None)
    put("method", found.get("method"))
    put("options", _pairs(found.get("options"), _OPTIONS))
    put("trained weights, head included", found.get("parameters"))
    put("learning rate", found.get("lr"))
    put("settings", _pairs(found.get("settings"), _SETTINGS))
    put("steps", found.get("steps"))
    put("seed", found.get("seed"))
    put("engine", found.get("engine"))
    put("dtype", found.get("dtype"))
    put("bits of the frozen matrices", found.get("bits"))
    put("score on the dev rows", found.get("dev_score"))
    put("labels", codes(manifest.head.labels) if manifest.head and manifest.head.labels else None)
    put("versions", ", ".join(f"{package} {version}" for package, version in sorted(manifest.versions.items())))
    return rows


def lineage(manifest: Manifest) -> Markdown:
    """How it came about, in a sentence or two."""
    started = manifest.training.get("start_digest")
    if manifest.operator != "train":
        return Markdown(f"Operator {code(manifest.operator)}: {code(manifest.composition or '')}.")
    if not manifest.composition:
        return Markdown("Trained on the plain backbone: there was no intermediate task.")
    digest = f" (module digest {code(str(started)[:_DIGITS])})" if started else ""
    kept = (
        "whose members stayed frozen and are part of it"
        if manifest.training.get("fusion")
        else ("which stayed frozen and is part of it")
    )
    return Markdown(f"Trained on top of {code(manifest.composition)}{digest}, {kept}.")


def parts(manifest: Manifest, module: TaskModule) -> list[dict[str, Any]]:
    """The parts in order, with the names of those that each was trained on top of."""
    names = {entry.digest: entry.name for entry in manifest.parts}
    return [
        {
            "name": entry.name,
            "task": entry.task,
            "kind": _KINDS[entry.kind],
            "weights": f"{part.size():,}",
            "digest": entry.digest[:_DIGITS],
            "parents": [names.get(digest, digest[:_DIGITS]) for digest in entry.trained_on],
        }
        for entry, part in zip(manifest.parts, module.parts, strict=True)
    ]


def base(manifest: Manifest, known: str | None) -> Markdown:
    """The backbone in words; with a link where it has a hub id."""
    entry = manifest.base
    sizes = f"{entry.model_type}, {entry.layers} layers, hidden size {entry.hidden_size}"
    if known is None:
        return Markdown(
            f"{code(entry.name)} ({sizes}). It has no hub id here: it is identified by its fingerprint alone."
        )
    revision = f", revision {code(entry.revision)}" if entry.revision else ""
    return Markdown(f"[{known}](https://huggingface.co/{known}) ({sizes}{revision})")


def evaluation(result: Result) -> Markdown:
    """How the scores came about."""
    own, said = result.own, []
    if own.train_from is not None:
        said.append(f"trained on {code(own.train_from)}")
    if any(f"{own.source_language}->{record.language}" == record.direction for record in own.records
           if record.language != own.source_language):  # fmt: skip
        said.append("both directions averaged")
    said += [f"{escape(name)} {escape(value)}" for name, value in sorted(own.options.items()) if value is not None]
    said.append(f"engine {code(own.engine)}")
    if len(result.seeds) == 1:
        return Markdown(f"Scored with: {'; '.join([*said, f'seed {own.seed}'])}.")
    said.append(f"seeds {', '.join(map(str, result.seeds))}")
    return Markdown(f"Scored with: {'; '.join(said)}. The weights here are of seed {own.seed}.")


def limits(manifest: Manifest, results: Sequence[Result]) -> list[Markdown]:
    """What a reader must not overlook, from the data itself."""
    said = [f"It fits the backbone with the fingerprint above and no other; {code('adapterxl')} refuses any other."]
    for result in results:
        task, own = code(result.own.task), result.own
        if own.missing_languages:
            said.append(f"{task}: not scored in {codes(own.missing_languages)}; the mean leaves them out.")
        if own.options.get("limit"):
            said.append(f"{task}: scored on the first {escape(own.options['limit'])} examples of each language only.")
        fewest = min(record.n for record in own.records)
        if fewest < _FEW:
            said.append(f"{task}: as few as {fewest} examples in a language; small differences may be chance.")
        if len(result.seeds) == 1:
            said.append(f"{task}: scored with one seed; the spread over seeds is not known.")
    if manifest.head is None:
        said.append("It has no head: it answers no task until one is tuned on top of it.")
    if not results:
        said.append("Nothing is known of how well it works.")
    return [Markdown(sentence) for sentence in said]


def hub_datasets(manifest: Manifest) -> list[str]:
    """Hub ids of the training data. Only ids that a shipped task names count: others may be local folders."""
    known = {source.id for task in all_tasks().values() for source in task.hub}
    found = [match[1] for origin in _list(manifest.training.get("data")) if (match := _HUB.match(str(origin)))]
    return [name for name in dict.fromkeys(found) if name in known]


def _show(value: Any) -> str:
    if type(value) is int:
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pairs(found: Any, names: Sequence[str]) -> str | None:
    """Known entries of a mapping as "rank 8; sites query key"."""
    if not isinstance(found, dict):
        return None
    return "; ".join(f"{name} {plain(_show(found[name]))}" for name in names if found.get(name) is not None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
