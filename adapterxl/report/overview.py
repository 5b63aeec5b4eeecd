"""Several tasks at a glance: intermediate tasks by target tasks, averaged with and without retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapterxl.evaluation.scores import BaseInfo
from adapterxl.report.model import NO_INTERMEDIATE, Column, Section
from adapterxl.report.statistics import Estimate, estimate, for_seeds, holm, mean_of

WITH, WITHOUT = "mean with retrieval", "mean without retrieval"


@dataclass(frozen=True)
class Target:
    """One column: a target task, or an average over tasks (which has no detail)."""

    name: str
    detail: str = ""


@dataclass(frozen=True)
class Line:
    """One composition over all targets.

    Attributes:
        column: The composition, its method and engine; lines of one family stand together.
        means: Zero-shot mean per target; None where there is no whole one.
        gains: Mean gain over the reference of the family; all None for the reference itself.
        remarks: Per target, what keeps the cell from being compared, or "".
        gain_remarks: The same of a gain, whose reference may lack languages too.
        seedless: Targets where the backbone alone was scored, once for all seeds.
    """

    column: Column
    means: tuple[Estimate | None, ...]
    gains: tuple[Estimate | None, ...]
    remarks: tuple[str, ...]
    gain_remarks: tuple[str, ...]
    seedless: frozenset[int] = frozenset()

    @property
    def label(self) -> str:
        return self.column.composition or NO_INTERMEDIATE

    @property
    def is_reference(self) -> bool:
        return self.column.is_baseline


@dataclass(frozen=True)
class Overview:
    """Zero-shot means and gains of several tasks on one base."""

    base: BaseInfo
    targets: tuple[Target, ...]
    lines: tuple[Line, ...]

    @property
    def families(self) -> list[tuple[str, list[Line]]]:
        """Lines by family, in order."""
        names = list(dict.fromkeys(line.column.family for line in self.lines))
        return [(name, [line for line in self.lines if line.column.family == name]) for name in names]


def overviews(found: Sequence[Section]) -> list[Overview]:
    """Return one overview per base that has two tasks or more.

    An average over tasks mixes metrics, as benchmarks do; it is given with and without retrieval, which
    moves by tens of points where other tasks move by one. A task counts once, by its first primary metric,
    and an average needs a whole value of every task.
    """
    by_base: dict[tuple[str, str], list[Section]] = {}
    for section in found:
        if all(column.perturbed for column in section.columns):
            continue
        by_base.setdefault((section.base.fingerprint, section.source_language), []).append(section)
    return [_overview(group) for group in by_base.values() if len({section.task for section in group}) > 1]


def _overview(group: Sequence[Section]) -> Overview:
    targets = [Target(section.task, f"{section.groups[0].metric}, {section.split}") for section in group]
    lines = [_line(column, group) for column in _columns(group)]
    everything = list(range(len(group)))
    plain = [place for place in everything if not group[place].is_retrieval]
    averages: list[tuple[str, list[int]]] = []
    if len(group) == len({section.task for section in group}):  # two splits of a task have no average
        averages.append(("mean of tasks" if len(plain) == len(group) else WITH, everything))
        if 1 < len(plain) < len(group):
            averages.append((WITHOUT, plain))
    for name, members in averages:
        means = [_average(line, line.means, line.remarks, members) for line in lines]
        gains = holm([_average(line, line.gains, line.gain_remarks, members, signed=True) for line in lines])
        if not any(means):
            continue
        targets.append(Target(name))
        lines = [
            replace(
                line, means=(*line.means, mean), gains=(*line.gains, gain),
                remarks=(*line.remarks, ""), gain_remarks=(*line.gain_remarks, ""),
            )
            for line, mean, gain in zip(lines, means, gains, strict=True)
        ]  # fmt: skip
    return Overview(group[0].base, tuple(targets), tuple(lines))


def _columns(group: Sequence[Section]) -> list[Column]:
    """Return one column for each line.

    In retrieval a composition may be scored as it is. It stands in the line of the modules that were trained on
    the same composition, and has a line of its own only where there are none.
    """
    found: dict[tuple[str, str | None], Column] = {}
    for column in sorted(
        (c for section in group for c in section.columns if not c.perturbed), key=lambda c: not c.trained
    ):
        found.setdefault((column.family, column.composition), column)
    columns = list(found.values())
    trained = {(c.engine, c.composition) for c in columns if c.trained}
    kept = [c for c in columns if c.trained or (c.engine, c.composition) not in trained]
    # Untrained compositions of their own last; families in the order of their methods and options.
    return sorted(kept, key=lambda c: (not c.trained and bool(trained), c.order[2:], c.order))


def _place(section: Section, wanted: Column) -> int | None:
    """Position of a line's column in a section, if it is there."""
    for place, column in enumerate(section.columns):
        if (column.family, column.composition) == (wanted.family, wanted.composition):
            return place
    for place, column in enumerate(section.columns):
        if not column.trained and (column.engine, column.composition) == (wanted.engine, wanted.composition):
            return place
    return None


def _line(wanted: Column, group: Sequence[Section]) -> Line:
    means: list[Estimate | None] = []
    gains: list[Estimate | None] = []
    remarks = []
    gain_remarks = []
    seedless = set()
    for target, section in enumerate(group):
        place = _place(section, wanted)
        summary, gain = section.groups[0].summary[0], section.groups[0].gains
        if place is not None and section.columns[place].is_backbone and len(section.seeds(place)) == 1:
            seedless.add(target)
        means.append(None if place is None else summary.cells[place])
        remarks.append("" if place is None else summary.remarks[place])
        at = gain.columns.index(place) if place in gain.columns else None
        gains.append(None if gain.mean is None or at is None else gain.mean.cells[at])
        gain_remarks.append("" if gain.mean is None or at is None else gain.mean.remarks[at])
    return Line(wanted, tuple(means), tuple(gains), tuple(remarks), tuple(gain_remarks), frozenset(seedless))


def _average(
    line: Line, cells: Sequence[Estimate | None], remarks: Sequence[str], members: Sequence[int], signed: bool = False
) -> Estimate | None:
    known = [cell for place in members if (cell := cells[place]) is not None]
    if len(known) < len(members) or any(remarks[place] for place in members):
        return None
    samples = [cell.sample for cell in known]
    seeded = [one for one, place in zip(samples, members, strict=True) if one and place not in line.seedless]
    if seeded:
        samples = [
            for_seeds(one, seeded[0].by_seed) if one and place in line.seedless else one
            for one, place in zip(samples, members, strict=True)
        ]
    together = estimate(mean_of(samples), signed)
    # Different seeds in different tasks: the mean is known, its interval is not.
    return together or Estimate(sum(cell.mean for cell in known) / len(known))
