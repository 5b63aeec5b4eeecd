"""The predictions beside a scores file, counted example by example: what intervals over test examples need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics import all_metrics
from adapterxl.evaluation.metrics.base import Counts
from adapterxl.evaluation.scores import Record, Scores

ABSENT = "absent"
FEW = "few"  # a handful of examples says nothing of how far apart others would be
FEWEST = 10
OTHER = "other"  # they give other values than the scores, so they are of another run

Place = tuple[str, str | None, str | None]  # language, language of the context, direction


@dataclass(frozen=True)
class Counted:
    """The counts of one record.

    Attributes:
        ids: Examples in the order of their ids, so that the order in the file has no effect.
        counts: One row an example as the metric counts it, shape (examples, counts).
    """

    ids: tuple[str, ...]
    counts: Counts


@dataclass(frozen=True)
class Predictions:
    """What the predictions of one scores file give.

    Attributes:
        counted: (metric, place) -> counts, for each record that the predictions cover.
        missing: Why some record has none: `ABSENT`, `FEW`, `OTHER`, or "" where all have theirs.
    """

    counted: dict[tuple[str, Place], Counted]
    missing: str


def place(record: Record) -> Place:
    """Return where the predictions of a record belong."""
    return record.language, record.context_language, record.direction


def read_predictions(scores: Scores) -> Predictions:
    """Read ``<stem>.predictions.jsonl`` beside the file that the scores came from.

    No such file is no error: the report then says that its intervals lack the test examples. Predictions that
    do not give the value in the scores are not used, and that is said too.

    Raises:
        DataError: For a line that is not a prediction, with file and line.
    """
    if scores._origin is None:  # not read from a file
        return Predictions({}, ABSENT)
    path = Path(scores._origin)
    path = path.with_name(f"{path.stem}.predictions.jsonl")
    if not path.is_file():
        return Predictions({}, ABSENT)
    rows = _rows(path)
    counted: dict[tuple[str, Place], Counted] = {}
    missing = ""
    for record in scores.records:
        metric, found = all_metrics().get(record.metric), rows.get(place(record), [])
        if record.n < FEWEST:
            missing = missing or FEW
            continue
        if metric is None or len(found) != record.n:
            missing = missing or OTHER
            continue
        found = sorted(found, key=lambda row: row[0])  # stable: a repeated id keeps its place among its like
        try:
            language = record.context_language or record.language  # that of the answers
            counts = metric.rows([row[1] for row in found], [row[2] for row in found], language)
        except DataError as error:
            raise DataError(f"{path}: {record.language}: {error}") from None
        if abs(float(metric.value(counts.sum(axis=0))) - record.value) > 1e-6:
            missing = missing or OTHER
            continue
        counted[record.metric, place(record)] = Counted(tuple(row[0] for row in found), counts)
    return Predictions(counted, missing)


def _rows(path: Path) -> dict[Place, list[tuple[str, Any, Any]]]:
    """Return place -> (id, prediction, gold) in the order of the file."""
    rows: dict[Place, list[tuple[str, Any, Any]]] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                    key = (row["language"], row.get("context_language"), row.get("direction"))
                    entry = (row["id"], row["prediction"], row["gold"])
                    if not isinstance(entry[0], str):
                        raise TypeError("id is no string")
                    rows.setdefault(key, []).append(entry)
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    raise DataError(
                        f"{path}:{number}: found {line.strip()[:60]!r}, expected a JSON object with language, id "
                        "(a string), prediction and gold. Write it again with: adapterxl evaluate"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Expected predictions, one JSON object a line.") from None
    return rows
