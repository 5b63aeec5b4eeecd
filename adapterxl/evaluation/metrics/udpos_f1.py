"""XTREME's score of part-of-speech tagging: seqeval's span F1 on tags that have no B- and I-."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics.base import Counts, Metric, tagged_rows


def bare_spans(tags: Iterable[str]) -> set[tuple[str, int, int]]:
    """Return (tag, first word, word after the last) of what seqeval takes for entities in one sentence.

    Neighbours of one tag are one entity, so NOUN NOUN counts once and is right as a whole or not at all. A tag with
    B, E or S first is read as the prefix of that letter, so each SCONJ and SYM is an entity of its own; one with O or
    a point first is none.

    Raises:
        DataError: For a tag with a hyphen, which would be read as prefix and type.

    Source: seqeval 0.0.12, which jiant pins and which was the newest when XTREME came out. Version 1 drops the first
    letter of a tag, and so takes SCONJ for CCONJ, and X for O.
    """
    found: set[tuple[str, int, int]] = set()
    previous, start, position = "O", 0, -1
    for position, tag in enumerate([*tags, "O"]):
        if "-" in tag or not tag:
            raise DataError(f"udpos_f1: found the tag {tag!r}, expected one without a hyphen, such as NOUN.")
        if tag == previous and tag[0] not in "BES":
            continue
        if previous[0] not in "O.":
            found.add((previous, start, position))
        previous, start = tag, position
    return found


def udpos_f1(predictions: Sequence[Sequence[str | None]], golds: Sequence[Sequence[str]]) -> Counts:
    """Return (twice the right runs of tags, predicted and gold runs) for each sentence.

    Args:
        predictions: Per sentence one tag a word. None, for a word without any sub-word, belongs to no run.
        golds: Per sentence one tag a word.

    Raises:
        DataError: For empty input, unequal lengths of a side or of a sentence, a tag with a hyphen.

    Source: Hu et al. 2020 (XTREME), evaluate.py: seqeval's f1_score for UDPOS too.
    """
    counts = []
    for predicted, gold in tagged_rows("udpos_f1", predictions, golds):
        ours, theirs = bare_spans("O" if tag is None else tag for tag in predicted), bare_spans(gold)
        counts.append((2 * len(ours & theirs), len(ours) + len(theirs)))
    return np.array(counts, dtype=np.float64)


METRIC = Metric(
    name="udpos_f1",
    kinds=("tag",),
    summary="F1 over runs of equal tags, as XTREME scores parts of speech",
    source="Hu et al. 2020 (XTREME), arXiv 2003.11080, with seqeval 0.0.12",
    counts=udpos_f1,
)
