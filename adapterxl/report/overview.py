"""Several tasks at a glance: their zero-shot means side by side, averaged with and without retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapterxl.evaluation.scores import BaseInfo
from adapterxl.report.statistics import Estimate, estimate, mean_of
from adapterxl.report.tables import NO_INTERMEDIATE, Row, Section, best_of


@dataclass(frozen=True)
class Overview:
    """Zero-shot means of several tasks on one base, with their averages."""

    base: BaseInfo
    labels: tuple[str, ...]
    rows: tuple[Row, ...]


def overviews(found: Sequence[Section]) -> list[Overview]:
    """Return one table of zero-shot means per base that has two tasks or more.

    The average over tasks mixes metrics, as benchmarks do; it is given with and without retrieval, which
    moves by tens of points where other tasks move by one. A task counts once, by its first primary metric.
    """
    by_base: dict[tuple[str, str], list[Section]] = {}
    for section in found:
        by_base.setdefault((section.base.fingerprint, section.source_language), []).append(section)
    result = []
    for group in by_base.values():
        if len({section.task for section in group}) < 2:
            continue
        labels = sorted(
            {column.label for section in group for column in section.columns},
            key=lambda label: (not label.startswith(NO_INTERMEDIATE), label),
        )
        rows = [_overview_row(section, labels) for section in group]
        plain = [row for row, section in zip(rows, group, strict=True) if not section.is_retrieval]
        if len(group) == len({section.task for section in group}):  # two splits of a task have no average
            averages = [("mean of tasks", rows)]
            if 1 < len(plain) < len(rows):
                averages.append(("mean without retrieval", plain))
            means = [_average(name, members, len(labels)) for name, members in averages]
            rows += [row for row in means if any(row.cells)]
        result.append(Overview(group[0].base, tuple(labels), tuple(rows)))
    return result


def _overview_row(section: Section, labels: Sequence[str]) -> Row:
    summary = section.groups[0].summary[0]
    place = {column.label: position for position, column in enumerate(section.columns)}
    cells = tuple(summary.cells[place[label]] if label in place else None for label in labels)
    remarks = tuple(summary.remarks[place[label]] if label in place else "" for label in labels)
    detail = f"{section.groups[0].metric}, {section.split}"
    best = frozenset() if any(remarks) else best_of(cells)
    return Row(section.task, "target", cells, remarks, best, detail)


def _average(name: str, members: Sequence[Row], width: int) -> Row:
    cells: list[Estimate | None] = []
    for position in range(width):
        found = [row.cells[position] for row in members if not row.remarks[position]]
        known = [cell for cell in found if cell is not None]
        if len(known) < len(members):
            cells.append(None)
            continue
        seeds = {tuple(seed for seed, _ in cell.by_seed) for cell in known}
        means = Estimate(sum(cell.mean for cell in known) / len(known), None, ())
        cells.append(estimate(mean_of(dict(cell.by_seed) for cell in known)) if len(seeds) == 1 else means)
    return Row(name, "summary", tuple(cells), ("",) * width, best_of(cells))
