"""MLQA's scores agree with its rules, written a second time here in another way."""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.mlqa import LANGUAGES, mlqa_words

ARTICLES = {
    "en": "a an the",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
    "de": "ein eine einen einem eines einer der die das den dem des",
}


def second_words(text: str, language: str) -> list[str]:
    """Character by character, without a regular expression."""
    kept = "".join(
        c for c in text.lower()
        if not ((unicodedata.category(c)[0] == "P" and ord(c) < sys.maxunicode) or (c.isascii() and c in "$+<=>^`|~"))
    )  # fmt: skip
    if language == "ar":
        return kept.replace("\u0627\u0644", " ").split()
    if language == "zh":
        return "".join(f" {c} " if "\u4e00" <= c <= "\u9fa5" else c for c in kept).split()
    words, run = [""], ""
    for c in [*kept, " "]:  # an article is a whole run of letters, digits and underscores
        if c.isalnum() or c == "_":
            run += c
        else:
            words.append(" " if run in ARTICLES.get(language, "").split() else run)
            words.append(c)
            run = ""
    return "".join(words).split()


PIECES = st.sampled_from(
    "the The An el Las der Dem của LÀ ال القاهرة والبيت बाघ भारत। 中国 《红楼梦》 北京大学 かな 𠮷 กรุงเทพ".split()
    + "U.S. 1,000 don't a-b … “” ¿ ؟ $5 + x \u200b".split()
    + ["", "\u3000"]
)
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from(["", " "])), max_size=6).map(lambda p: "".join(a + b for a, b in p))
CASES = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(CASES, st.sampled_from(LANGUAGES))
def test_agrees_with_a_second_writing_of_the_rules(cases, language):
    exact = overlap = 0.0
    for prediction, answers in cases:
        found, best = second_words(prediction, language), 0.0
        assert mlqa_words(prediction, language) == found
        for answer in answers:
            wanted = second_words(answer, language)
            common = (Counter(found) & Counter(wanted)).total()
            if common:
                best = max(best, 2 / (len(found) / common + len(wanted) / common))
        exact += any(found == second_words(answer, language) for answer in answers)
        overlap += best
    predictions, golds = zip(*cases, strict=True)
    expected = {"exact_match": exact / len(cases), "f1": overlap / len(cases)}
    for name, value in expected.items():
        assert get_metric(f"mlqa_{name}").compute(predictions, golds, language) == pytest.approx(value, abs=1e-12)
    both = sum(expected.values()) / 2
    assert get_metric("mlqa").compute(predictions, golds, language) == pytest.approx(both, abs=1e-12)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "The U.S.A.’s theatre", ["usas", "theatre"]),
        ("es", "¿La casa de los Ángeles?", ["casa", "de", "ángeles"]),
        ("de", "Der Dom des Ortes", ["dom", "ortes"]),
        ("vi", "Những cái nhà của tôi", ["nhà", "tôi"]),
        ("hi", "भारत की राजधानी।", ["भारत", "की", "राजधानी"]),
        ("ar", "في القاهرة؟", ["في", "قاهرة"]),
        ("ar", "مال", ["م"]),  # also where it is no article: so the published pattern reads
        ("zh", "《红楼梦》1791年 ABC", ["红", "楼", "梦", "1791", "年", "abc"]),
        ("en", "中国，北京", ["中国北京"]),  # apart only where the context is Chinese
        ("zh", "。，！", []),
    ],
)
def test_words_worked_out_by_hand(language, text, words):
    assert mlqa_words(text, language) == words
