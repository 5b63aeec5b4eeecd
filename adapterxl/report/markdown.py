"""A report as Markdown: compact tables for a model card, plain ASCII apart from names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from adapterxl.evaluation.scores import Scores
from adapterxl.report.attention import shares
from adapterxl.report.facts import Module, Part, data_digests, facts, modules, parts, short, versions
from adapterxl.report.formats import interval, listed, percent, points, span, verdict
from adapterxl.report.model import Group, Section
from adapterxl.report.notes import notes, uncertainty
from adapterxl.report.overview import Overview, overviews
from adapterxl.report.statistics import Estimate
from adapterxl.report.tables import read, sections

_ASCII = str.maketrans({"–": "-", "\N{MINUS SIGN}": "-", "“": '"', "”": '"', "’": "'", "·": "/", "±": "+-"})
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!$])")


def to_markdown(scores: Sequence[Scores | str | Path], title: str | None = None) -> str:
    """Return the report as Markdown: per task results, gains and modules, each number with its interval.

    Raises:
        UsageError: If there are no scores, or two of the same run.
        DataError: If a scores file or its predictions cannot be read.
    """
    return render(sections(read(scores)), title)


def render(found: Sequence[Section], title: str | None = None) -> str:
    """Return these sections as Markdown. The same scores give the same text."""
    tasks = list(dict.fromkeys(section.task for section in found))
    lines = [f"# {text(title or f'Zero-shot transfer: {listed(tasks)}')}"]
    for overview in overviews(found):
        lines += _overview(overview)
    for section in found:
        lines += ["", f"## {text(section.task)}", "", _pairs(facts(section))]
        for group in section.groups:
            lines += _group(section, group)
        for table in shares(section):
            lines += [
                "",
                f"Attention of the fusion in {text(table.column.label)}, mean share in %, seeds: {table.seeds}.",
            ]
            lines += _table(
                ["by", *table.members],
                (
                    [f"{heading} {label}", *("-" if cell is None else f"{cell:.1%}"[:-1] for cell in cells)]
                    for heading, label, cells in table.rows
                ),
            )
        lines += _modules(modules(section))
        lines += ["", *(f"- {text(note)}" for note in notes(section)), "", text(uncertainty(section))]
    lines += _parts(parts(found))
    lines += _digests(found)
    lines += ["", f"Versions: {_pairs(versions(found)) or 'not recorded'}."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def text(value: str) -> str:
    """Escape a text so that no Markdown, HTML or table syntax in it has an effect; it becomes one line."""
    escaped = _SPECIAL.sub(r"\\\1", " ".join(value.translate(_ASCII).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{text(name)} {text(value)}" for name, value in pairs)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], lead: int = 1) -> list[str]:
    """Return a table with escaped cells; columns after the first `lead` are set to the right."""
    marks = ["---"] * lead + ["---:"] * (len(head) - lead)
    body = [[text(entry) for entry in row] for row in rows]
    return ["", *(f"| {' | '.join(row)} |" for row in ([text(name) for name in head], marks, *body))]


def _value(cell: Estimate | None, remark: str = "") -> str:
    return ", ".join(part for part in (f"{percent(cell)}{_between(interval(cell))}", remark) if part)


def _gain(cell: Estimate | None, remark: str = "") -> str:
    tested = verdict(cell) if cell is not None and cell.shown is not None else ""
    shown = f"{points(cell)}{_between(interval(cell, signed=True))}"
    return ", ".join(part for part in (shown, remark, tested) if part)


def _between(brackets: str) -> str:
    """Return " (1.0 to 2.0)" for "[1.0, 2.0]": brackets are links in Markdown, and would need escapes."""
    return f" ({brackets.strip('[]').replace(', ', ' to ')})" if brackets else ""


def _overview(overview: Overview) -> list[str]:
    names = [target.name for target in overview.targets]
    lines = ["", f"## All tasks on {text(overview.base.name)}", "", "Zero-shot mean by task, % with 95 % interval:"]
    lines += _table(
        ["intermediate tasks", *names],
        ([line.column.label, *map(_value, line.means, line.remarks)] for line in overview.lines),
    )
    if any(any(line.gains) for line in overview.lines):
        lines += ["", "Gain over no intermediate task, points with 95 % interval:"]
        lines += _table(
            ["intermediate tasks", *names],
            (
                [line.column.label, *map(_gain, line.gains, line.gain_remarks)]
                for line in overview.lines
                if not line.is_reference
            ),
        )
    return lines


def _group(section: Section, group: Group) -> list[str]:
    labels = [column.label for column in section.columns]
    lead = 2 if any(row.detail for row in group.rows) else 1
    rows = [
        [
            f"{row.label} (source)" if row.kind == "source" else row.label,
            *([row.detail] if lead == 2 else []),
            span(row.n),
            *map(_value, row.cells, row.remarks),
        ]
        for row in group.rows
    ]
    rows += [[row.label, *[""] * lead, *map(_value, row.cells, row.remarks)] for row in group.summary]
    head = ["language", *(["direction" if section.is_retrieval else "context"] if lead == 2 else []), "n", *labels]
    lines = ["", f"{text(group.metric)}, % with 95 % interval:", *_table(head, rows, lead)]
    if group.gains.columns:
        lines += ["", f"Gain over no intermediate task, points of {text(group.metric)}:"]
        lines += _table(
            ["language", *(labels[position] for position in group.gains.columns)],
            ([row.label, *map(_gain, row.cells, row.remarks)] for row in group.gains.rows),
        )
    return lines


def _modules(found: Sequence[Module]) -> list[str]:
    rows = [
        [m.column.label, m.method, m.parameters, m.size, m.training, m.steps, m.rows,
         ", ".join(f"{short(digest)} (seed {seed})" for seed, digest in m.digests)]
        for m in found
    ]  # fmt: skip
    head = ["composition", "method", "trained parameters", "size", "training", "steps", "rows", "digest"]
    return ["", "Modules:", *_table(head, rows)]


def _parts(found: Sequence[Part]) -> list[str]:
    rows = [
        [part.name, part.task, part.training, part.steps, part.rows, ", ".join(map(short, part.digests))]
        for part in found
    ]
    head = ["module", "task", "training", "steps", "rows", "digests of its weights"]
    return ["", "Intermediate modules that the others are built on:", *_table(head, rows)] if rows else []


def _digests(found: Sequence[Section]) -> list[str]:
    """Whole digests of what was scored, of the bases and of the training data; each once."""
    rows = [
        (f"{section.task}: {module.column.label}, seed {seed}", digest)
        for section in found for module in modules(section) for seed, digest in module.digests
    ]  # fmt: skip
    rows += [(f"base {section.base.name}", section.base.fingerprint) for section in found]
    rows += [(f"data {name}", digest) for name, digest in data_digests(found)]
    return ["", "Digests (sha256):", *_table(["what", "digest"], dict.fromkeys(rows), lead=2)]
