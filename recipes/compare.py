"""Two compositions of one experiment against each other: a report compares each with "no intermediate task" only.

In the checkout: python recipes/compare.py ONE OTHER SCORES.json ...
ONE and OTHER are compositions, such as "merge(nli, ner)", or whole names of columns of the report. Differences are ONE
minus OTHER in points of percent, paired by seed and by test example, with 95 % intervals and p-values after Holm's
correction over the languages (for the means: over the tables), as in the report.
"""

import sys
from collections.abc import Sequence

from adapterxl.errors import AdapterXLError, UsageError
from adapterxl.report.formats import interval, p_value, percent, points
from adapterxl.report.model import NO_INTERMEDIATE, Group, Section
from adapterxl.report.statistics import Estimate, difference, estimate, holm, mean_of, together
from adapterxl.report.tables import read, sections


def pairs(section: Section, one: str, other: str) -> list[tuple[str, int, int]]:
    """What two columns have in common ("input casing=upper", or ""), and their positions.

    Raises:
        UsageError: If there is none; the message lists all.
    """
    labels = [each.label for each in section.columns]
    if one in labels and other in labels and section.columns[labels.index(one)].family:
        return [("", labels.index(one), labels.index(other))]
    named = [(each.family, each.composition or NO_INTERMEDIATE) for each in section.columns]
    found = [
        (family, named.index((family, one)), named.index((family, other)))
        for family in dict.fromkeys(family for family, _ in named)
        if {(family, one), (family, other)} <= set(named)
    ]
    if not found:
        raise UsageError(f"{section.task}: no columns '{one}' and '{other}'; there are: {'; '.join(labels)}.")
    return found


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
        group = section.groups[0]
        for family, *places in pairs(section, one, other):
            told.append((section, group, family, places, *compare(group, *places)))
    means = holm([mean for *_, mean in told])
    for (section, group, family, places, found, _), mean in zip(told, means, strict=True):
        what = ", ".join(filter(None, (section.task, section.split, group.metric, section.base.name, family)))
        print(f"{what}, %: {one} minus {other}")
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
