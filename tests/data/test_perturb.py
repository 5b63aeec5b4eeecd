"""Perturbed copies: the same for the same seed, gold answers untouched, no other script, never empty."""

from __future__ import annotations

import random
import unicodedata

import pytest

from adapterxl.data.examples import ChoiceExample, ClassifyExample, PairExample, SpanExample, TagExample
from adapterxl.data.perturb import Perturbation, perturb
from adapterxl.errors import UsageError

TEXTS = {
    "en": "The quick brown fox, aged 7, jumps over the lazy dog.",
    "th": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "zh": "北京是中华人民共和国的首都，人口2,189万。",
    "ar": "القاهرة هي عاصمة مصر وأكبر مدنها.",
    "hi": "नई दिल्ली भारत की राजधानी है।",
}
NOISE = Perturbation(noise=0.2, seed=1)


def one(text: str, how: Perturbation, number: int = 0) -> str:
    return perturb([ClassifyExample(f"dev:{number}", "en", text, None, 0)], how)[0].text


def test_the_same_seed_gives_the_same_copy_whatever_else_is_beside_it():
    examples = [ClassifyExample(f"dev:{i}", "en", TEXTS["en"], TEXTS["zh"], 0) for i in range(20)]
    copy = perturb(examples, NOISE)
    assert perturb(examples, NOISE) == copy
    assert perturb(examples[::-1], NOISE) == copy[::-1] and perturb(examples[3:4], NOISE) == copy[3:4]
    assert len({example.text for example in copy}) > 15  # each by its own id
    assert perturb(examples, Perturbation(noise=0.2, seed=2)) != copy
    assert copy[0].text == "The qick rboown fob, lgd 7, jumps over the lazy dog."  # on any machine


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_noise_keeps_script_digits_and_punctuation_and_marks_with_their_letters(text):
    others = [c for c in text if not c.isalpha() and unicodedata.category(c)[0] != "M"]
    changed = 0
    for number in range(50):
        noisy = one(text, Perturbation(noise=0.5), number)
        assert set(noisy) <= set(text)
        assert [c for c in noisy if not c.isalpha() and unicodedata.category(c)[0] != "M"] == others
        for before, after in zip(" " + noisy, noisy, strict=False):
            assert unicodedata.category(after)[0] != "M" or before + after in text
        changed += noisy != text
    assert changed == 50


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_noise_hits_the_share_of_letters_that_was_asked_for(share):
    letters = random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=4000)
    # apart, so that a swap has nothing to swap with; a replacement is the letter itself in 1 of 26
    found = one(" ".join(letters), Perturbation(noise=share)).split(" ")
    changed = sum(a != b for a, b in zip(letters, found, strict=True))
    assert changed / 4000 == pytest.approx(share * (3 / 4 - 1 / 4 / 26), abs=0.03)
    assert sum(map(len, found)) == pytest.approx(4000, abs=200)  # as many left out as doubled


def test_a_text_never_becomes_empty():
    for number in range(200):
        assert one("ก", Perturbation(noise=1.0), number) and one("ab", Perturbation(noise=1.0), number)
        assert (
            one("", Perturbation(noise=1.0), number) == "" and one("7, 8!", Perturbation(noise=1.0), number) == "7, 8!"
        )


def test_casing_is_that_of_all_letters_with_or_without_noise():
    assert one("Straße in İzmir, ПАРИЖ 北京", Perturbation(casing="upper")) == "STRASSE IN İZMIR, ПАРИЖ 北京"
    assert one("Paris ПАРИЖ", Perturbation(casing="lower")) == "paris париж"
    noisy = one(TEXTS["en"], NOISE)
    assert one(TEXTS["en"], Perturbation(noise=0.2, casing="upper", seed=1)) == noisy.upper() != noisy


def test_ids_labels_tags_and_answers_stay_and_contexts_of_answers_too():
    how = Perturbation(noise=0.6, casing="upper")
    tagged = TagExample("t", "en", ("New", "York", "!"), (1, 2, 0))
    span = SpanExample("s", "en", "Paris is in France.", "Where is Paris?", (("France", 12),))
    choice = ChoiceExample("c", "en", "It rained.", "effect", ("wet streets", "dry streets"), 1)
    pair = PairExample("p", "de", "Es regnet heute.", "It rains today.")
    a, b, c, d = perturb([tagged, span, choice, pair], how)
    assert len(a.words) == 3 and a.words != tagged.words and a.words[2] == "!" and a.tags == tagged.tags
    assert (b.context, b.answers) == (span.context, span.answers) and b.question != span.question
    assert c.context != choice.context and c.question != choice.question and c.label == 1
    assert all(new != old for new, old in zip(c.choices, choice.choices, strict=True))
    assert d.text != pair.text and d.english == pair.english
    assert [each.id for each in (a, b, c, d)] == ["t", "s", "c", "p"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise": 1.5}, "noise: found 1.5, expected a share of letters from 0 to 1"),
        ({"noise": float("nan")}, "noise: found nan"),
        ({"casing": "title"}, "casing: found 'title', expected lower or upper"),
        ({}, "found neither noise nor casing, expected one of them or both"),
    ],
)
def test_bad_values_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        Perturbation(**given)
