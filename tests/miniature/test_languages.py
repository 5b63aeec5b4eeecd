"""Every sentence of the miniature world is well formed in every language, and says the same in all of them."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from adapterxl.miniature.facts import (
    ADVERBS,
    ANIMALS,
    CITIES,
    COLOURS,
    CONVERSE,
    OBJECTS,
    ORGANISATIONS,
    PERSONS,
    PLACES,
    VERBS,
    Fact,
)
from adapterxl.miniature.grammar import Word
from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.text import LABELS, Line, Quiz, askable, story
from adapterxl.miniature.world import COMPARED, PLACED, RELATIONS, World
from adapterxl.tasks import get_task

UPOS = frozenset(
    "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X".split()
)  # https://universaldependencies.org/u/pos
CODES = tuple(LANGUAGES)


def _round(things: tuple[str, ...], number: int, but: str = "") -> str:
    """One thing after the other, `but` left out."""
    left = [thing for thing in things if thing != but]
    return left[number % len(left)]


@cache
def facts() -> tuple[Fact, ...]:
    """Every thing in every slot of every relation, in both forms, and every object in every colour."""
    found = [Fact(relation, *pair) for relation, sides in PLACED.items() for pair in itertools.product(*sides)]
    found += [Fact("at", *pair, negated=True) for pair in itertools.product(*PLACED["at"])]
    for relation, things in COMPARED.items():
        found += [Fact(relation, *pair) for pair in itertools.permutations(things, 2)]
    for number, (person, thing) in enumerate(itertools.product(PERSONS, OBJECTS)):
        found += [Fact("has", person, thing, colour) for colour in (COLOURS if person == "anna" else COLOURS[:1])]
        found.append(Fact("gives", person, thing, _round(PERSONS, number, but=person)))
    for verb in VERBS:
        others = (*ANIMALS, *OBJECTS, *PERSONS)
        found += [Fact(verb, _round(PERSONS, n, but=other), other) for n, other in enumerate(others)]
    return tuple(found) + tuple(fact.converse for fact in found if fact.relation in CONVERSE)


@cache
def lines() -> tuple[Line, ...]:
    """Each fact as a statement and as its questions; some after an adverb, some joined with another."""
    found = []
    for number, fact in enumerate(facts()):
        adverb = ADVERBS[number % 2] if number % 4 < 2 else None
        other = facts()[number * 37 % len(facts())]  # 37: a step that mixes relations
        found.append(Line((fact, other) if number % 3 == 0 else (fact,), adverb))
        if not fact.negated:
            found += [Line((fact,), asked=slot) for slot in askable(fact)]
    return tuple(found)


@cache
def said(code: str) -> tuple[tuple[tuple[Word, ...], str], ...]:
    """Words and text of every line."""
    language = LANGUAGES[code]
    return tuple((words, language.text(words)) for words in (line.words(language) for line in lines()))


def test_there_are_six_languages_and_at_least_80_lemmas():
    assert set(CODES) == {"en", "de", "es", "tr", "ru", "zh"}
    named = (*PERSONS, *ANIMALS, *OBJECTS, *PLACES, *CITIES, *ORGANISATIONS, *COLOURS, *ADVERBS)
    assert len(set(named)) == len(named)
    lemmas = {*ANIMALS, *OBJECTS, *PLACES, *COLOURS, *ADVERBS, *RELATIONS, *CONVERSE}
    assert len(lemmas - set(PERSONS)) >= 60
    assert len(lemmas | {word for name in (*PERSONS, *CITIES, *ORGANISATIONS) for word in name.split()}) >= 80


@pytest.mark.parametrize("code", CODES)
def test_every_language_has_the_same_templates_and_every_relation(code: str):
    assert set(LANGUAGES[code].templates) == set(LANGUAGES["en"].templates)
    assert {*RELATIONS, *CONVERSE, "not at"} <= set(LANGUAGES[code].templates)
    assert set(LANGUAGES[code].adverbs) == set(ADVERBS)
    for fact in facts():
        assert set(askable(fact)) <= set(LANGUAGES[code].asks(fact)), fact


@pytest.mark.parametrize("code", CODES)
def test_every_sentence_is_tagged_in_universal_tags_and_whole_entities(code: str):
    labels = set(get_task("mini_xpos").labels) & UPOS
    entities = set(get_task("mini_xner").labels)
    for words, text in said(code):
        before = "O"
        for word in words:
            assert word.text and word.tag in labels, text
            assert word.entity in entities, text
            if word.entity.startswith("I-"):
                assert before[1:] == word.entity[1:], f"{text}: {word.entity} after {before}"
            before = word.entity


@pytest.mark.parametrize("code", [code for code in CODES if code != "en"])
def test_every_sentence_names_the_same_kinds_of_entities_and_fills_the_same_slots_as_in_english(code: str):
    for (words, text), (english, text_en) in zip(said(code), said("en"), strict=True):
        for pick in (
            lambda all_words: Counter(word.entity for word in all_words if word.entity.startswith("B-")),
            lambda all_words: {word.slot for word in all_words} - {""},
        ):
            assert pick(words) == pick(english), f"{text} / {text_en}"


@pytest.mark.parametrize("code", CODES)
def test_what_fills_a_slot_is_found_where_it_stands_in_the_text(code: str):
    language = LANGUAGES[code]
    for line, (words, text) in zip(lines(), said(code), strict=True):
        if len(line.facts) > 1:
            continue  # a slot of each
        for slot in {word.slot for word in words} - {""}:
            answer, start = language.span(words, slot)
            assert answer and text[start : start + len(answer)] == answer
            assert answer == answer.strip() and answer[-1] not in ".?。？,，"


@pytest.mark.parametrize("code", CODES)
def test_every_sentence_is_written_as_its_script_asks(code: str):
    language = LANGUAGES[code]
    for line, (words, text) in zip(lines(), said(code), strict=True):
        stop, ask = ("。", "？") if code == "zh" else (".", "?")
        assert text.endswith(ask if line.asked else stop), text
        assert text.startswith("¿") == (code == "es" and line.asked is not None), text
        letter = text.lstrip("¿")[0]
        assert letter.isalpha() and (not letter.upper() != letter.lower() or letter.isupper()), text
        assert not set("{}/_|") & set(text), f"a slot or a tag is left: {text}"
        assert (" " in text) == language.spaced, text
        assert "  " not in text and not any(f" {mark}" in text for mark in ",.?"), text
        assert len({word.text for word in words if word.text in (".", "?", "。", "？")}) == 1, text


def test_all_text_is_made_of_the_words_of_the_closed_tables():
    known = {code: {word.text for words, _ in said(code) for word in words} for code in CODES}
    for code, language in LANGUAGES.items():
        known[code] |= {word.text for label in LABELS for word in language.verdict(label)}
    assert sum(map(len, known.values())) < 2_000
    for number in range(300):
        told, again = story(World(f"any {number}", ("train", "dev", "test")), 4)
        for code, language in LANGUAGES.items():
            for line in (*told, *again):
                for word in line.words(language):
                    # A sentence's first word has a capital letter: some words open one only in stories.
                    assert word.text in known[code] or word.text[0].lower() + word.text[1:] in known[code], word


HAS, GIVES = Fact("has", "anna", "coat", "old"), Fact("gives", "eva rossi", "letter", "nina")
AT, SLOWER = Fact("at", "cow", "library"), Fact("slower", "cow", "rabbit")
BEHIND, SEES = Fact("behind", "bottle", "map"), Fact("sees", "viktor", "goat")


SPOKEN = {
    "en": [
        "Today Anna has an old coat.",
        "Eva Rossi gives Nina the letter.",
        "Nina gets the letter from Eva Rossi.",
        "The cow is not in the library.",
        "The cow is slower than the rabbit and the bottle is behind the map.",
        "Who has an old coat?",
        "Where is the cow?",
        "What is in front of the bottle?",
        "Who sees the goat?",
    ],
    "de": [
        "Heute hat Anna einen alten Mantel.",
        "Eva Rossi gibt Nina den Brief.",
        "Nina bekommt den Brief von Eva Rossi.",
        "Die Kuh ist nicht in der Bibliothek.",
        "Die Kuh ist langsamer als das Kaninchen und die Flasche ist hinter der Karte.",
        "Wer hat einen alten Mantel?",
        "Wo ist die Kuh?",
        "Was ist vor der Flasche?",
        "Wer sieht die Ziege?",
    ],
    "es": [
        "Hoy Ana tiene un abrigo viejo.",
        "Eva Rossi le da la carta a Nina.",
        "Nina recibe la carta de Eva Rossi.",
        "La vaca no está en la biblioteca.",
        "La vaca es más lenta que el conejo y la botella está detrás del mapa.",
        "¿Quién tiene un abrigo viejo?",
        "¿Dónde está la vaca?",
        "¿Qué hay delante de la botella?",
        "¿Quién ve a la cabra?",
    ],
    "tr": [
        "Bugün Anna'nın eski bir paltosu var.",
        "Eva Rossi mektubu Nina'ya veriyor.",
        "Nina mektubu Eva Rossi'den alıyor.",
        "İnek kütüphanede değil.",
        "İnek tavşandan daha yavaş ve şişe haritanın arkasında.",
        "Kimin eski bir paltosu var?",
        "İnek nerede?",
        "Şişenin önünde ne var?",
        "Keçiyi kim görüyor?",
    ],
    "ru": [
        "Сегодня у Анны есть старое пальто.",
        "Ева Росси даёт Нине письмо.",
        "Нина получает письмо от Евы Росси.",
        "Корова не в библиотеке.",
        "Корова медленнее, чем кролик, а бутылка за картой.",
        "У кого есть старое пальто?",
        "Где корова?",
        "Что перед бутылкой?",
        "Кто видит козу?",
    ],
    "zh": [
        "今天安娜有一件旧的大衣。",
        "伊娃·罗西把信给尼娜。",
        "尼娜从伊娃·罗西那里得到信。",
        "牛不在图书馆里。",
        "牛比兔子慢，瓶子在地图后面。",
        "谁有一件旧的大衣？",
        "牛在哪里？",
        "什么在瓶子前面？",
        "谁看见山羊？",
    ],
}


@pytest.mark.parametrize("code", CODES)
def test_sentences_are_those_that_a_speaker_wrote(code: str):
    spoken = [
        Line((HAS,), "today"), Line((GIVES,)), Line((GIVES.converse,)), Line((replace(AT, negated=True),)),
        Line((SLOWER, BEHIND)), Line((HAS,), asked="subject"), Line((AT,), asked="object"),
        Line((Fact("in front", "map", "bottle"),), asked="subject"),
        Line((SEES,), asked="subject"),
    ]  # fmt: skip
    assert [LANGUAGES[code].text(line.words(LANGUAGES[code])) for line in spoken] == SPOKEN[code]


@pytest.mark.parametrize("code", CODES)
def test_a_quiz_says_its_verdict_what_was_told_and_a_statement_or_an_answered_question(code: str):
    language = LANGUAGES[code]
    plain = language.text(Line((AT,)).words(language))
    said = {label: Quiz((Line((AT,)),), Line((AT,)), None, label).said(language) for label in LABELS}
    assert len({verdict for verdict, *_ in said.values()}) == 3
    assert all(told == stated == plain and verdict[-1] == plain[-1] for verdict, told, stated in said.values())
    _, _, stated = Quiz((Line((AT,)),), Line((AT,)), "object", "entailment").said(language)
    question = language.text(Line((AT,), asked="object").words(language))
    answer = stated.removeprefix(question).strip()
    assert answer and stated.startswith(question) and answer in plain
