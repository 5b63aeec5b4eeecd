"""What fusions listen to: mean shares of the members by language and by layer, as a table of tinted cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from adapterxl.evaluation.scores import Attention
from adapterxl.report.model import Column, Section

HEAD = (
    "task", "composition", "method", "engine", "seed", "language", "fusion", "layer", "site", "member", "share",
    "tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Shares:
    """The mean shares of one fusion, over seeds.

    Attributes:
        rows: (heading, label, one share a member from 0 to 1, None where it does not act). A language's share is the
            mean over all places, a layer's that over its places and all languages, each place counting alike.
        seeds: How many seeds.
    """

    column: Column
    fusion: str
    members: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[float | None, ...]], ...]
    seeds: int


def shares(section: Section) -> list[Shares]:
    """Return one table for each fusion of the section's modules; none where nothing was fused."""
    found = []
    for position, column in enumerate(section.columns):
        scored = section.of(position)
        entries = [entry for scores in scored for entry in scores.attention or ()]
        for fusion in dict.fromkeys(entry.fusion for entry in entries):
            own = [entry for entry in entries if entry.fusion == fusion]
            members = tuple(dict.fromkeys(name for entry in own for name in entry.members))
            rows = (
                *_rows("language", own, members, lambda entry: entry.language, _source_first(section, own)),
                *_rows("layer", own, members, lambda entry: entry.layer, sorted({entry.layer for entry in own})),
                *_rows("site", own, members, lambda entry: entry.site, list(dict.fromkeys(e.site for e in own))),
            )
            count = sum(any(e.fusion == fusion for e in scores.attention or ()) for scores in scored)
            found.append(Shares(column, fusion, members, rows, count))
    return found


def shares_csv(sections: Sequence[Section]) -> str:
    """Return every share as it was measured, with `HEAD` as header; "" where nothing was fused."""
    rows = [
        (
            section.task, section.columns[position].composition, section.columns[position].method, scores.engine,
            scores.seed, entry.language, entry.fusion, entry.layer, entry.site, member, weight, entry.tokens,
        )
        for section in sections
        for position, scores in section.scores
        for entry in scores.attention or ()
        for member, weight in zip(entry.members, entry.weights, strict=True)
    ]  # fmt: skip
    if not rows:
        return ""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(rows)
    return written.getvalue()


def _rows(
    heading: str,
    entries: Sequence[Attention],
    members: Sequence[str],
    of: Callable[[Attention], object],
    order: Iterable[object],
) -> list[tuple[str, str, tuple[float | None, ...]]]:
    rows = []
    for label in order:
        there = [entry for entry in entries if of(entry) == label]
        cells = []
        for member in members:
            values = [entry.weights[entry.members.index(member)] for entry in there if member in entry.members]
            cells.append(fmean(values) if values else None)
        rows.append((heading, str(label), tuple(cells)))
    return rows


def _source_first(section: Section, entries: Sequence[Attention]) -> list[str]:
    languages = list(dict.fromkeys(entry.language for entry in entries))
    return sorted(languages, key=lambda language: language != section.source_language)
