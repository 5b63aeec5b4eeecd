"""The numbers of a report as CSV: what its tables show, and the records that they were made from.

`results_csv` has one line a number that a table shows. Its columns, in this order:

- task, split, metric, primary: what was measured.
- quantity: score, zero-shot mean, worst language, transfer gap; over several tasks (task and metric are then
  empty) mean of tasks, mean with retrieval, mean without retrieval.
- language, detail: of the score or of the worst language; `detail` is a direction of retrieval or the language of
  the context. Where a language has several directions, a line without detail has their mean.
- composition (empty: no intermediate task), method, options, engine, base, base_fingerprint: what was scored.
- seeds: separated by spaces. n_low, n_high: fewest and most examples of one score.
- mean, std, low, high: 0 to 1; sample standard deviation over seeds; ends of the 95 % interval.
- gain, gain_std, gain_low, gain_high: difference to "no intermediate task".
- p, p_holm: two-sided, before and after Holm's correction. difference: "difference shown", "no difference shown",
  "not tested", or empty where there is no gain.
- remark: what limits the number, such as "3 of 4 languages"; where that differs for the gain, "gain: " and its own.

Numbers have six decimals; unknown ones are empty. `records_csv` has one line a number of a scores file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from adapterxl.report.formats import verdict
from adapterxl.report.model import Column, Group, Row, Section
from adapterxl.report.overview import Overview
from adapterxl.report.statistics import Estimate

RECORDS = (
    "task", "split", "language", "context_language", "direction", "metric", "primary", "value", "n",
    "composition", "module", "module_digest", "method", "engine", "seed", "base", "base_fingerprint",
    "source_language", "train_from",
)  # fmt: skip

RESULTS = (
    "task", "split", "metric", "primary", "quantity", "language", "detail",
    "composition", "method", "options", "engine", "base", "base_fingerprint", "seeds", "n_low", "n_high",
    "mean", "std", "low", "high", "gain", "gain_std", "gain_low", "gain_high", "p", "p_holm", "difference", "remark",
)  # fmt: skip


def results_csv(sections: Sequence[Section], overviews: Sequence[Overview]) -> str:
    """Return what the tables show, with `RESULTS` as header."""
    rows = [row for section in sections for group in section.groups for row in _group(section, group)]
    return _written(RESULTS, [*rows, *(row for overview in overviews for row in _averages(overview))])


def _group(section: Section, group: Group) -> Iterable[list[Any]]:
    gains = {row.label: row for row in group.gains.rows}
    detailed = {row.label for row in group.rows if row.detail and row.kind != "crossed"}
    for row in group.rows:
        for position in range(len(section.columns)):
            gain = None if row.detail else _gain(gains.get(row.label), group, position)
            yield _line(section, group, "score", row.label, row, position, gain)
    for row in group.points:
        if row.label in detailed:
            for position in range(len(section.columns)):
                gain = _gain(gains.get(row.label), group, position)
                yield _line(section, group, "score", row.label, row, position, gain)
    for row in group.summary:
        for position in range(len(section.columns)):
            worst = row.label == "worst language"
            of_gain = group.gains.mean if row.label == "zero-shot mean" else None
            gain = _gain(of_gain, group, position)
            line = _line(section, group, row.label, row.remarks[position] if worst else "", row, position, gain)
            if of_gain and gain and (remark := of_gain.remarks[group.gains.columns.index(position)]) != line[-1]:
                line[-1] = "; ".join(part for part in (line[-1], f"gain: {remark}") if part)
            yield line


def _gain(row: Row | None, group: Group, position: int) -> Estimate | None:
    return row.cells[group.gains.columns.index(position)] if row and position in group.gains.columns else None


def _line(
    section: Section, group: Group, quantity: str, language: str, row: Row, position: int, gain: Estimate | None
) -> list[Any]:
    low, high = row.n or ("", "")
    return [
        section.task, section.split, group.metric, str(group.primary).lower(), quantity, language, row.detail,
        *_scored(section.columns[position]), section.base.name, section.base.fingerprint,
        " ".join(map(str, section.seeds(position))), low, high, *_numbers(row.cells[position], gain),
        "" if row.label == "worst language" else row.remarks[position],
    ]  # fmt: skip


def _averages(overview: Overview) -> Iterable[list[Any]]:
    for line in overview.lines:
        for place, target in enumerate(overview.targets):
            if not target.detail:
                mean = line.means[place]
                seeds = " ".join(str(seed) for seed, _ in mean.by_seed) if mean else ""
                yield [
                    "", "", "", "", target.name, "", "", *_scored(line.column), overview.base.name,
                    overview.base.fingerprint, seeds, "", "", *_numbers(mean, line.gains[place]), "",
                ]  # fmt: skip


def _scored(column: Column) -> tuple[str, ...]:
    return column.composition or "", column.method, column.variant, column.engine


def _numbers(cell: Estimate | None, gain: Estimate | None) -> list[str]:
    values = [(one.mean, one.std, one.low, one.high) if one else (None,) * 4 for one in (cell, gain)]
    tests = (gain.p, gain.adjusted) if gain else (None, None)
    numbers = ["" if value is None else f"{value:.6f}" for value in (*values[0], *values[1], *tests)]
    return [*numbers, verdict(gain)]


def records_csv(sections: Sequence[Section]) -> str:
    """Return all records with `RECORDS` as header; `value` is 0 to 1, an empty `composition` is the baseline."""
    rows = []
    for section in sections:
        for position, scores in section.scores:
            column, module, base = section.columns[position], scores.module, scores.base
            for r in scores.records:
                rows.append([
                    scores.task, r.split, r.language, r.context_language, r.direction, r.metric,
                    str(r.primary).lower(), r.value, r.n, column.composition, module.name, module.digest,
                    module.method, scores.engine, scores.seed, base.name, base.fingerprint,
                    scores.source_language, scores.train_from,
                ])  # fmt: skip
    return _written(RECORDS, rows)


def _written(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return written.getvalue()
