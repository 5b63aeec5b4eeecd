"""Span F1: F1 over whole entities, type and both ends right, over all sentences of a language (PAN-X)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics.base import Counts, Metric, tagged_rows

_IOB2 = re.compile(r"O|[BI]-.+", re.DOTALL)


def entities(tags: Iterable[str]) -> set[tuple[str, int, int]]:
    """Return (type, first word, word after the last) of each entity in one sentence of IOB2 tags.

    An ill-formed start is read as conlleval reads it: an I- after O, or after another type, opens an entity.

    Raises:
        DataError: For a tag that is not O, B-type or I-type.

    Source: Tjong Kim Sang and De Meulder 2003 (conlleval).
    """
    found: set[tuple[str, int, int]] = set()
    current, start = "", 0  # "" while no entity is open; IOB2 has no empty type
    position = -1
    for position, tag in enumerate(tags):
        if not _IOB2.fullmatch(tag):
            raise DataError(f"span_f1: found the tag {tag!r}, expected O, B-type or I-type.")
        prefix, _, entity_type = tag.partition("-")
        if prefix == "I" and entity_type == current:
            continue
        if current:
            found.add((current, start, position))
        current, start = entity_type, position
    if current:
        found.add((current, start, position + 1))
    return found


def span_f1(predictions: Sequence[Sequence[str | None]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (twice the right entities, predicted and gold entities) for each sentence.

    The ratio of their sums is micro-averaged F1, as seqeval's default mode computes it. An entity
    is right if type, first and last word are. Without any entity on either side the value is 0.

    Args:
        predictions: Per sentence one IOB2 tag a word. None, for a word without any sub-word, is outside of
            every entity.
        golds: Per sentence one IOB2 tag a word.

    Raises:
        DataError: For empty input, unequal lengths of a side or of a sentence, or a tag that is not IOB2.

    Source: Tjong Kim Sang and De Meulder 2003; XTREME scores PAN-X by it (Hu et al. 2020).
    """
    counts = []
    for predicted, gold in tagged_rows("span_f1", predictions, golds):
        ours = entities("O" if tag is None else tag for tag in predicted)
        theirs = entities(gold)
        counts.append((2 * len(ours & theirs), len(ours) + len(theirs)))
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="span_f1",
    kinds=("tag",),
    summary="F1 over entities with type and both ends right",
    source="Tjong Kim Sang and De Meulder 2003 (conlleval), W03-0419",
    counts=span_f1,
)
