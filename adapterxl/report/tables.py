"""From scores to tables: pure aggregation that HTML, CSV and terminal share. It formats nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from adapterxl.errors import UsageError
from adapterxl.evaluation.scores import BaseInfo, ModuleInfo, Record, Scores, language_values
from adapterxl.report.statistics import Estimate, difference, estimate, mean_of

NO_INTERMEDIATE = "no intermediate task"
CONTEXT = "context "  # starts the detail of a row whose question and context are in two languages

Series = dict[int, float]  # seed -> value


@dataclass(frozen=True)
class Column:
    """One thing compared. `label` names method and engine only where the report holds several."""

    composition: str | None
    method: str
    engine: str
    label: str

    @property
    def is_baseline(self) -> bool:
        return self.composition is None

    @property
    def is_backbone(self) -> bool:
        """The backbone alone, in retrieval: nothing was trained, so no seed has a part in it."""
        return self.is_baseline and self.method == "none"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: Language, or the name of a summary.
        kind: "source", "target", "crossed" (question and context in two languages) or "summary".
        detail: Direction of retrieval or language of the context.
        n: Smallest and largest number of examples behind a cell.
        cells: One a column; None where there is no score.
        remarks: One a column: what a reader must know about that cell, or "".
        best: Positions of the best cells; empty where a comparison would not be fair.
    """

    label: str
    kind: str
    cells: tuple[Estimate | None, ...]
    remarks: tuple[str, ...]
    best: frozenset[int] = frozenset()
    detail: str = ""
    n: tuple[int, int] | None = None


@dataclass(frozen=True)
class Gains:
    """Gain over "no intermediate task", one column per composition that has such a baseline."""

    columns: tuple[int, ...]
    rows: tuple[Row, ...]
    without_baseline: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """The tables of one metric. `points` are the rows of the plot: one a language, directions averaged."""

    metric: str
    primary: bool
    rows: tuple[Row, ...]
    summary: tuple[Row, ...]
    gains: Gains
    points: tuple[Row, ...]


@dataclass(frozen=True)
class Section:
    """What may be compared: one task on one base, one split, one set of primary metrics."""

    task: str
    base: BaseInfo
    source_language: str
    split: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    scores: tuple[tuple[int, Scores], ...]  # (position of the column, scores), by column and seed

    @property
    def is_retrieval(self) -> bool:
        return is_retrieval(self.scores[0][1])

    @property
    def first_mark(self) -> int:
        """Mark of the first column: mark 0, the black one, is kept for a baseline."""
        return 0 if self.columns[0].is_baseline else 1

    def seeds(self, column: int) -> tuple[int, ...]:
        return tuple(scores.seed for position, scores in self.scores if position == column)


def read(scores: Sequence[Scores | str | Path]) -> list[Scores]:
    """Return the scores, reading those that are given as files.

    Raises:
        UsageError: If there is nothing to report.
        DataError: If a file cannot be read.
    """
    if not scores:
        raise UsageError("No scores to report. Give one or more files written by: adapterxl evaluate")
    return [item if isinstance(item, Scores) else Scores.load(item) for item in scores]


