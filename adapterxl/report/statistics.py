"""Means with their intervals, differences with their tests: every statistic of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from adapterxl.report.resample import RESAMPLES, SEED, Draws

LEVEL = 0.95
ALPHA = 0.05
ROUNDING = 1e-12  # equal values differ by less where a sum was taken in another order


@dataclass(frozen=True)
class Sample:
    """A quantity measured under several seeds.

    Attributes:
        by_seed: Seed -> value.
        draws: Its value on each resample of the test examples, one column a seed in ascending order; None
            where the predictions are not at hand.
    """

    by_seed: Mapping[int, float]
    draws: Draws | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: Unweighted mean.
        std: Sample standard deviation (n - 1) over seeds; None with fewer than two.
        low: Lower end of its 95 % interval; None where there is none.
        high: Upper end.
        p: Two-sided p-value of a difference against 0; None for what is no difference, and without a test.
        adjusted: The same after Holm's correction over its family.
        sample: What it was computed from; None where seeds differ, so that only the mean is known.
    """

    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted: float | None = None
    sample: Sample | None = None

    @property
    def by_seed(self) -> tuple[tuple[int, float], ...]:
        """(seed, value) in the order of seeds."""
        return tuple(sorted(self.sample.by_seed.items())) if self.sample else ()

    @property
    def shown(self) -> bool | None:
        """Whether a difference is shown at the 5 % level after correction; None where it was not tested."""
        return None if self.adjusted is None else self.adjusted < ALPHA


def for_seeds(sample: Sample, seeds: Iterable[int]) -> Sample:
    """Return what was measured once, and needs no seed, as a sample with the same value under each of `seeds`."""
    (value,), names = sample.by_seed.values(), list(seeds)
    return Sample(dict.fromkeys(names, value), None if sample.draws is None else np.repeat(sample.draws, len(names), 1))


def mean_of(samples: Iterable[Sample | None]) -> Sample | None:
    """Return the mean of quantities that all have the same seeds; None if there are none, or seeds differ."""
    found = list(samples)
    if not found or any(one is None or one.by_seed.keys() != (found[0] or one).by_seed.keys() for one in found):
        return None
    parts = [one for one in found if one is not None]
    values = {seed: fmean(part.by_seed[seed] for part in parts) for seed in parts[0].by_seed}
    draws = [part.draws for part in parts if part.draws is not None]
    return Sample(values, np.mean(draws, axis=0) if len(draws) == len(parts) else None)


def spread_of(samples: Iterable[Sample]) -> Sample | None:
    """Return the standard deviation (n - 1) of quantities, seed by seed; None for fewer than two, or other seeds.

    On resampled examples the quantities lie further apart than they are, by what chance adds to each. So the draws are
    moved to where their mean is the value measured.
    """
    found = list(samples)
    if len(found) < 2 or any(one.by_seed.keys() != found[0].by_seed.keys() for one in found):
        return None
    values = {seed: stdev(one.by_seed[seed] for one in found) for seed in found[0].by_seed}
    draws = [one.draws for one in found if one.draws is not None]
    if len(draws) < len(found):
        return Sample(values)
    apart = np.std(draws, axis=0, ddof=1)
    return Sample(values, np.maximum(apart - apart.mean(axis=0) + [values[seed] for seed in sorted(values)], 0.0))


def difference(ours: Sample | None, theirs: Sample | None) -> Estimate | None:
    """Return the estimate of ours minus theirs.

    With the same seeds on both sides it is paired, by seed and by example. With different seeds it is the
    difference of the means, and neither interval nor test is given.
    """
    if ours is None or theirs is None or not ours.by_seed or not theirs.by_seed:
        return None
    if ours.by_seed.keys() != theirs.by_seed.keys():
        return Estimate(fmean(ours.by_seed.values()) - fmean(theirs.by_seed.values()))
    draws = None if ours.draws is None or theirs.draws is None else ours.draws - theirs.draws
    return estimate(Sample({seed: ours.by_seed[seed] - theirs.by_seed[seed] for seed in ours.by_seed}, draws), True)


