"""What a report is made of: sections, columns, rows, and what they say of one another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adapterxl.evaluation.scores import BaseInfo, ModuleInfo, Scores
from adapterxl.report.statistics import Estimate

NO_INTERMEDIATE = "no intermediate task"
CONTEXT = "context "  # starts the detail of a row whose question and context are in two languages


@dataclass(frozen=True)
class Column:
    """One thing compared.

    Attributes:
        composition: Intermediate tasks as text; None for the baseline.
        variant: Module options that differ between modules of this method, such as "rank 8", or "".
        family: Method, variant and engine, each only where the report holds several; gains stay within one.
        trained: False for the backbone alone and a composition scored as it is.
        perturbed: What was done to the input, such as "casing=upper", or "".
    """

    composition: str | None
    method: str
    engine: str
    variant: str = ""
    family: str = ""
    trained: bool = True
    perturbed: str = ""

    @property
    def label(self) -> str:
        name = self.composition or NO_INTERMEDIATE
        return f"{name} · {self.family}" if self.family else name

    @property
    def order(self) -> tuple[bool, str, str, str, str, str]:
        """Key to sort columns by: the baseline first, rank 4 before rank 16."""
        variant = re.sub(r"\d+", lambda number: number[0].zfill(12), self.variant)
        return self.composition is not None, self.composition or "", self.method, variant, self.engine, self.perturbed

    @property
    def is_baseline(self) -> bool:
        return self.composition is None and not self.perturbed

    @property
    def is_backbone(self) -> bool:
        """The backbone alone, in retrieval: nothing was trained, so no seed has a part in it."""
        return self.composition is None and self.method == "none"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: Language, or the name of a summary.
        kind: "source", "target", "crossed" (question and context in two languages) or "summary".
        detail: Direction of retrieval or language of the context.
        n: Smallest and largest number of examples behind a cell.
        cells: One a column; None where there is no score.
        remarks: One a column: what a reader must know about that cell, or "".
        best: Positions of the best cells; empty where a comparison would not be fair.
    """

    label: str
    kind: str
    cells: tuple[Estimate | None, ...]
    remarks: tuple[str, ...]
    best: frozenset[int] = frozenset()
    detail: str = ""
    n: tuple[int, int] | None = None


@dataclass(frozen=True)
class Gains:
    """Gain over "no intermediate task", or of a perturbed copy over the clean one; a column for each that has it."""

    columns: tuple[int, ...]
    rows: tuple[Row, ...]
    without_baseline: tuple[int, ...]

    @property
    def mean(self) -> Row | None:
        return self.rows[-1] if self.columns else None


@dataclass(frozen=True)
class Group:
    """The tables of one metric.

    Attributes:
        points: The rows of the plot: one a language, directions averaged.
        uneven: (column, language) whose seeds scored different examples, so that they are not crossed.
        unpaired: (column, language) scored on other examples than the baseline.
    """

    metric: str
    primary: bool
    rows: tuple[Row, ...]
    summary: tuple[Row, ...]
    gains: Gains
    points: tuple[Row, ...]
    uneven: tuple[tuple[int, str], ...] = ()
    unpaired: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """What may be compared: one task on one base, one split, one set of primary metrics.

    Attributes:
        scores: (position of the column, scores), by column and seed.
        missing: (position of the scores, why) where predictions are not at hand; see `predictions`.
    """

    task: str
    base: BaseInfo
    source_language: str
    split: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    scores: tuple[tuple[int, Scores], ...]
    missing: tuple[tuple[int, str], ...] = ()

    @property
    def is_retrieval(self) -> bool:
        return is_retrieval(self.scores[0][1])

    @property
    def is_resampled(self) -> bool:
        """Whether some number has its examples resampled; predictions may serve some languages and not others."""
        rows = [row for group in self.groups for row in group.rows]
        return any(cell.sample and cell.sample.draws is not None for row in rows for cell in row.cells if cell)

    @property
    def first_mark(self) -> int:
        """Mark of the first column: mark 0, the black one, is kept for a baseline."""
        return 0 if self.columns[0].is_baseline else 1

    def seeds(self, column: int) -> tuple[int, ...]:
        return tuple(scores.seed for position, scores in self.scores if position == column)

    def of(self, column: int) -> list[Scores]:
        return [scores for position, scores in self.scores if position == column]

    def modules(self) -> list[tuple[Column, list[tuple[int, ModuleInfo]]]]:
        """Return, per column, the modules with their seeds."""
        return [
            (column, [(scores.seed, scores.module) for scores in self.of(position)])
            for position, column in enumerate(self.columns)
        ]


def is_retrieval(scores: Scores) -> bool:
    """Scores with directions come from retrieval, which trains nothing for the target task."""
    return any(record.direction is not None for record in scores.records)


def best_of(cells: Sequence[Estimate | None], pick: Callable[[Iterable[float]], float] = max) -> frozenset[int]:
    """Positions of the best cells as a reader sees them (one decimal of a percent).

    None is best where a cell is missing or alone, as nothing was beaten.
    """
    shown = {i: round(cell.mean * 100, 1) for i, cell in enumerate(cells) if cell}
    if len(shown) < 2 or len(shown) < len(cells):
        return frozenset()
    top = pick(shown.values())
    return frozenset(i for i, value in shown.items() if value == top)
