"""The report page: one HTML file that holds everything it shows, and the records beside it as CSV."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from adapterxl.errors import UsageError
from adapterxl.evaluation.scores import ModuleInfo, Scores, write_whole
from adapterxl.report import formats
from adapterxl.report.listing import records_csv
from adapterxl.report.marks import mark
from adapterxl.report.notes import notes, option_text, uncertainty
from adapterxl.report.overview import overviews
from adapterxl.report.plots import plot
from adapterxl.report.statistics import Estimate, estimate
from adapterxl.report.tables import Row, Section, module_groups, read, sections

TEMPLATE = "report.html.j2"
STRONG = 0.08  # a gain of 8 points has the deepest tint; more is not told apart by colour


@dataclass(frozen=True)
class ModuleLine:
    """One line of the modules table: the modules of a composition, one a seed."""

    position: int
    composition: str
    names: tuple[str, ...]
    method: str
    parameters: str
    size: str
    training: str
    digests: tuple[tuple[int, str, str], ...]  # seed, short digest, whole digest


def report(scores: Sequence[Scores | str | Path], out: str | Path, title: str | None = None) -> Path:
    """Write a report as one HTML file, and its records as CSV beside it (same stem).

    Args:
        scores: Files written by `evaluate`, or `Scores` themselves.
        out: Name of the page, ending in ``.html`` or ``.htm``.
        title: Heading; made from the tasks if not given.

    Returns:
        The path of the page.

    Raises:
        UsageError: If there are no scores, two of the same run, or `out` cannot be written.
        DataError: If a scores file cannot be read.
    """
    out = Path(out)
    if out.suffix not in (".html", ".htm"):
        raise UsageError(f"{out}: the report is a page, so its name ends in .html, such as report.html")
    found = sections(read(scores))
    page = render(found, title)
    write_whole(out.with_suffix(".csv"), [records_csv(found)])
    write_whole(out, [page])
    return out


def render(found: Sequence[Section], title: str | None = None) -> str:
    """Return the page of these sections. The same scores give the same text."""
    tasks = list(dict.fromkeys(section.task for section in found))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=formats.percent,
        points=formats.points,
        spread=formats.spread,
        size=formats.size,
        duration=formats.duration,
        span=formats.span,
        breakable=_breakable,
        tint=_tint,
        has_spread=_has_spread,
        short=_short,
    )
    environment.globals.update(
        mark=mark, notes=notes, uncertainty=uncertainty, picture=_picture, facts=_facts, modules=_modules,
        spans=_language_spans,
    )  # fmt: skip
    template = environment.from_string(files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    return template.render(
        title=title or f"Zero-shot transfer: {formats.listed(tasks)}",
        sections=found,
        overviews=overviews(found),
        versions=_versions(found),
    )


def _facts(section: Section) -> list[tuple[str, str]]:
    """Return what was compared as (term, value) pairs, for the line under a section's heading."""
    everything = [scores for _, scores in section.scores]
    base = section.base
    counts = [row.n for group in section.groups if group.primary for row in group.rows if row.n]
    seeds = sorted({scores.seed for scores in everything})
    identity = [f"revision {_short(base.revision)}"] if base.revision else []
    identity.append(f"fingerprint {_short(base.fingerprint)}")
    options = [
        f"{name} {option_text(value)}"
        for name, value in sorted(everything[0].options.items())
        if value is not None and all(s.options.get(name) == value for s in everything)
    ]
    return [
        ("base", f"{base.name} ({', '.join(identity)})"),
        ("engine", ", ".join(sorted({scores.engine for scores in everything}))),
        ("split", section.split),
        ("metric", ", ".join(group.metric for group in section.groups if group.primary)),
        ("n per language", formats.span((min(low for low, _ in counts), max(high for _, high in counts)))),
        ("seeds" if len(seeds) > 1 else "seed", ", ".join(map(str, seeds))),
        *([("options", ", ".join(options))] if options else []),
    ]


def _modules(section: Section) -> list[ModuleLine]:
    lines = []
    for position, (column, seeded) in enumerate(module_groups(section)):
        infos = [info for _, info in seeded]
        seconds = estimate({seed: info.train_seconds for seed, info in seeded if info.train_seconds is not None})
        lines.append(
            ModuleLine(
                position=position,
                composition=column.label,
                names=tuple(dict.fromkeys(info.name for info in infos)),
                method=", ".join(dict.fromkeys(info.method for info in infos)),
                parameters=formats.span(_range([info.parameters for info in infos])),
                size=_sizes(infos),
                training=formats.duration(seconds.mean if seconds else None),
                digests=tuple((seed, _short(info.digest), info.digest) for seed, info in seeded if info.digest),
            )
        )
    return lines


def _sizes(infos: Sequence[ModuleInfo]) -> str:
    return f" {formats.DASH} ".join(dict.fromkeys(formats.size(x.bytes) for x in infos if x.bytes)) or formats.DASH


def _range(values: Sequence[int]) -> tuple[int, int]:
    return min(values), max(values)


def _versions(found: Sequence[Section]) -> list[tuple[str, str]]:
    """Return (name, versions) over all scores; several versions of one thing are all named."""
    versions: dict[str, dict[str, None]] = {}
    for section in found:
        for _, scores in section.scores:
            for name, version in scores.versions.items():
                versions.setdefault(name, {})[version] = None
    return [(name, ", ".join(versions[name])) for name in sorted(versions)]


def _picture(rows: Sequence[Row], columns: int, first_mark: int) -> Markup:
    """Return the plot as a data address: an image of its own, so that no two plots share ids in the page."""
    data = base64.b64encode(plot(rows, columns, first_mark).encode("utf-8")).decode("ascii")
    return Markup("data:image/svg+xml;base64,") + data


def _has_spread(rows: Sequence[Row]) -> bool:
    """Whether a table keeps room for ±, so that its numbers stay in line where one has none."""
    return any(cell is not None and cell.std is not None for row in rows for cell in row.cells)


def _language_spans(rows: Sequence[Row]) -> list[int]:
    """Return, per row, how many rows its language cell spans: 0 where the one above covers it."""
    spans: list[int] = []
    for position, row in enumerate(rows):
        if position and rows[position - 1].label == row.label and rows[position - 1].kind == row.kind:
            spans.append(0)
        else:
            same = [r.label == row.label and r.kind == row.kind for r in rows[position:]]
            spans.append(same.index(False) if False in same else len(same))
    return spans


def _breakable(text: str) -> Markup:
    """Escape a text and let a line end after the brackets, commas and underscores of a composition."""
    result = escape(text)
    for sign in ("(", ",", "_", "/"):
        result = result.replace(sign, Markup(sign + "<wbr>"))
    return result


def _tint(cell: Estimate | None) -> str:
    """Return the class of a gain: "up1" to "up4", "down1" to "down4", or "" around zero."""
    if cell is None or round(abs(cell.mean), 3) == 0:
        return ""
    step = min(4, 1 + int(abs(cell.mean) / STRONG * 4))
    return f"{'up' if cell.mean > 0 else 'down'}{step}"


def _short(digest: str | None) -> str:
    """Return the first 10 signs of a digest, without the name of its algorithm."""
    return (digest or "").rpartition(":")[2][:10]
