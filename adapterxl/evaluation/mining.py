"""Mine translations: exact nearest neighbours both ways, ratio margin, best pairs, a threshold frozen on dev (BUCC)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapterxl.errors import DataError, UsageError

from .retrieval import check_sides, unit_rows

NEIGHBOURS = 4  # as XTREME and LASER's BUCC script
_STRIPE = 1 << 25  # most scores in memory at a time: 128 MiB
_HEIGHT = 512  # most rows of a stripe: the more stripes came before, the fewer columns change
_PARTS = 64  # columns that one maximum stands for

Pairs = list[tuple[str, str, float]]
"""(id of the source sentence, id of the target sentence, margin score), best first."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of the other side, best first: cosines and row numbers, shape (rows, k) each."""

    cosines: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Side:
    """The sentences of one language.

    Attributes:
        ids: One a sentence, unique.
        texts: Their texts; a text may stand there several times.
        vectors: Shape (sentences, hidden).
    """

    ids: Sequence[str]
    texts: Sequence[str]
    vectors: Tensor


@torch.no_grad()
def neighbours(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> tuple[Neighbours, Neighbours]:
    """Return the k rows of `y` nearest to each row of `x`, and of `x` to each row of `y`, by inner product.

    Exact: every product is looked at, once for both ways. Only a stripe of them is in memory at a time (128 MiB).
    Which of equal products is kept is not defined.

    Args:
        x: Unit rows, float32, shape (m, hidden).
        y: The same, shape (n, hidden), on the same device.
        k: At most as many as a side has rows are returned.

    Raises:
        UsageError: If `k` is below 1.
    """
    if k < 1:
        raise UsageError(f"neighbours is {k}; expected 1 or more.")
    m, n = len(x), len(y)
    forward, backward = min(k, n), min(k, m)
    width = -(-n // _PARTS)  # columns c, c + width, c + 2 * width, ... share a maximum
    padded = torch.zeros(width * _PARTS, y.shape[1], dtype=y.dtype, device=y.device)
    padded[:n] = y
    height = max(1, min(m, _HEIGHT, _STRIPE // len(padded)))
    places = torch.arange(_PARTS, device=y.device) * width
    found: list[tuple[Tensor, Tensor]] = []
    best = torch.full((n, backward), -torch.inf, device=y.device)
    who = torch.zeros((n, backward), dtype=torch.int64, device=y.device)
    buffer = torch.empty(height, len(padded), device=y.device)
    for begin in range(0, m, height):
        rows = x[begin : begin + height]
        stripe = torch.mm(rows, padded.T, out=buffer[: len(rows)])
        stripe[:, n:] = -torch.inf
        # The k highest of a row lie in the k parts with the highest maxima: only those are sorted.
        maxima = stripe.view(len(rows), _PARTS, width).amax(dim=1)
        parts = maxima.topk(min(forward, width)).indices
        columns = (parts[:, :, None] + places).flatten(1)
        values, order = stripe.gather(1, columns).topk(forward)
        found.append((values, columns.gather(1, order)))
        # A column is looked at only where this stripe has something higher than its k-th so far.
        changed = (stripe[:, :n].amax(dim=0) > best[:, -1]).nonzero()[:, 0]
        values, order = stripe[:, changed].T.topk(min(backward, len(rows)))
        values = torch.cat([best[changed], values], dim=1)
        numbers = torch.cat([who[changed], order + begin], dim=1)
        best[changed], order = values.topk(backward)
        who[changed] = numbers.gather(1, order)
    cosines, numbers = (torch.cat(side) for side in zip(*found, strict=True))
    return Neighbours(cosines, numbers), Neighbours(best, who)


def margin_pairs(x: Tensor, y: Tensor, k: int = NEIGHBOURS, *, center: bool = False) -> tuple[Tensor, Tensor]:
    """Return the best pairs of rows, none of them twice, with their margin scores, best first.

    Each row proposes the neighbour with the highest ratio margin: the cosine over the mean of both rows' mean cosines
    with their k nearest. Proposals of both sides are taken from the highest score down while both rows are free;
    equal ones in the order of rows, `x` first. Scores of 0 or less are left out.

    Args:
        x: Shape (m, hidden).
        y: Shape (n, hidden), on the same device.
        k: Neighbours on each side.
        center: Subtract each side's own mean first.

    Returns:
        Pairs, shape (p, 2), int64, and scores, shape (p,), float64, on the CPU.

    Raises:
        DataError: If a side is empty, if the widths differ, or if a row has no direction.

    Source: Artetxe and Schwenk 2019, arXiv 1811.01136 (ratio margin, "max" retrieval).
    """
    check_sides(x, y, "sources", "targets")
    sides = unit_rows("sources", x, center), unit_rows("targets", y, center)
    with torch.autocast(x.device.type, enabled=False):
        return best_pairs(*neighbours(*sides, k))


def best_pairs(forward: Neighbours, backward: Neighbours) -> tuple[Tensor, Tensor]:
    """Return what `margin_pairs` does, from the neighbours of both sides."""
    proposals, scores = [], []
    for side, other in ((forward, backward), (backward, forward)):
        means = side.cosines.double().mean(dim=1)[:, None] + other.cosines.double().mean(dim=1)[side.rows]
        margins = side.cosines.double() / (means / 2)
        best, place = margins.max(dim=1)
        chosen = side.rows.gather(1, place[:, None])[:, 0]
        rows = torch.arange(len(chosen), device=chosen.device)
        proposals.append(torch.stack((rows, chosen) if side is forward else (chosen, rows), dim=1))
        scores.append(best)
    pairs, score = torch.cat(proposals).cpu(), torch.cat(scores).cpu()
    order = torch.argsort(score, descending=True, stable=True)
    order = order[score[order] > 0]
    taken_x, taken_y = [False] * len(forward.rows), [False] * len(backward.rows)
    kept = []
    for place, (i, j) in zip(order.tolist(), pairs[order].tolist(), strict=True):
        if not taken_x[i] and not taken_y[j]:
            taken_x[i] = taken_y[j] = True
            kept.append(place)
    return pairs[kept], score[kept]


def mine(sources: Side, targets: Side, k: int = NEIGHBOURS, *, center: bool = False) -> Pairs:
    """Return the best pairs of sentences with their margin scores, best first.

    A text that a side has several times is searched for once. Its pair is not returned, as it has no one id.

    Raises:
        DataError: As `margin_pairs`, for ids that are not unique, and for a side whose parts differ in length.

    Source: XTREME's mining of BUCC (Hu et al. 2020, utils_retrieve.py).
    """
    (first, of_first), (second, of_second) = _unique("sources", sources), _unique("targets", targets)
    pairs, scores = margin_pairs(sources.vectors[first], targets.vectors[second], k, center=center)
    named = ((of_first[i], of_second[j], score) for (i, j), score in zip(pairs.tolist(), scores.tolist(), strict=True))
    return [(i, j, score) for i, j, score in named if i is not None and j is not None]


def _unique(name: str, side: Side) -> tuple[list[int], list[str | None]]:
    """Return the first place of each text, and its id, None for a text that comes again."""
    if not len(side.ids) == len(side.texts) == len(side.vectors):
        raise DataError(
            f"Mining: the {name} have {len(side.ids)} ids, {len(side.texts)} texts and {len(side.vectors)} vectors; "
            "expected one of each a sentence."
        )
    if len(set(side.ids)) < len(side.ids):
        twice = Counter(side.ids).most_common(1)[0][0]
        raise DataError(f"Mining: the id {twice!r} stands more than once among the {name}; expected unique ids.")
    places: dict[str, int] = {}
    ids: dict[str, str | None] = {}
    for place, (text, name_of) in enumerate(zip(side.texts, side.ids, strict=True)):
        ids[text] = None if text in places else name_of
        places.setdefault(text, place)
    return list(places.values()), list(ids.values())


def freeze_threshold(pairs: Pairs, gold: Collection[tuple[str, str]]) -> float:
    """Return the threshold of best F1 on pairs of a dev set: what scores as much or more is kept.

    It lies half-way between the last pair kept and the next, at the last score where all are kept, and at infinity
    where no pair is right.

    Args:
        pairs: Mined on dev, best first.
        gold: The right pairs of dev.

    Raises:
        DataError: If there is no gold pair, or the pairs are not in order.

    Source: XTREME's bucc_optimize, which fails where all are kept (Hu et al. 2020, utils_retrieve.py).
    """
    if not gold:
        raise DataError("Mining: there is no gold pair to choose a threshold on; expected those of a dev set.")
    right, wanted, best, threshold = 0, set(gold), 0.0, float("inf")
    for place, (source, target, score) in enumerate(pairs):
        after = pairs[place + 1][2] if place + 1 < len(pairs) else score
        if after > score:
            raise DataError(f"Mining: pair {place + 1} scores higher than the one before; expected the best first.")
        right += (source, target) in wanted
        precision, recall = right / (place + 1), right / len(wanted)
        # Not 2 * right / (place + 1 + len(wanted)): where two have one F1, rounding then chooses as it does in XTREME.
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        if f1 > best:
            best, threshold = f1, (score + after) / 2
    return threshold


def by_source(
    pairs: Pairs, gold: Collection[tuple[str, str]], threshold: float
) -> tuple[list[str], list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return what the metric `bucc` takes: ids of source sentences, their mined targets, their gold targets.

    Only sentences with a gold target or a pair at or above the threshold are listed, in alphabetical order; the
    others change nothing.

    Args:
        threshold: From `freeze_threshold` on dev, never on these pairs.
    """
    mined: dict[str, list[str]] = {}
    wanted: dict[str, list[str]] = {}
    for source, target, score in pairs:
        if score >= threshold:
            mined.setdefault(source, []).append(target)
    for source, target in sorted(set(gold)):
        wanted.setdefault(source, []).append(target)
    ids = sorted({*mined, *wanted})
    return ids, [tuple(mined.get(each, ())) for each in ids], [tuple(wanted.get(each, ())) for each in ids]