def is_retrieval(scores: Scores) -> bool:
    """Scores with directions come from retrieval, which trains nothing for the target task."""
    return any(record.direction is not None for record in scores.records)


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

    Raises:
        UsageError: If two scores have the same task, base, composition, method, engine and seed.
    """
    # The backbone alone and a composition scored as it is were not trained, so they have no method to name.
    methods = {s.module.method for s in everything if s.module.task is not None}
    engines = {s.engine for s in everything}
    found: dict[tuple[str, ...], dict[Column, dict[int, Scores]]] = {}
    for scores in everything:
        composition = composition_of(scores)
        label = composition or NO_INTERMEDIATE
        if len(methods) > 1 and scores.module.task is not None:
            label += f" · {scores.module.method}"
        if len(engines) > 1:
            label += f" · {scores.engine}"
        column = Column(composition, scores.module.method, scores.engine, label)
        by_seed = found.setdefault(_section_key(scores), {}).setdefault(column, {})
        if scores.seed in by_seed:
            raise UsageError(
                f"{by_seed[scores.seed].origin} and {scores.origin} both score task '{scores.task}' after "
                f"'{label}' with seed {scores.seed}. Leave one of them out, or report them apart."
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
    columns = sorted(found, key=lambda c: (not c.is_baseline, c.composition or "", c.method, c.engine))
    ordered = [[scores for _, scores in sorted(found[column].items())] for column in columns]
    everything = [scores for column in ordered for scores in column]
    first = everything[0]
    primary = {record.metric: record.primary for scores in everything for record in scores.records}
    metrics = sorted(primary, key=lambda metric: (not primary[metric], metric))
    return Section(
        task=first.task,
        base=first.base,
        source_language=first.source_language,
        split=split_of(first),
        columns=tuple(columns),
        groups=tuple(_group(metric, primary[metric], columns, ordered) for metric in metrics),
        scores=tuple((position, scores) for position, column in enumerate(ordered) for scores in column),
    )


class _Data:
    """The values of one metric: per column and language, and per column and record key, by seed."""

    def __init__(self, metric: str, columns: Sequence[Column], ordered: Sequence[Sequence[Scores]]) -> None:
        self.columns = columns
        self.source = ordered[0][0].source_language
        self.retrieval = is_retrieval(ordered[0][0])
        self.seeds = [[scores.seed for scores in column] for column in ordered]
        self.languages: list[dict[str, Series]] = []
        self.records: list[dict[tuple[str, str], dict[int, Record]]] = []
        names: set[str] = set()
        for column in ordered:
            by_language: dict[str, Series] = {}
            by_key: dict[tuple[str, str], dict[int, Record]] = {}
            for scores in column:
                names.update(scores.expected_languages)
                records = [record for record in scores.records if record.metric == metric]
                for language, value in language_values(records).get(metric, {}).items():
                    by_language.setdefault(language, {})[scores.seed] = value
                for record in records:
                    crossed = f"{CONTEXT}{record.context_language}" if record.crossed else None
                    detail = crossed or record.direction or ""
                    by_key.setdefault((record.language, detail), {})[scores.seed] = record
            self.languages.append(by_language)
            self.records.append(by_key)
            names.update(by_language)
        self.targets = sorted(names - {self.source})

    def complete(self, column: int) -> list[str]:
        """Target languages that every seed of a column has: only these can enter a mean over seeds."""
        seeds = self.seeds[column]
        return [x for x in self.targets if len(self.languages[column].get(x, {})) == len(seeds)]

    def baseline(self, column: int) -> int | None:
        """Position of the baseline with the same method and engine; in retrieval also the backbone alone.

        Elsewhere method "none" is a head without any module: to compare with it would credit the
        intermediate task with what the target module alone brings.
        """
        mine = self.columns[column]
        for method in (mine.method, "none") if self.retrieval else (mine.method,):
            for position, other in enumerate(self.columns):
                if other.is_baseline and other.method == method and other.engine == mine.engine:
                    return position
        return None

    def gain(self, ours: Series, theirs: Series, base: int) -> Estimate | None:
        """Difference to a baseline; the backbone alone is the same for every seed."""
        if self.retrieval and self.columns[base].is_backbone and len(theirs) == 1:
            theirs = dict.fromkeys(ours, *theirs.values())
        return difference(ours, theirs)


def _group(metric: str, primary: bool, columns: Sequence[Column], ordered: Sequence[Sequence[Scores]]) -> Group:
    data = _Data(metric, columns, ordered)
    return Group(
        metric=metric,
        primary=primary,
        rows=tuple(_record_rows(data)),
        summary=tuple(_summary_rows(data)),
        gains=_gains(data),
        points=tuple(_language_rows(data)),
    )


def best_of(cells: Sequence[Estimate | None], pick: Callable[[Iterable[float]], float] = max) -> frozenset[int]:
    """Positions of the best cells as a reader sees them (one decimal of a percent).

    None is best where a cell is missing or alone, as nothing was beaten.
    """
    shown = {i: round(cell.mean * 100, 1) for i, cell in enumerate(cells) if cell}
    if len(shown) < 2 or len(shown) < len(cells):
        return frozenset()
    top = pick(shown.values())
    return frozenset(i for i, value in shown.items() if value == top)


def _seed_remark(found: int, all_seeds: int) -> str:
    return f"{found} of {all_seeds} seeds" if 0 < found < all_seeds else ""


def _record_rows(data: _Data) -> Iterable[Row]:
    keys = {key for records in data.records for key in records}
    keys |= {(language, "") for language in data.targets if not any(language == key[0] for key in keys)}

    def order(key: tuple[str, str]) -> tuple[bool, bool, str, str]:
        return key[1].startswith(CONTEXT), key[0] != data.source, *key

    for language, detail in sorted(keys, key=order):
        found = [records.get((language, detail), {}) for records in data.records]
        cells = [estimate({seed: record.value for seed, record in by_seed.items()}) for by_seed in found]
        counts = [record.n for by_seed in found for record in by_seed.values()]
        crossed = detail.startswith(CONTEXT)
        yield Row(
            label=language,
            kind="crossed" if crossed else "source" if language == data.source else "target",
            cells=tuple(cells),
            remarks=tuple(_seed_remark(len(f), len(s)) for f, s in zip(found, data.seeds, strict=True)),
            best=best_of(cells),
            detail=detail,
            n=(min(counts), max(counts)) if counts else None,
        )


def _language_rows(data: _Data) -> Iterable[Row]:
    for language in [data.source, *data.targets]:
        cells = [estimate(found.get(language, {})) for found in data.languages]
        if any(cells):
            kind = "source" if language == data.source else "target"
            yield Row(language, kind, tuple(cells), ("",) * len(cells))


def _summary_rows(data: _Data) -> Iterable[Row]:
    means: list[Estimate | None] = []
    worst: list[Estimate | None] = []
    gaps: list[Estimate | None] = []
    coverage: list[str] = []
    lowest: list[str] = []
    for column, found in enumerate(data.languages):
        languages = data.complete(column)
        by_seed = mean_of(found[language] for language in languages)
        means.append(estimate(by_seed))
        coverage.append(_coverage(languages, data.targets))
        _, low = min(((fmean(found[x].values()), x) for x in languages), default=(0.0, ""))
        worst.append(estimate(found.get(low, {})))
        lowest.append(low)
        source = found.get(data.source, {})
        same = source.keys() == by_seed.keys()
        gaps.append(difference(source, by_seed) if same else None)
    rows = [("zero-shot mean", means, coverage, max), ("worst language", worst, lowest, max)]
    if any(gaps):
        rows.append(("transfer gap", gaps, coverage, min))
    for label, cells, remarks, pick in rows:
        best = frozenset() if any(coverage) else best_of(cells, pick)
        yield Row(label, "summary", tuple(cells), tuple(remarks), best)


def _coverage(languages: Sequence[str], targets: Sequence[str]) -> str:
    return "" if list(languages) == list(targets) else f"{len(languages)} of {len(targets)} languages"


def _gains(data: _Data) -> Gains:
    compared: list[tuple[int, int]] = []
    without: list[int] = []
    for column, name in enumerate(data.columns):
        if not name.is_baseline:
            base = data.baseline(column)
            if base is None:
                without.append(column)
            else:
                compared.append((column, base))
    rows: list[Row] = []
    for language in [data.source, *data.targets]:
        found = [columns.get(language, {}) for columns in data.languages]
        cells = tuple(data.gain(found[column], found[base], base) for column, base in compared)
        if any(cells):
            kind = "source" if language == data.source else "target"
            rows.append(Row(language, kind, cells, ("",) * len(cells)))
    means, remarks = [], []
    for column, base in compared:
        ours, theirs = data.languages[column], data.languages[base]
        common = [x for x in data.complete(column) if x in data.complete(base)]
        means.append(data.gain(mean_of(ours[x] for x in common), mean_of(theirs[x] for x in common), base))
        remarks.append(_coverage(common, data.targets))
    if compared:
        rows.append(Row("mean", "summary", tuple(means), tuple(remarks)))
    return Gains(tuple(column for column, _ in compared), tuple(rows), tuple(without))


def module_groups(section: Section) -> list[tuple[Column, list[tuple[int, ModuleInfo]]]]:
    """Return, per column, the modules with their seeds."""
    return [
        (column, [(scores.seed, scores.module) for found, scores in section.scores if found == position])
        for position, column in enumerate(section.columns)
    ]
