"""The records behind a report as CSV: one line a number, nothing averaged."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from adapterxl.report.tables import Section

FIELDS = (
    "task", "split", "language", "context_language", "direction", "metric", "primary", "value", "n",
    "composition", "module", "module_digest", "method", "engine", "seed", "base", "base_fingerprint",
    "source_language", "train_from",
)  # fmt: skip


def records_csv(sections: Sequence[Section]) -> str:
    """Return all records as CSV with a header; `value` is 0 to 1, an empty `composition` is the baseline."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(FIELDS)
    for section in sections:
        for position, scores in section.scores:
            column, module, base = section.columns[position], scores.module, scores.base
            for r in scores.records:
                rows.writerow([
                    scores.task, r.split, r.language, r.context_language, r.direction, r.metric,
                    str(r.primary).lower(), r.value, r.n, column.composition, module.name, module.digest,
                    module.method, scores.engine, scores.seed, base.name, base.fingerprint,
                    scores.source_language, scores.train_from,
                ])  # fmt: skip
    return written.getvalue()
