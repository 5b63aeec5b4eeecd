"""Bootstrap over test examples: the value of every seed on thousands of samples of the same examples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from adapterxl.evaluation.metrics import Metric
from adapterxl.evaluation.metrics.base import Counts

RESAMPLES = 2000
SEED = 2005  # any number: fixed, so that a report is the same each time
_STEP = 1024  # examples whose weights are in memory at a time: 16 MiB

Draws = NDArray[np.float64]  # shape (RESAMPLES, seeds)


@dataclass(frozen=True)
class Block:
    """Counts of the same examples under several seeds, shape (seeds, examples, counts); `ids` in their order."""

    metric: Metric
    ids: tuple[str, ...]
    counts: Counts


def resample(blocks: Sequence[Block]) -> list[Draws]:
    """Return, per block, the value of each seed on each resample.

    How often an example is in a sample is drawn from its id alone (Poisson with mean 1, which is what drawing
    with replacement comes to). So two compositions are compared on the same examples (paired), all seeds of a
    composition too (examples and seeds are crossed), and a sentence that a test set has in several languages
    counts alike in all of them, also where some lack it.

    Source: Efron and Tibshirani 1993 (bootstrap); Chamandy et al. 2012 (Poisson weights from ids); Owen 2007,
    arXiv 0712.1111 (crossed factors, each resampled on its own; the seeds are `statistics.estimate`'s part).
    """
    places: dict[tuple[str, ...], list[int]] = {}
    for place, block in enumerate(blocks):
        places.setdefault(_keys(block.ids), []).append(place)
    draws: list[Draws | None] = [None] * len(blocks)
    for keys, members in places.items():
        tables = [blocks[place].counts.transpose(1, 0, 2).reshape(len(keys), -1) for place in members]
        table = np.concatenate(tables, axis=1)
        sums = np.zeros((RESAMPLES, table.shape[1]))
        for begin in range(0, len(keys), _STEP):
            part = slice(begin, begin + _STEP)
            sums += _weights(keys[part]) @ table[part]
        ends = np.cumsum([table.shape[1] for table in tables])
        for place, own in zip(members, np.split(sums, ends[:-1], axis=1), strict=True):
            block = blocks[place]
            draws[place] = block.metric.value(own.reshape(RESAMPLES, len(block.counts), -1))
    return [found for found in draws if found is not None]


def _keys(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return ids without what is the same in all of them, up to a colon.

    Examples without an id of their own are named by file or language and line: "dev-de.tsv:7" is the translation
    of "dev-sw.tsv:7" in a parallel test set. In any other set nothing follows from their having one key: what
    happens to them is then uncorrelated, so the samples tell nothing else than if they were drawn apart.
    """
    names = {identity.rpartition(":")[0] for identity in ids}
    return tuple(identity.rpartition(":")[2] for identity in ids) if len(names) == 1 else ids


def _weights(keys: Sequence[str]) -> Draws:
    """Return how often each example is in each sample: shape (RESAMPLES, examples)."""
    weights, counts = np.empty((len(keys), RESAMPLES)), _poisson()
    for place, key in enumerate(keys):
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        generator = np.random.default_rng([SEED, int.from_bytes(digest[:8], "big")])
        weights[place] = counts[generator.integers(0, len(counts), RESAMPLES, dtype=np.uint16)]
    return weights.T


@cache
def _poisson() -> Draws:
    """Return 65,536 evenly spaced quantiles of the Poisson distribution: one is drawn faster than a Poisson number."""
    size = 1 << 16
    return np.asarray(stats.poisson.ppf((np.arange(size) + 0.5) / size, 1.0), dtype=np.float64)
