"""The rows that the miniature backbone is pretrained on: stories and quizzes, with the words to mask in them.

Half of the rows are stories in one language, half are a story and its translation (Conneau and Lample 2019,
https://arxiv.org/abs/1901.07291): real text aligns languages through sheer amount, this world is too small for that.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
import torch
from miniature_tokenizer import POSITIONS, SEED, SPLITS
from tokenizers import Tokenizer
from tqdm import tqdm

from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.text import quiz, story
from adapterxl.miniature.world import World

# Chance of a word to be masked: told first, said again, beside its translation.
FIRST, AGAIN, BESIDE = 0.10, 0.30, 0.30
KEPT, REPLACED = 0.12, 0.30  # of the chosen words; the rest is masked

Row = tuple[list[int], list[float]]  # ids, and the chance of each to be masked
Encoded = list[list[tuple[list[int], ...]]]  # language -> number -> ids of each of PARTS
PARTS = 8  # of a story what is told and what is said again; of a plain and another quiz verdict, told, statement


def passages(number: int) -> dict[str, tuple[str, ...]]:
    """A story and two quizzes of a world of their own, in all languages; for the parts see PARTS."""
    world = World(f"{SEED} {number}", SPLITS)
    first, again = story(world, world.random.randint(1, 4))
    quizzes = [next(q for _ in itertools.count() if (q := quiz(world, plain)) is not None) for plain in (True, False)]
    found = {}
    for code, language in LANGUAGES.items():
        # Tagging tasks give words one by one, also in languages without spaces: the model must have seen that.
        apart = not language.spaced and world.random.random() < 0.4
        sides = []
        for lines in (first, again):
            words = [line.words(language) for line in lines]
            if apart:
                sides.append(" ".join(word.text for sentence in words for word in sentence))
            else:
                sides.append((" " if language.spaced else "").join(language.text(sentence) for sentence in words))
        found[code] = (*sides, *quizzes[0].said(language), *quizzes[1].said(language))
    return found


def encode(tokenizer: Tokenizer, numbers: range, quiet: bool = False) -> Encoded:
    """Per language and story the ids of each part, without special tokens."""
    texts = [passages(n) for n in tqdm(numbers, desc="stories", mininterval=5, disable=quiet)]
    found = []
    for code in LANGUAGES:
        parts = [
            [e.ids for e in tokenizer.encode_batch([t[code][part] for t in texts], add_special_tokens=False)]
            for part in range(PARTS)
        ]
        found.append(list(zip(*parts, strict=True)))
    return found


def stories(encoded: Encoded, rng: random.Random) -> list[Row]:
    """A row for every story and language, alone or beside its translation; each piece with its chance to be masked.

    What is told first can only be guessed, what follows from it or stands in a translation can be known: the masks go
    where there is something to learn.
    """
    found = []
    for own, said in enumerate(encoded):
        for n, (told, again, *_) in enumerate(said):
            other = encoded[rng.choice([k for k in range(len(encoded)) if k != own])][n]
            form = rng.random()
            if form < 0.15:
                found.append(row([(told, FIRST), (again, AGAIN)]))
            elif form < 0.5:  # questions stand before their context in some tasks, statements after it in others
                found.append(row(*rng.sample([[(told, FIRST)], [(again, AGAIN)]], 2)))
            elif form < 0.8:  # a translation
                found.append(row([(told, BESIDE)], [(other[0], BESIDE)]))
            else:  # what follows, said in another language
                found.append(row([(told, FIRST)], [(other[1], AGAIN)]))
    return found


def quizzes(encoded: Encoded, plain: float, rng: random.Random) -> list[Row]:
    """A row for every quiz and language, its verdict to be found; `plain` is the share of the plain ones."""
    found = []
    for own, said in enumerate(encoded):
        for n, parts in enumerate(said):
            start = 2 if rng.random() < plain else 5
            verdict, told, stated = parts[start : start + 3]
            if start == 5 and rng.random() < 0.2:
                stated = encoded[rng.choice([k for k in range(len(encoded)) if k != own])][n][7]
            found.append(row([(verdict[:-1], 1.0), (verdict[-1:], 0.0), (told, 0.0)], [(stated, 0.0)]))
    return found


def row(*texts: list[tuple[list[int], float]]) -> Row:
    """One text or two of passages, each with its chance to be masked, as XLM-R joins them."""
    ids, rates = [0], [0.0]
    for number, text in enumerate(texts):
        if number:
            ids, rates = [*ids, 2], [*rates, 0.0]
        for passage, rate in text:
            ids, rates = [*ids, *passage], [*rates, *[rate] * len(passage)]
        ids, rates = [*ids, 2], [*rates, 0.0]
    return ids[:POSITIONS], rates[:POSITIONS]


def batches(all_rows: list[Row], tokens: int, rng: random.Random) -> list[list[Row]]:
    """Rows of like length together, `tokens` a batch, in random order."""
    rng.shuffle(all_rows)
    found: list[list[Row]] = []
    for start in range(0, len(all_rows), 8_192):
        pool = sorted(all_rows[start : start + 8_192], key=lambda row: len(row[0]))
        while pool:
            count = max(1, tokens // len(pool[min(len(pool), tokens // len(pool[0][0])) - 1][0]))
            found.append(pool[:count])
            pool = pool[count:]
    rng.shuffle(found)
    return found


def masked(
    batch: list[Row], inner: np.ndarray, kind: np.ndarray, mask_id: int, draw: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    """Padded ids with words masked, the attention mask, and the places and ids to restore.

    Whole words are masked: given half of a word, the other half is no riddle. Most of the chosen become <mask>, some
    another word of their kind, often one of the same row, some stay (Devlin et al. 2019, but for the kind): to tell a
    wrong word from a right one, the model has to compare what is said with what was told.
    """
    width = max(len(row) for row, _ in batch)
    ids = np.full((len(batch), width), 1, dtype=np.int64)
    rate = np.zeros((len(batch), width))
    for n, (row, rates) in enumerate(batch):
        ids[n, : len(row)], rate[n, : len(row)] = row, rates
    starts = ~inner[ids]
    word = np.cumsum(starts, axis=1)  # number of the word in its row
    chance = draw.random((len(batch), width + 1))
    pick = np.take_along_axis(chance, word, axis=1) < rate
    restore = ids[pick]
    shown = np.full_like(restore, mask_id)
    fate = draw.random(restore.shape)
    shown[fate < KEPT] = restore[fate < KEPT]
    rows_of = np.nonzero(pick)[0]
    for n in np.flatnonzero((fate > 1 - REPLACED) & (kind[restore] >= 0)):
        row = ids[rows_of[n]]
        pool = row[(kind[row] == kind[restore[n]]) & (row != restore[n])]
        if not len(pool) or draw.random() < 0.4:
            pool = np.flatnonzero(kind == kind[restore[n]])
        shown[n] = draw.choice(pool)
    present = ids != 1
    ids[pick] = shown
    return tuple(torch.from_numpy(x) for x in (ids, present.astype(np.int64), pick, restore))


def told_batches(encoded: Encoded, tokens: int, rng: random.Random) -> Iterator[list[Row]]:
    """Stories without end, each time with other masks and neighbours."""
    while True:
        yield from batches(stories(encoded, rng), tokens, rng)


def asked_batches(encoded: Encoded, plain: float, count: int, rng: random.Random) -> Iterator[list[Row]]:
    """Quizzes without end, of all lengths and languages in every batch; a tenth of the text at a time."""
    size = max(1, len(encoded[0]) // 10)
    for turn in itertools.count():
        start = turn % 10 * size
        found = quizzes([said[start : start + size] for said in encoded], plain, rng)
        rng.shuffle(found)
        yield from (found[n : n + count] for n in range(0, len(found), count))
