"""The plot of a section: one row a language, one mark a composition with its interval, light marks for single seeds."""

from __future__ import annotations

import io
from collections.abc import Sequence

from adapterxl.report.marks import mark
from adapterxl.report.model import Row

WIDTH = 6.4  # inches; readable without scrolling on a laptop, with scrolling on a phone
_LONGEST = 24  # letters of a language's name
_LINE, _TEXT, _MUTED = "#E3E5E8", "#1B1F24", "#59636E"


def plot(rows: Sequence[Row], columns: int, first_mark: int = 0) -> str:
    """Return an SVG (text) of values in percent, each with a line as long as its interval.

    The source language comes first, on a tinted band, its marks hollow; a dotted line carries the score of
    the first column in the source language down to the other languages.

    Args:
        rows: One a language, the source language first if it was measured.
        columns: Number of cells in each row.
        first_mark: Mark of the first column; the others follow.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    step = 0.13 * columns + 0.24  # inches a language
    height = step * len(rows) + 0.46
    # Figure without pyplot: no global state, no display. svg.hashsalt: the same scores give the same bytes.
    settings = {"svg.fonttype": "path", "svg.hashsalt": "adapterxl", "font.family": "DejaVu Sans", "font.size": 9}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasSVG(figure)
        names = [row.label if len(row.label) <= _LONGEST else row.label[: _LONGEST - 1] + "…" for row in rows]
        left = 0.2 + 0.085 * max(map(len, names))
        axes = figure.add_axes((left / WIDTH, 0.32 / height, 1 - (left + 0.16) / WIDTH, 1 - 0.42 / height))
        spacing = 0.13 / step  # in units of the y axis, where a language is 1
        for line, row in enumerate(rows):
            source = row.kind == "source"
            if source:
                axes.axhspan(line - 0.5, line + 0.5, color="#F1F3F5", zorder=0)
            elif line:
                axes.axhline(line - 0.5, color=_LINE, linewidth=0.7, zorder=1)
            for position, cell in enumerate(row.cells):
                if cell is None:
                    continue
                look = mark(first_mark + position)
                outline = (*look.shape, look.shape[0])  # closed, or a hollow mark lacks a side
                y = line + (position - (columns - 1) / 2) * spacing
                if len(cell.by_seed) > 1:
                    values = [value * 100 for _, value in cell.by_seed]
                    axes.scatter(
                        values, [y] * len(values), s=20, marker=outline, color=look.colour,
                        alpha=0.4, linewidths=0, zorder=3,
                    )  # fmt: skip
                if cell.low is not None and cell.high is not None:
                    axes.plot(
                        [cell.low * 100, cell.high * 100], [y, y], color=look.colour, linewidth=1.1,
                        solid_capstyle="butt", zorder=2.5,
                    )  # fmt: skip
                axes.scatter(
                    [cell.mean * 100], [y], s=42, marker=outline, edgecolors=look.colour, linewidths=1.1,
                    facecolors="white" if source else look.colour, zorder=4,
                )  # fmt: skip
        reference = rows[0].cells[0]
        if rows[0].kind == "source" and reference:
            axes.axvline(reference.mean * 100, color=_MUTED, linewidth=0.9, linestyle=(0, (1, 2.5)), zorder=2)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), names, color=_TEXT, parse_math=False)  # "$" is a letter in a name
        axes.tick_params(axis="y", length=0, pad=6)
        axes.tick_params(axis="x", colors=_MUTED, length=3, width=0.7)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
        axes.grid(axis="x", color=_LINE, linewidth=0.7, zorder=0)
        axes.margins(x=0.06)
        axes.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color("#B6BDC5")
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return written.getvalue()
