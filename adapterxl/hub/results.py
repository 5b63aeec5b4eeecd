"""From scores to a card's results: are they of this module, alike over seeds, and what are the means?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev
from typing import Any

from ..artifacts import Manifest
from ..errors import BackboneError, UsageError
from ..evaluation.scores import Record, Scores, language_values


@dataclass(frozen=True)
class Value:
    """One number over seeds, 0 to 1. `std` is the sample standard deviation, None with one seed."""

    mean: float
    std: float | None
    own: float  # of the seed whose weights the folder holds

    @property
    def percent(self) -> str:
        """Such as "61.2" or "61.2 ± 0.4", in percent."""
        spread = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return _signed(f"{100 * self.mean:.1f}{spread}")

    @property
    def own_percent(self) -> str:
        return _signed(f"{100 * self.own:.1f}")


@dataclass(frozen=True)
class Row:
    """One line of the table; `values` are in the order of the metrics, None where there is no score.

    Attributes:
        split: "" for summaries and for languages without a score.
        counts: Fewest and most examples behind one number of it; (0, 0) for summaries.
        over_mean: A summary that rests on the zero-shot mean, so on the languages that were scored.
    """

    label: str
    language: str | None
    split: str
    counts: tuple[int, int]
    values: tuple[Value | None, ...]
    over_mean: bool = False

    @property
    def n(self) -> str:
        """Such as "500" or "150–200"."""
        return "–".join(f"{count:,}" for count in dict.fromkeys(self.counts) if count)


@dataclass(frozen=True)
class Result:
    """The evaluation of a module in one task, over one or more seeds.

    Attributes:
        own: The scores of the very weights in the folder.
        metrics: The primary ones first.
    """

    own: Scores
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    summary: tuple[Row, ...]

    @property
    def is_retrieval(self) -> bool:
        return any(record.direction is not None for record in self.own.records)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(sorted({record.split for record in self.own.records}))

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with a score, the source language first."""
        found = [row.language for row in self.rows if row.language and row.split]
        return tuple(dict.fromkeys([self.own.source_language, *found]))

    @property
    def coverage(self) -> str:
        """Which of the expected target languages the zero-shot mean is over; "" when nothing is missing."""
        expected = [x for x in self.own.expected_languages if x != self.own.source_language]
        there = [x for x in expected if x not in self.own.missing_languages]
        return "" if there == expected else f"{len(there)} of {len(expected)} languages"


def summarise(manifest: Manifest, digest: str, scores: Sequence[Scores]) -> list[Result]:
    """The results of a module, one a task, in the order given.

    Args:
        digest: The module's own. Scores with another one are taken for other seeds of it only where everything
            else is equal, and where the module's own scores in that task are there too.

    Raises:
        BackboneError: If scores are on another backbone.
        UsageError: If scores are of another module, or are not alike.
    """
    for one in scores:
        if one.base.fingerprint != manifest.base.fingerprint:
            raise BackboneError(
                f"{one.origin}: scored on {one.base.name} with fingerprint {one.base.fingerprint[:12]}, expected the "
                f"base of '{manifest.name}': {manifest.base.name}, {manifest.base.fingerprint[:12]}."
            )
    own: dict[str, Scores] = {}
    for one in scores:
        if one.module.digest == digest:
            if one.task in own:
                raise UsageError(
                    f"{one.origin}: a second evaluation of '{manifest.name}' in {one.task}, beside "
                    f"{own[one.task].origin}. A card shows one; leave the other out."
                )
            own[one.task] = one
    by_task = {task: {mine.seed: mine} for task, mine in own.items()}
    for one in scores:
        if one.module.digest != digest:
            _check_other_seed(manifest, digest, one, own.get(one.task), by_task.get(one.task, {}))
            by_task[one.task][one.seed] = one
    return [_result(own[task], [seeds[seed] for seed in sorted(seeds)]) for task, seeds in by_task.items()]


def _check_other_seed(
    manifest: Manifest, digest: str, other: Scores, own: Scores | None, there: dict[int, Scores]
) -> None:
    recipe = _recipe(other)
    if own is None or other.module.digest is None or recipe != _recipe(own) or other.seed == own.seed:
        found = "no digest" if other.module.digest is None else f"digest {other.module.digest[:12]}"
        raise UsageError(
            f"{other.origin}: of module '{other.module.name}' ({found}, seed {other.seed}), expected scores of "
            f"'{manifest.name}' (digest {digest[:12]}), or of another seed of it beside its own. "
            "Score this module again, or leave them out."
        )
    if other.seed in there:
        raise UsageError(f"{other.origin}: seed {other.seed} in {other.task} is there already; leave one of them out.")
    expected = _circumstances(own)
    for field, found in _circumstances(other).items():
        if found != expected[field]:
            raise UsageError(
                f"{other.origin}: {field}: found {_short(found)}, but {own.origin} has {_short(expected[field])}. "
                "Seeds are averaged only where they are scored alike."
            )