def estimate(sample: Sample | None, signed: bool = False) -> Estimate | None:
    """Return mean, deviation over seeds and 95 % interval; for a `signed` quantity a test against 0 as well.

    The interval is that of the quantity on other test examples of the same kind, trained with other seeds.
    Examples are resampled. Seeds are too few for that: two values resampled 2,000 times are still two values,
    and their interval holds the truth in 60 % of cases, not in 95 %. So a seed's part is Student's t with
    (seeds - 1) degrees of freedom, on the variance between seeds that the examples do not explain. Each draw
    is then the mean over seeds on one resample, plus one draw of the seeds' part. Without predictions it is
    Student's t over seeds; with a single seed, the examples alone.

    Source: method of moments for crossed factors (Searle, Casella and McCulloch 1992, chapter 4). How often the
    interval holds the truth is held by tests in tests/report/test_report_coverage.py.
    """
    if sample is None or not sample.by_seed:
        return None
    values = list(sample.by_seed.values())
    found = Estimate(fmean(values), stdev(values) if len(values) > 1 else None, sample=sample)
    if sample.draws is not None:
        return _resampled(found, sample.draws, max(0.0, _between(sample)), signed)
    if not found.std or found.std < ROUNDING:  # seeds that all agree say nothing of how far apart others would be
        return found
    test = stats.ttest_1samp(values, 0.0)
    p = max(float(test.pvalue), 1 / (RESAMPLES + 1)) if signed else None
    low, high = test.confidence_interval(LEVEL)
    return _with_interval(found, low, high, p, signed)


def together(found: Sequence[Estimate | None], signed: bool = False) -> list[Estimate | None]:
    """Return the estimates of one composition in its languages, with one variance between seeds for all of them.

    Of two or three seeds some language always looks as if seeds did not matter, and there a test would find
    what is not there. So the variance is the mean over the languages: seeds are taken to move them alike.
    """
    between: dict[int, list[float]] = {}
    for one in found:
        if one and one.sample and one.sample.draws is not None:
            between.setdefault(len(one.sample.by_seed), []).append(_between(one.sample))
    return [
        _resampled(one, one.sample.draws, max(0.0, fmean(between[len(one.sample.by_seed)])), signed)
        if one and one.sample and one.sample.draws is not None
        else one
        for one in found
    ]


def _between(sample: Sample) -> float:
    """Return the variance between seeds less the part that the examples explain; chance can make it negative."""
    assert sample.draws is not None
    seeds = len(sample.by_seed)
    if seeds < 2:
        return 0.0
    apart = sample.draws - sample.draws.mean(axis=1, keepdims=True)
    by_examples = float(apart.var(axis=0).mean()) * seeds / (seeds - 1)
    return stdev(sample.by_seed.values()) ** 2 - by_examples


def _resampled(found: Estimate, draws: Draws, between: float, signed: bool) -> Estimate:
    """Return the estimate with interval and test from resampled examples and a variance between seeds."""
    seeds = draws.shape[1]
    means = draws.mean(axis=1)
    if seeds > 1:
        means = means + _student(seeds - 1) * (between / seeds) ** 0.5
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return _with_interval(found, low, high, _p_value(means) if signed else None, signed)


def _with_interval(found: Estimate, low: float, high: float, p: float | None, signed: bool) -> Estimate:
    return replace(found, low=max(float(low), -1.0 if signed else 0.0), high=min(float(high), 1.0), p=p)


@cache
def _student(freedom: int) -> NDArray[np.float64]:
    """Return evenly spaced quantiles of Student's t in a fixed random order: exact also in its tails."""
    quantiles = stats.t.ppf((np.arange(RESAMPLES) + 0.5) / RESAMPLES, freedom)
    return np.random.default_rng([SEED, freedom]).permutation(quantiles)


def _p_value(draws: NDArray[np.float64]) -> float:
    """Return twice the share of draws on the far side of 0, counting the observed one: never below 2 / 2001."""
    below = int((draws <= ROUNDING).sum()) + 1
    above = int((draws >= -ROUNDING).sum()) + 1
    return min(1.0, 2 * min(below, above) / (len(draws) + 1))


def holm(family: Sequence[Estimate | None]) -> list[Estimate | None]:
    """Return the estimates with `adjusted` set: Holm's step-down p-values over those that were tested.

    Source: Holm 1979. scipy.stats (1.17) has no Holm; its `false_discovery_control` bounds another error.
    """
    tested = sorted((one.p, place) for place, one in enumerate(family) if one is not None and one.p is not None)
    result = list(family)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        one = result[place]
        assert one is not None
        result[place] = replace(one, adjusted=highest)
    return result
