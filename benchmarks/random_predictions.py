"""Random predictions and golds that are hard to score: many scripts, punctuation only, nothing at all, ties."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

# Every script, articles, punctuation of several kinds, spaces of several kinds, marks, letters that lower() changes.
PIECES = (
    "the The a An un la los der Die eines của là những ال القاهرة مدينة والقاهرة؟ กรุงเทพ มหานคร ๆ "
    "中国 北京市 中 《红楼梦》 "
    "दिल्ली भारत। İstanbul STRASSE straße don't U.S. 1,000 3.5% a-b _ -- ... ?! 。 、 ؟ ؛ … “” ¿qué? $ + ^ ~ x y z"
).split() + [" ", "\u00a0", "\u3000", "\u200b", "\n", "\u0301", "𠮷", "かな", "・", "龥龦"]


def text(draw: random.Random) -> str:
    """A text of no, one or several pieces, mostly apart."""
    return "".join(
        piece + draw.choice(("", " ", " ")) for piece in draw.choices(PIECES, k=draw.choice((0, 1, 1, 2, 5)))
    )


def near(draw: random.Random, given: str) -> str:
    """The text itself, a part of it, more than it, or another."""
    cut = draw.randint(0, len(given))
    return draw.choice((given, given[cut:], given[:cut], f"{given} {text(draw)}", text(draw), text(draw)))


def questions(draw: random.Random, fewest: int) -> tuple[list[dict[str, Any]], dict[str, str], list[tuple[str, ...]]]:
    """A data set in SQuAD's format, predictions by id, and the gold answers in the same order."""
    golds = [tuple(text(draw) for _ in range(draw.randint(fewest, 3))) for _ in range(draw.randint(1, 6))]
    asked = [{"id": str(i), "answers": [{"text": a} for a in answers]} for i, answers in enumerate(golds)]
    predictions = {str(i): near(draw, (*answers, "")[0]) for i, answers in enumerate(golds)}
    return [{"paragraphs": [{"context": "", "qas": asked}], "title": ""}], predictions, golds


def sentences(draw: random.Random, tags: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
    """Gold tags, and predictions that differ in some."""
    some, noise = draw.sample(tags, draw.randint(1, len(tags))), draw.random()
    golds = [draw.choices(some, k=draw.randint(0, 12)) for _ in range(draw.randint(1, 6))]
    return [[draw.choice(tags) if draw.random() < noise else tag for tag in row] for row in golds], golds


def labels(draw: random.Random, names: Sequence[str]) -> tuple[list[str], list[str]]:
    pairs = [draw.choices(draw.sample(names, draw.randint(1, len(names))), k=2) for _ in range(draw.randint(1, 30))]
    return [a for a, _ in pairs], [b for _, b in pairs]


def rankings(draw: random.Random, most: int) -> tuple[list[list[str]], list[list[str]]]:
    """Rankings of up to 40 ids, some of them twice, and 1 to `most` right ids."""
    ids = [str(number) for number in range(30)]
    rows = range(draw.randint(1, 5))
    return [draw.choices(ids, k=draw.randint(0, 40)) for _ in rows], [
        draw.sample(ids, draw.randint(1, most)) for _ in rows
    ]
