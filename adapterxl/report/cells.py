"""The measurements of one metric: per column and language a sample over seeds, resampled where it can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.base import stacked
from adapterxl.evaluation.scores import Record, Scores, language_values
from adapterxl.report.model import Column, is_retrieval
from adapterxl.report.predictions import Place, Predictions, place
from adapterxl.report.resample import Block, resample
from adapterxl.report.statistics import Estimate, Sample, difference, for_seeds


class Cells:
    """The values of one metric in one section.

    Attributes:
        seeds: Per column, its seeds.
        records: Per column, (place) -> seed -> record.
        samples: Per column, (place) -> sample: what a row shows.
        languages: Per column, language -> sample: directions averaged, crossed records left out.
        targets: Languages other than the source, in the order of rows.
        uneven: (column, language) whose seeds scored different examples.
    """

    def __init__(
        self,
        metric: str,
        columns: Sequence[Column],
        ordered: Sequence[Sequence[Scores]],
        predictions: Sequence[Sequence[Predictions]],
    ) -> None:
        self.columns = columns
        self.source = ordered[0][0].source_language
        self.retrieval = is_retrieval(ordered[0][0])
        self.seeds = [[scores.seed for scores in column] for column in ordered]
        self.records = [_records(metric, column) for column in ordered]
        self._ids: list[dict[Place, tuple[str, ...]]] = [{} for _ in columns]
        self.uneven: list[tuple[int, str]] = []
        self.samples = self._sample(metric, predictions)
        self.languages = [self._by_language(metric, *pair) for pair in zip(ordered, self.samples, strict=True)]
        names = {name for column in ordered for scores in column for name in scores.expected_languages}
        names.update(name for languages in self.languages for name in languages)
        self.targets = sorted(names - {self.source})

    def _sample(self, metric: str, predictions: Sequence[Sequence[Predictions]]) -> list[dict[Place, Sample]]:
        samples: list[dict[Place, Sample]] = [{} for _ in self.columns]
        places: list[tuple[int, Place]] = []
        blocks: list[Block] = []
        for column, records in enumerate(self.records):
            of_seed = dict(zip(self.seeds[column], predictions[column], strict=True))
            for where, by_seed in records.items():
                samples[column][where] = Sample({seed: record.value for seed, record in by_seed.items()})
                counted = [of_seed[seed].counted.get((metric, where)) for seed in sorted(by_seed)]
                known = [one for one in counted if one is not None]
                if len(known) < len(counted):
                    continue
                if any(one.ids != known[0].ids for one in known):
                    self.uneven.append((column, where[0]))
                    continue
                self._ids[column][where] = known[0].ids
                places.append((column, where))
                blocks.append(Block(get_metric(metric), known[0].ids, stacked([one.counts for one in known])))
        for (column, where), draws in zip(places, resample(blocks), strict=True):
            samples[column][where] = replace(samples[column][where], draws=draws)
        return samples

    def _by_language(self, metric: str, column: Sequence[Scores], samples: Mapping[Place, Sample]) -> dict[str, Sample]:
        values: dict[str, dict[int, float]] = {}
        for scores in column:
            for language, value in language_values(scores.records).get(metric, {}).items():
                values.setdefault(language, {})[scores.seed] = value
        found = {}
        for language, by_seed in values.items():
            parts = [
                sample for (name, context, _), sample in samples.items()
                if name == language and context in (None, language)
            ]  # fmt: skip
            draws = [part.draws for part in parts if part.draws is not None and part.by_seed.keys() == by_seed.keys()]
            found[language] = Sample(by_seed, np.mean(draws, axis=0) if draws and len(draws) == len(parts) else None)
        return found

    def complete(self, column: int) -> list[str]:
        """Target languages that every seed of a column has: only these can enter a mean over seeds."""
        seeds, found = self.seeds[column], self.languages[column]
        return [name for name in self.targets if name in found and len(found[name].by_seed) == len(seeds)]

    def worst(self, column: int) -> str:
        """The complete target language with the lowest mean over seeds; "" if there is none."""
        means = [(fmean(self.languages[column][name].by_seed.values()), name) for name in self.complete(column)]
        return min(means)[1] if means else ""

    def baseline(self, column: int) -> int | None:
        """Position of the baseline with the same method, options and engine; in retrieval also the backbone alone.

        Elsewhere method "none" is a head without any module: to compare with it would credit the
        intermediate task with what the target module alone brings. Of a perturbed copy it is the same on clean input.
        """
        mine = self.columns[column]
        if mine.perturbed:
            clean = replace(mine, perturbed="")
            return next(
                (place for place, other in enumerate(self.columns) if replace(other, family=mine.family) == clean), None
            )
        for method in (mine.method, "none") if self.retrieval else (mine.method,):
            variant = mine.variant if method == mine.method else ""
            for position, other in enumerate(self.columns):
                if other.is_baseline and (other.method, other.variant, other.engine) == (method, variant, mine.engine):
                    return position
        return None

    def gain(self, ours: Sample | None, theirs: Sample | None, base: int) -> Estimate | None:
        """Difference to a baseline; the backbone alone is the same for every seed."""
        if ours and theirs and self.retrieval and self.columns[base].is_backbone and len(theirs.by_seed) == 1:
            theirs = for_seeds(theirs, ours.by_seed)
        return difference(ours, theirs)

    def unpaired(self, column: int, base: int) -> list[str]:
        """Languages that a column and its baseline scored on different examples."""
        ours, theirs = self._ids[column], self._ids[base]
        return list(dict.fromkeys(where[0] for where in ours if where in theirs and ours[where] != theirs[where]))


def _records(metric: str, column: Sequence[Scores]) -> dict[Place, dict[int, Record]]:
    found: dict[Place, dict[int, Record]] = {}
    for scores in column:
        for record in scores.records:
            if record.metric == metric:
                found.setdefault(place(record), {})[scores.seed] = record
    return found
