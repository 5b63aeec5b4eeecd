"""From scores to sections: what may be compared is put together, what may not is kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adapterxl.errors import UsageError
from adapterxl.evaluation.scores import Scores
from adapterxl.report.cells import Cells
from adapterxl.report.lineage import variants
from adapterxl.report.model import Column, Section, is_retrieval
from adapterxl.report.predictions import read_predictions
from adapterxl.report.rows import group


def read(scores: Sequence[Scores | str | Path]) -> list[Scores]:
    """Return the scores, reading those that are given as files.

    Raises:
        UsageError: If there is nothing to report.
        DataError: If a file cannot be read.
    """
    if not scores:
        raise UsageError("No scores to report. Give one or more files written by: adapterxl evaluate")
    return [item if isinstance(item, Scores) else Scores.load(item) for item in scores]


def composition_of(scores: Scores) -> str | None:
    """Return the intermediate tasks as text, None for the baseline.

    In retrieval there is no target training: whatever the module was trained for *is* intermediate.
    """
    module = scores.module
    if not is_retrieval(scores) or module.task is None or module.task == module.composition:
        return module.composition
    return f"{module.composition}, then {module.task}" if module.composition else module.task


def split_of(scores: Scores) -> str:
    """Return the split in words; languages that were scored on another one are named."""
    by_split: dict[str, set[str]] = {}
    for record in scores.records:
        by_split.setdefault(record.split, set()).add(record.language)
    main, *others = sorted(by_split, key=lambda split: (-len(by_split[split]), split))
    return main + "".join(f", {split} for {' '.join(sorted(by_split[split]))}" for split in others)


def sections(everything: Sequence[Scores]) -> list[Section]:
    """Sort scores into sections; different bases, splits and primary metrics are never put together.

    Predictions beside the files of the scores are read here.

    Raises:
        UsageError: If two scores have the same task, base, composition, method, options, engine and seed.
        DataError: If there is a file of predictions that cannot be read.
    """
    # The backbone alone and a composition scored as it is were not trained, so they have no method to name.
    methods = {s.module.method for s in everything if s.module.task is not None}
    engines = {s.engine for s in everything}
    found: dict[tuple[str, ...], dict[Column, dict[int, Scores]]] = {}
    for scores, variant in zip(everything, variants(everything), strict=True):
        trained = scores.module.task is not None
        family = [scores.module.method] if trained and len(methods) > 1 else []
        family += [variant] if variant else []
        family += [scores.engine] if len(engines) > 1 else []
        perturbed = str(scores.options.get("perturbation") or "")
        family += [f"input {perturbed}"] if perturbed else []
        column = Column(
            composition_of(scores), scores.module.method, scores.engine, variant, " · ".join(family), trained, perturbed
        )
        by_seed = found.setdefault(_section_key(scores), {}).setdefault(column, {})
        if scores.seed in by_seed:
            raise UsageError(
                f"{by_seed[scores.seed].origin} and {scores.origin} both score task '{scores.task}' after "
                f"'{column.label}' with seed {scores.seed}. Leave one of them out, or report them apart."
            )
        by_seed[scores.seed] = scores
    return [_section(columns) for _, columns in sorted(found.items(), key=lambda item: item[0])]


def _section_key(scores: Scores) -> tuple[str, ...]:
    metrics = sorted({record.metric for record in scores.records if record.primary})
    return (
        str(is_retrieval(scores)),  # retrieval last
        scores.task,
        scores.base.fingerprint,
        scores.source_language,
        split_of(scores),
        *metrics,
    )


def _section(found: Mapping[Column, Mapping[int, Scores]]) -> Section:
    columns = sorted(found, key=lambda column: column.order)
    ordered = [[scores for _, scores in sorted(found[column].items())] for column in columns]
    everything = [scores for column in ordered for scores in column]
    predictions = [[read_predictions(scores) for scores in column] for column in ordered]
    first = everything[0]
    primary = {record.metric: record.primary for scores in everything for record in scores.records}
    metrics = sorted(primary, key=lambda metric: (not primary[metric], metric))
    reasons = [one.missing for column in predictions for one in column]
    return Section(
        task=first.task,
        base=first.base,
        source_language=first.source_language,
        split=split_of(first),
        columns=tuple(columns),
        groups=tuple(
            group(metric, primary[metric], Cells(metric, columns, ordered, predictions)) for metric in metrics
        ),
        scores=tuple((position, scores) for position, column in enumerate(ordered) for scores in column),
        missing=tuple((position, reason) for position, reason in enumerate(reasons) if reason),
    )
