"""A bilingual lexicon from parallel text: IBM model 1 in both directions, put together.

Source: Brown et al. 1993, https://aclanthology.org/J93-2003 (model 1, trained by EM, with an empty word on the side
that explains).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from adapterxl.data.scripts import UNSPACED, words_of
from adapterxl.errors import DataError, UsageError

MAX_WORDS = 80  # of a side: longer pairs are left out, as they take time and say little
_PIECES = 8000  # of a script without spaces, at most
_PIECE = 6  # characters, at most


@dataclass(frozen=True)
class Induction:
    """How a lexicon is induced.

    Attributes:
        threshold: Least score of an entry: the geometric mean of t(translation | word) and t(word | translation).
        min_count: Least number of times that either word occurs.
        most: Most translations of a word.
        iterations: Of EM.

    Raises:
        UsageError: For a value outside of its range.
    """

    threshold: float = 0.2
    min_count: int = 3
    most: int = 3
    iterations: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UsageError(f"threshold: found {self.threshold}, expected a score above 0 and up to 1.")
        for name in ("min_count", "most", "iterations"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: found {getattr(self, name)}, expected at least 1.")


@dataclass(frozen=True)
class Induced:
    """Entries by word, the best translation first.

    Attributes:
        pairs: Pairs of sentences that it was induced from.
    """

    entries: tuple[tuple[str, str, float], ...]
    pairs: int


def induce(pairs: Iterable[tuple[str, str]], language: str, how: Induction | None = None) -> Induced:
    """Induce a lexicon from (text, English text) pairs of a language.

    Words are counted in lower case; a translation is written as it mostly stands inside of sentences. A script without
    spaces is first cut into the pieces of a unigram language model (Kudo 2018, https://arxiv.org/abs/1804.10959) of
    these texts.

    Raises:
        DataError: If no pair has words on both sides.
    """
    how = how or Induction()
    foreign, english = zip(*pairs, strict=True) if pairs else ((), ())
    sides = [(f, [word.lower() for word in words_of(e)])
             for f, e in zip(_cut(foreign, language), english, strict=True)]  # fmt: skip
    sides = [(f, e) for f, e in sides if 0 < len(f) <= MAX_WORDS and 0 < len(e) <= MAX_WORDS]
    if not sides:
        raise DataError(f"Lexicon of '{language}': no pair of sentences has words on both sides.")
    cased = _spelling(f for f, _ in sides)
    lowered = [[word.lower() for word in f] for f, _ in sides]
    names_e, ids_e = _numbered(e for _, e in sides)
    names_f, ids_f = _numbered(lowered)
    e, f, score = symmetric(ids_e, ids_f, how.iterations)
    often_e, often_f = (np.bincount(np.concatenate(ids)) >= how.min_count for ids in (ids_e, ids_f))
    good = (score >= how.threshold) & often_e[e] & often_f[f]
    found: dict[str, list[tuple[float, str]]] = {}
    for word, translation, value in zip(e[good].tolist(), f[good].tolist(), score[good].tolist(), strict=True):
        written = cased[names_f[translation]]
        if written.lower() != names_e[word] and unicodedata.category(written[0])[0] == "L":
            found.setdefault(names_e[word], []).append((-value, written))
    entries = [(word, translation, -value) for word, those in sorted(found.items())
               for value, translation in sorted(those)[: how.most]]  # fmt: skip
    return Induced(tuple(entries), len(sides))


def symmetric(
    english: Sequence[np.ndarray], foreign: Sequence[np.ndarray], iterations: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Word pairs that occur together, and their score sqrt(t(f | e) t(e | f)).

    Args:
        english: A row of word numbers from 0 for each sentence.
        foreign: Those of its translations.

    Returns:
        English word, foreign word and score of each pair, as arrays.
    """
    key_f, t_f = model_1(english, foreign, iterations)
    key_e, t_e = model_1(foreign, english, iterations)
    # Both tables hold the pairs (given, made) that occur; without the empty word they are the same.
    e, f = key_f[:, 0], key_f[:, 1]
    order = np.lexsort((key_e[:, 0], key_e[:, 1]))
    assert np.array_equal(key_e[order][:, ::-1], key_f)
    return e, f, np.sqrt(t_f * t_e[order])


def model_1(given: Sequence[np.ndarray], made: Sequence[np.ndarray], iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """t(made | given) of IBM model 1 by EM from a uniform start, with an empty word among the given ones.

    Every word of a made sentence comes from one word of the given one or from the empty word, each as likely:
    t(m | g) is the expected number of times that g gives m, over all sentences, by that of g giving anything.

    Returns:
        Pairs (given word, made word) that occur in a pair of sentences, (pairs, 2), sorted; and t of each. The empty
        word's own t is left out.
    """
    # A cell for each word of a made sentence with each of the given one; those of one made word lie together.
    widths = np.array([len(row) + 1 for row in given])
    counts = np.array([len(row) for row in made])
    runs = widths.repeat(counts)
    size = max(int(row.max()) for row in made) + 1
    with_empty = [np.append(row + 1, 0) for row in given]  # 0 is the empty word
    pairs = np.concatenate([np.tile(row, n) for row, n in zip(with_empty, counts.tolist(), strict=True)])
    pairs *= size
    pairs += np.concatenate(made).repeat(runs)
    keys, cells = np.unique(pairs, return_inverse=True)
    del pairs
    starts = np.concatenate([[0], np.cumsum(runs)[:-1]])
    owner = keys // size
    t = np.full(len(keys), 1 / size)
    for _ in range(iterations):
        share = t[cells]
        share /= np.add.reduceat(share, starts).repeat(runs)
        expected = np.bincount(cells, share, len(keys))
        t = expected / np.bincount(owner, expected)[owner]
    real = owner > 0
    return np.stack([owner[real] - 1, keys[real] % size], axis=1), t[real]


def _numbered(rows: Iterable[Sequence[str]]) -> tuple[list[str], list[np.ndarray]]:
    """Words and, for each row, their numbers."""
    numbers: dict[str, int] = {}
    found = [np.array([numbers.setdefault(word, len(numbers)) for word in row]) for row in rows]
    return list(numbers), found


def _spelling(rows: Iterable[Sequence[str]]) -> dict[str, str]:
    """Word in lower case -> as it mostly stands; what opens a text counts only where it stands nowhere else."""
    inside: dict[str, Counter[str]] = {}
    opening: dict[str, str] = {}
    for row in rows:
        opening.setdefault(row[0].lower(), row[0].lower())
        for word in row[1:]:
            inside.setdefault(word.lower(), Counter())[word] += 1
    return opening | {low: max(sorted(forms), key=forms.__getitem__) for low, forms in inside.items()}


def _cut(texts: Sequence[str], language: str) -> list[list[str]]:
    """The words of each text."""
    rows = [words_of(text) for text in texts]
    if language not in UNSPACED:
        return rows
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.UnigramTrainer(
        vocab_size=_PIECES, max_piece_length=_PIECE, show_progress=False, unk_token="?", special_tokens=["?"]
    )
    pieces.train_from_iterator((" ".join(row) for row in rows), trainer)
    return [[token for token in pieces.encode(" ".join(row)).tokens if token != "?"] for row in rows]
