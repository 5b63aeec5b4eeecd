"""Two compositions of one experiment against each other: a report compares each with "no intermediate task" only.

In the checkout: python recipes/compare.py ONE OTHER SCORES.json ...
ONE and OTHER are columns of the report, such as "merge(nli, ner)". Differences are ONE minus OTHER in points of
percent, paired by seed and by test example, with 95 % intervals and p-values after Holm's correction over the languages
(for the means: over the tables), as in the report.
"""

import sys
from collections.abc import Sequence

from adapterxl.errors import AdapterXLError, UsageError
from adapterxl.report.formats import interval, p_value, percent, points
from adapterxl.report.model import Group, Section
from adapterxl.report.statistics import Estimate, difference, estimate, holm, mean_of, together
from adapterxl.report.tables import read, sections


def column(section: Section, wanted: str) -> int:
    """Position of a column by its label.

    Raises:
        UsageError: If there is none; the message lists all.
    """
    labels = [each.label for each in section.columns]
    if wanted not in labels:
        raise UsageError(f"{section.task}, {section.split}: no column '{wanted}'; there are: {'; '.join(labels)}.")
    return labels.index(wanted)


def compare(group: Group, one: int, other: int) -> tuple[dict[str, Estimate | None], Estimate | None]:
    """Differences by language, and that of the zero-shot means over the languages that both have."""
    rows = {row.label: (row.kind, row.cells[one], row.cells[other]) for row in group.points}
    uneven = {language for place, language in (*group.unpaired, *group.uneven) if place in (one, other)}
    both = {
        language: (kind, ours.sample, theirs.sample)
        for language, (kind, ours, theirs) in rows.items()
        if ours and theirs and language not in uneven
    }
    found = together([difference(ours, theirs) for _, ours, theirs in both.values()], signed=True)
    targets = [pair for kind, *pair in both.values() if kind == "target"]
    means = [mean_of(side) for side in zip(*targets, strict=True)] if targets else [None, None]
    return dict(zip(both, holm(found), strict=True)), difference(*means)


def main(arguments: Sequence[str]) -> int:
    """Print one table a task and split."""
    if len(arguments) < 3:
        raise UsageError('expected: python recipes/compare.py ONE OTHER SCORES.json ..., such as "merge(nli, ner)"')
    one, other, *files = arguments
    told = []
    for section in sections(read(files)):
        group, places = section.groups[0], (column(section, one), column(section, other))
        told.append((section, group, places, *compare(group, *places)))
    means = holm([mean for *_, mean in told])
    for (section, group, places, found, _), mean in zip(told, means, strict=True):
        print(f"{section.task}, {section.split}, {group.metric} %, {section.base.name}: {one} minus {other}")
        levels = {row.label: [percent(row.cells[place]) for place in places] for row in group.points}
        sides = [mean_of(row.cells[place].sample for row in group.points if row.label in found and row.kind == "target")
                 for place in places]  # fmt: skip
        levels["mean"] = [percent(estimate(side)) for side in sides]
        for name, cell in {**found, "mean": mean}.items():
            p = p_value(cell and cell.adjusted)
            print(f"  {name:6} {' '.join(levels[name])}  {points(cell)} {interval(cell, signed=True)}  p {p}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AdapterXLError as error:
        sys.exit(f"compare: {error}")
