"""The report page: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from adapterxl.report import attention, facts, formats
from adapterxl.report.marks import mark
from adapterxl.report.model import Row, Section
from adapterxl.report.notes import notes, uncertainty
from adapterxl.report.overview import overviews
from adapterxl.report.plots import plot
from adapterxl.report.statistics import Estimate

TEMPLATE = "report.html.j2"
STRONG = 0.08  # a gain of 8 points has the deepest tint; more is not told apart by colour


def render(found: Sequence[Section], title: str | None = None) -> str:
    """Return the page of these sections. The same scores give the same text."""
    tasks = list(dict.fromkeys(section.task for section in found))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=FunctionLoader(lambda name: files(__package__).joinpath(name).read_text(encoding="utf-8")),
    )  # fmt: skip
    environment.filters.update(
        percent=formats.percent,
        points=formats.points,
        interval=formats.interval,
        verdict=formats.verdict,
        p_value=formats.p_value,
        span=formats.span,
        breakable=_breakable,
        tint=_tint,
        shade=_shade,
        short=facts.short,
    )
    environment.globals.update(
        mark=mark, notes=notes, uncertainty=uncertainty, picture=_picture, facts=facts.facts, spans=_language_spans,
        attention=attention.shares,
    )  # fmt: skip
    return environment.get_template(TEMPLATE).render(
        title=title or f"Zero-shot transfer: {formats.listed(tasks)}",
        sections=found,
        modules={id(section): facts.modules(section) for section in found},
        overviews=overviews(found),
        parts=facts.parts(found),
        bases=list(dict.fromkeys((section.base.name, section.base.fingerprint) for section in found)),
        versions=facts.versions(found),
        data=facts.data_digests(found),
        id=id,
    )


def _picture(rows: Sequence[Row], columns: int, first_mark: int) -> Markup:
    """Return the plot as a data address: an image of its own, so that no two plots share ids in the page."""
    data = base64.b64encode(plot(rows, columns, first_mark).encode("utf-8")).decode("ascii")
    return Markup("data:image/svg+xml;base64,") + data


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


def _shade(share: float) -> str:
    """Return the colour of a share of attention: from nothing to a blue on which black text stays readable."""
    return f"rgba(0, 114, 178, {0.5 * share:.2f})"


def _tint(cell: Estimate | None) -> str:
    """Return the class of a gain: "up1" to "up4", "down1" to "down4", or "" around zero."""
    if cell is None or round(abs(cell.mean), 3) == 0:
        return ""
    step = min(4, 1 + int(abs(cell.mean) / STRONG * 4))
    return f"{'up' if cell.mean > 0 else 'down'}{step}"
