"""Mean and spread over seeds: the only two statistics of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: Unweighted mean.
        std: Sample standard deviation (n - 1) over seeds; None with fewer than two.
        by_seed: (seed, value) behind it, in the order of seeds.
    """

    mean: float
    std: float | None
    by_seed: tuple[tuple[int, float], ...]


def estimate(by_seed: Mapping[int, float]) -> Estimate | None:
    """Return mean and sample standard deviation over seeds, or None where there is no value."""
    values = list(by_seed.values())
    if not values:
        return None
    return Estimate(fmean(values), stdev(values) if len(values) > 1 else None, tuple(sorted(by_seed.items())))


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Return ours minus theirs.

    With the same seeds on both sides it is paired: the spread is that of the differences. With
    different seeds it is the difference of the means, and no spread is given.
    """
    if not ours or not theirs:
        return None
    if ours.keys() == theirs.keys():
        return estimate({seed: ours[seed] - theirs[seed] for seed in ours})
    return Estimate(fmean(ours.values()) - fmean(theirs.values()), None, ())


def mean_of(series: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """Return, per seed, the mean of several series that all have the same seeds."""
    rows = list(series)
    return {seed: fmean(row[seed] for row in rows) for seed in rows[0]} if rows else {}
