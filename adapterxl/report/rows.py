"""From measurements to the rows of tables: languages, summaries, gains. It formats nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from adapterxl.report.cells import Cells
from adapterxl.report.model import CONTEXT, Gains, Group, Row, best_of
from adapterxl.report.predictions import Place
from adapterxl.report.statistics import Estimate, Sample, difference, estimate, holm, mean_of, spread_of, together

K = TypeVar("K")


def group(metric: str, primary: bool, cells: Cells) -> Group:
    """Return all tables of one metric."""
    gains = _gains(cells)
    pairs = [(column, cells.baseline(column)) for column in gains.columns]
    return Group(
        metric=metric,
        primary=primary,
        rows=tuple(_record_rows(cells)),
        summary=tuple(_summary_rows(cells)),
        gains=gains,
        points=tuple(_language_rows(cells)),
        uneven=tuple(cells.uneven),
        unpaired=tuple((c, name) for c, base in pairs if base is not None for name in cells.unpaired(c, base)),
    )


def _detail(where: Place) -> str:
    language, context, direction = where
    return f"{CONTEXT}{context}" if context not in (None, language) else direction or ""


def _kind(language: str, cells: Cells) -> str:
    return "source" if language == cells.source else "target"


def _record_rows(cells: Cells) -> Iterable[Row]:
    places: set[Place] = {where for records in cells.records for where in records}
    measured = {language for language, *_ in places}
    places |= {(language, None, None) for language in cells.targets if language not in measured}

    def order(where: Place) -> tuple[bool, bool, str, str]:
        return _detail(where).startswith(CONTEXT), where[0] != cells.source, where[0], _detail(where)

    columns = [_estimated(samples) for samples in cells.samples]
    for where in sorted(places, key=order):
        found = [records.get(where, {}) for records in cells.records]
        values = [column.get(where) for column in columns]
        counts = [record.n for by_seed in found for record in by_seed.values()]
        yield Row(
            label=where[0],
            kind="crossed" if _detail(where).startswith(CONTEXT) else _kind(where[0], cells),
            cells=tuple(values),
            remarks=tuple(_seed_remark(len(f), len(s)) for f, s in zip(found, cells.seeds, strict=True)),
            best=best_of(values),
            detail=_detail(where),
            n=(min(counts), max(counts)) if counts else None,
        )


def _estimated(samples: Mapping[K, Sample]) -> dict[K, Estimate | None]:
    """Return the estimates of one column."""
    return dict(zip(samples, together([estimate(sample) for sample in samples.values()]), strict=True))


def _seed_remark(found: int, all_seeds: int) -> str:
    return f"{found} of {all_seeds} seeds" if 0 < found < all_seeds else ""


def _language_rows(cells: Cells) -> Iterable[Row]:
    columns = [_estimated(found) for found in cells.languages]
    for language in [cells.source, *cells.targets]:
        values = [column.get(language) for column in columns]
        if any(values):
            yield Row(language, _kind(language, cells), tuple(values), ("",) * len(values))


def _summary_rows(cells: Cells) -> Iterable[Row]:
    means: list[Estimate | None] = []
    worst: list[Estimate | None] = []
    gaps: list[Estimate | None] = []
    coverage: list[str] = []
    lowest: list[str] = []
    spreads: list[Estimate | None] = []
    for column, found in enumerate(cells.languages):
        languages = cells.complete(column)
        mean = mean_of(found[name] for name in languages)
        means.append(estimate(mean))
        coverage.append(_coverage(languages, cells.targets))
        low = cells.worst(column)
        spreads.append(estimate(spread_of(found[name] for name in languages)))
        worst.append(_estimated(found).get(low))
        lowest.append(low)
        source = found.get(cells.source)
        same = source and mean and source.by_seed.keys() == mean.by_seed.keys()
        gaps.append(difference(source, mean) if same else None)
    rows: list[tuple[str, list[Estimate | None], list[str], Callable[[Iterable[float]], float] | None]]
    rows = [("zero-shot mean", means, coverage, max), ("worst language", worst, lowest, max)]
    if any(spreads):
        rows.append(("spread of languages", spreads, coverage, None))
    if any(gaps):
        rows.append(("transfer gap", gaps, coverage, min))
    for label, values, remarks, pick in rows:
        best = frozenset() if any(coverage) or pick is None else best_of(values, pick)
        yield Row(label, "summary", tuple(values), tuple(remarks), best)


def _coverage(languages: Sequence[str], targets: Sequence[str]) -> str:
    return "" if list(languages) == list(targets) else f"{len(languages)} of {len(targets)} languages"


def _gains(cells: Cells) -> Gains:
    compared: list[tuple[int, int]] = []
    without: list[int] = []
    for column, name in enumerate(cells.columns):
        if not name.is_baseline:
            base = cells.baseline(column)
            if base is None:
                without.append(column)
            else:
                compared.append((column, base))
    if not compared:
        return Gains((), (), tuple(without))
    languages = [cells.source, *cells.targets]
    table: list[list[Estimate | None]] = []  # one list a column
    means, remarks = [], []
    for column, base in compared:
        ours, theirs = cells.languages[column], cells.languages[base]
        found = [cells.gain(ours.get(name), theirs.get(name), base) for name in languages]
        table.append(holm(together(found, signed=True)))  # the family: all languages of one composition
        common = [name for name in cells.complete(column) if name in cells.complete(base)]
        means.append(cells.gain(mean_of(ours[x] for x in common), mean_of(theirs[x] for x in common), base))
        remarks.append(_coverage(common, cells.targets))
    rows = [
        Row(name, _kind(name, cells), tuple(found), ("",) * len(found))
        for name, found in zip(languages, zip(*table, strict=True), strict=True)
        if any(found)
    ]
    # The family of the means: all compositions of the table.
    rows.append(Row("mean", "summary", tuple(holm(means)), tuple(remarks)))
    return Gains(tuple(column for column, _ in compared), tuple(rows), tuple(without))
