"""Exact match and F1 of answer texts as MLQA normalises them, by the language of the context."""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache, partial

from adapterxl.errors import DataError
from adapterxl.evaluation.metrics.base import Counts, Metric, mean_of_two
from adapterxl.evaluation.metrics.squad import answer_counts, same_words, word_f1

# What is dropped, and leaves a space. The Arabic article goes anywhere in a word: the published pattern has another
# branch for the start of a word, but that one can match nothing.
_ARTICLES = {
    "en": r"\b(?:a|an|the)\b",
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
    "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": "ال",
    "zh": None,
}
LANGUAGES = tuple(_ARTICLES)
_HAN = re.compile("([\u4e00-\u9fa5])")  # each is a word; rarer ones and Japanese kana are not


@cache
def _punctuation() -> dict[int, int | None]:
    """Every character of Unicode's classes P, and ASCII's symbols, mapped to nothing."""
    marks = (chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("P"))
    return str.maketrans("", "", string.punctuation + "".join(marks))


def mlqa_words(text: str, language: str) -> list[str]:
    """Return the words of an answer as MLQA compares them.

    Lower case, punctuation of every script deleted, the articles of the language dropped, split at white space;
    in Chinese each character is a word of its own.

    Raises:
        DataError: For a language that MLQA has no rules for.

    Source: Lewis et al. 2020, arXiv 1910.07475, and its evaluation script.
    """
    if language not in _ARTICLES:
        raise DataError(f"mlqa: found the language {language!r}, expected one of {', '.join(_ARTICLES)}.")
    text = text.lower().translate(_punctuation())
    if (articles := _ARTICLES[language]) is not None:
        text = re.sub(articles, " ", text)
    return (_HAN.sub(r" \1 ", text) if language == "zh" else text).split()


def exact_match(predictions: Sequence[str], golds: Sequence[Sequence[str]], language: str) -> Counts:
    """Return (1 where a prediction equals one of its gold answers after normalisation, 1) for each question.

    Args:
        predictions: One answer text a question.
        golds: The right answer texts of each question.
        language: That of the answers, which is the context's.

    Raises:
        DataError: For empty input, unequal lengths, entries of a wrong type, a language without rules.

    Source: Lewis et al. 2020 (MLQA), mlqa_evaluation_v1.py.
    """
    words = partial(mlqa_words, language=language)
    return answer_counts("mlqa_exact_match", (same_words,), words, predictions, golds)


def f1(predictions: Sequence[str], golds: Sequence[Sequence[str]], language: str) -> Counts:
    """Return (best word F1 with a gold answer, 1) for each question; the rest as for `exact_match`."""
    return answer_counts("mlqa_f1", (word_f1,), partial(mlqa_words, language=language), predictions, golds)


def mlqa(predictions: Sequence[str], golds: Sequence[Sequence[str]], language: str) -> Counts:
    """Return (exact match, word F1, 1) for each question; the rest as for `exact_match`."""
    return answer_counts("mlqa", (same_words, word_f1), partial(mlqa_words, language=language), predictions, golds)


METRICS = (
    Metric(
        name="mlqa",
        kinds=("span",),
        summary="mean of exact match and F1 after MLQA's normalisation of the language",
        source="Hu et al. 2020 (XTREME), arXiv 2003.11080",
        counts=mlqa,
        value=mean_of_two,
        by_language=True,
    ),
    Metric(
        name="mlqa_exact_match",
        kinds=("span",),
        summary="share of answers equal to a gold answer after MLQA's normalisation of the language",
        source="Lewis et al. 2020, arXiv 1910.07475",
        counts=exact_match,
        by_language=True,
    ),
    Metric(
        name="mlqa_f1",
        kinds=("span",),
        summary="mean word overlap (F1) with the best gold answer after MLQA's normalisation of the language",
        source="Lewis et al. 2020, arXiv 1910.07475",
        counts=f1,
        by_language=True,
    ),
)