def _recipe(scores: Scores) -> tuple[Any, ...]:
    """What two seeds of one module have in common."""
    module = scores.module
    return module.name, module.task, module.method, module.composition, tuple(module.parts), module.parameters


def _circumstances(scores: Scores) -> dict[str, Any]:
    """How a module was scored."""
    return {
        "engine": scores.engine,
        "source_language": scores.source_language,
        "train_from": scores.train_from,
        "options": scores.options,
        "expected_languages": scores.expected_languages,
        "records": sorted((*map(str, _key(one)), one.split, one.n, one.primary) for one in scores.records),
    }


def _key(record: Record) -> tuple[str, str, str | None, str | None]:
    return record.metric, record.language, record.context_language, record.direction


def _result(own: Scores, seeded: Sequence[Scores]) -> Result:
    primary = {record.metric: record.primary for record in own.records}
    metrics = sorted(primary, key=lambda metric: (not primary[metric], metric))
    source = own.source_language

    def over_seeds(measure: Callable[[Scores], float | None]) -> Value | None:
        """The mean of a figure that each seed has, or none has."""
        found = [value for scores in seeded if (value := measure(scores)) is not None]
        mine = measure(own)
        return None if mine is None else Value(fmean(found), stdev(found) if len(found) > 1 else None, mine)

    def values(language: str) -> tuple[Value | None, ...]:
        return tuple(over_seeds(partial(_in, metric=metric, language=language)) for metric in metrics)

    straight = [record for record in own.records if not record.crossed]
    known = list(dict.fromkeys([*own.expected_languages, *sorted({record.language for record in straight})]))
    known.sort(key=lambda language: language != source)  # stable: the rest keeps the benchmark's order
    rows = [_language_row(language, straight, values(language)) for language in known]
    crossed = sorted({(r.language, str(r.context_language)) for r in own.records if r.crossed})
    for language, context in crossed:
        records = [r for r in own.records if (r.language, r.context_language) == (language, context)]
        found = tuple(over_seeds(partial(_crossed, metric=m, language=language, context=context)) for m in metrics)
        rows.append(Row(f"{language}, context {context}", None, *_behind(records), found))
    means = tuple(over_seeds(partial(_mean, metric=metric)) for metric in metrics)
    summary = [Row("zero-shot mean", None, "", (0, 0), means, True)] if any(means) else []
    lead = [(row.values[0].mean, row) for row in rows if row.language not in (None, source) and row.values[0]]
    if len(lead) > 1:
        worst = min(lead, key=lambda pair: pair[0])[1]  # by the primary metric
        summary.append(Row(f"worst language: {worst.label}", None, "", (0, 0), worst.values))
    gaps = tuple(over_seeds(partial(_gap, metric=metric)) for metric in metrics)
    if any(gaps):
        summary.append(Row(f"transfer gap ({source} minus zero-shot mean)", None, "", (0, 0), gaps, True))
    return Result(own, tuple(s.seed for s in seeded), tuple(metrics), tuple(rows), tuple(summary))


def _language_row(language: str, straight: Sequence[Record], found: tuple[Value | None, ...]) -> Row:
    return Row(language, language, *_behind([r for r in straight if r.language == language]), found)


def _behind(records: Sequence[Record]) -> tuple[str, tuple[int, int]]:
    """Split and numbers of examples behind a row."""
    counts = [record.n for record in records] or [0]
    return ", ".join(sorted({record.split for record in records})), (min(counts), max(counts))


def _in(scores: Scores, metric: str, language: str) -> float | None:
    return language_values(scores.records).get(metric, {}).get(language)


def _crossed(scores: Scores, metric: str, language: str, context: str) -> float | None:
    wanted = metric, language, context
    found = [r.value for r in scores.records if (r.metric, r.language, r.context_language) == wanted]
    return fmean(found) if found else None


def _mean(scores: Scores, metric: str) -> float | None:
    return scores.zero_shot_mean.get(metric)


def _gap(scores: Scores, metric: str) -> float | None:
    source, mean = _in(scores, metric, scores.source_language), scores.zero_shot_mean.get(metric)
    return None if source is None or mean is None else source - mean


def _signed(text: str) -> str:
    return text.replace("-0.0", "0.0") if text.startswith("-0.0") else text.replace("-", "\N{MINUS SIGN}")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
