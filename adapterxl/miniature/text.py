"""Text of the world for masked language modelling: stories that say things and say them again; quizzes about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from adapterxl.miniature.facts import ANIMALS, CONVERSE, FUNCTIONAL, ORDERS, VERBS, Fact, Label, judge
from adapterxl.miniature.grammar import Language, Words
from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.world import COMPARED, PLACED, World

# The relations with a rule (one value, one direction) come up more often than the plain verbs.
_WEIGHTED = (*PLACED, *PLACED, *COMPARED, "has", "has", "gives", *VERBS[:3], "finds", "buys")


@dataclass(frozen=True)
class Line:
    """One sentence of a story before it is said in a language."""

    facts: tuple[Fact, ...]
    adverb: str | None = None
    asked: str | None = None  # the slot that a question asks for; None: a statement

    def words(self, language: Language) -> Words:
        return _said(self, language.code)

    def _words(self, language: Language) -> Words:
        if self.asked is not None:
            return language.question(self.facts[0], self.asked)
        return language.state(*self.facts, adverb=self.adverb)


@dataclass(frozen=True)
class Quiz:
    """What was told, a statement or a question with an answer, and whether that is so."""

    told: tuple[Line, ...]
    statement: Line
    slot: str | None  # of the statement, when it is asked for and answered
    verdict: Label

    def said(self, language: Language) -> tuple[str, str, str]:
        """The verdict, what was told, the statement."""
        space = " " if language.spaced else ""
        told = space.join(language.text(line.words(language)) for line in self.told)
        words = self.statement.words(language)
        statement = language.text(words)
        if self.slot is not None:
            question = Line(self.statement.facts, asked=self.slot).words(language)
            statement = f"{language.text(question)}{space}{language.span(words, self.slot)[0]}"
        return language.text(language.verdict(self.verdict)), told, statement


LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")


def reworded(fact: Fact, world: World) -> Fact:
    """The same statement, half of the time from the other side."""
    return fact.converse if fact.relation in CONVERSE and world.random.random() < 0.5 else fact


@lru_cache(1 << 14)
def _said(line: Line, code: str) -> Words:
    return line._words(LANGUAGES[code])


def askable(fact: Fact) -> list[str]:
    """The slots of a fact that a question can ask for; "Who is in the garden?" asks for a person."""
    return [slot for slot in _ASKED[fact.relation] if slot != "subject" or fact.subject not in _NOBODY]


def story(world: World, facts: int) -> tuple[list[Line], list[Line]]:
    """Facts about different things, then some of them once more: reworded, denied of others, or asked and answered."""
    told = _told(world, facts, _WEIGHTED)
    again: list[Line] = []
    for fact in world.random.choices(told, k=world.random.randint(2, 4)):
        again += _again(fact, told, world)
    return _lines(told, world), again


def quiz(world: World, plain: bool) -> Quiz | None:
    """One to three facts, and a statement near one of them; the three verdicts come up alike.

    What stands in it instead was told of something else, or not told at all. Plain ones are about places only, said
    without adverb, question or denial: from these a small model learns what a verdict is (with all forms at once ours
    did not leave chance). A world without such a statement gives None.
    """
    random = world.random
    wanted: Label = random.choice(LABELS)
    relations = FUNCTIONAL if plain else (*FUNCTIONAL, *FUNCTIONAL, *COMPARED)
    fact = world.fact(relations)
    told = [fact, *_told(world, random.randint(0, 1 if plain else 2), (fact.relation, *relations), but=fact.things)]
    random.shuffle(told)
    others = [f for f in told if f != fact and f.relation == fact.relation] if random.random() < 0.4 else []
    others = others or [world.fact([fact.relation], but=fact.things) for _ in range(2)]
    near = [fact]
    for other in (o for o in others if o.relation == fact.relation):
        near += [replace(fact, object=other.object), replace(fact, subject=other.subject)]
    if fact.relation in ORDERS:
        near += [replace(fact, subject=fact.object, object=fact.subject)]
    if fact.relation == "at" and not plain and random.random() < 0.3:
        near = [replace(each, negated=True) for each in near]
    able = [e for e in near if e.subject != e.object and world.may(e) and judge(told, e) == wanted]
    if not able:
        return None
    said = random.choice(able)
    if plain:
        return Quiz(tuple(Line((each,)) for each in told), Line((said,)), None, wanted)
    said = reworded(said, world)
    slots = [] if said.negated else askable(said)
    slot = random.choice(slots) if slots and random.random() < 0.4 else None
    return Quiz(tuple(_lines(told, world)), Line((said,)), slot, wanted)


def _told(world: World, number: int, relations: Sequence[str], but: Collection[str] = ()) -> list[Fact]:
    """Facts about different things, half of them of the relation before."""
    told: list[Fact] = []
    seen = set(but)
    for _ in range(number):
        again = told and world.random.random() < 0.5
        found = world.fact([told[-1].relation] if again else relations, but=seen)
        told.append(found)
        seen |= found.things
    return told


def _lines(told: Sequence[Fact], world: World) -> list[Line]:
    """Facts as sentences of one or two."""
    lines: list[Line] = []
    position = 0
    while position < len(told):
        several = 2 if world.random.random() < 0.3 else 1
        group = tuple(reworded(fact, world) for fact in told[position : position + several])
        lines.append(Line(group, world.adverb()))
        position += several
    return lines


def _again(fact: Fact, told: Sequence[Fact], world: World) -> list[Line]:
    other = next((f for f in told if f.relation == fact.relation == "at" and f.object != fact.object), None)
    if other is not None and world.random.random() < 0.3:
        denied = Fact("at", fact.subject, other.object, negated=True)
        if world.may(denied):
            return [Line((denied,))]
    said = reworded(fact, world)
    slots = askable(said)
    if slots and world.random.random() < 0.5:
        # Asked in one form, answered in either.
        return [Line((said,), asked=world.random.choice(slots)), Line((reworded(fact, world),))]
    return [Line((said,), world.adverb())]


_NOBODY = frozenset(ANIMALS)  # "Who is in the garden?" asks for a person
_ASKED: dict[str, tuple[str, ...]] = {
    **{relation: ("subject", "object") for relation in (*PLACED, "has")},
    **{relation: () for relation in (*COMPARED, *(CONVERSE[r] for r in COMPARED))},
    **{relation: ("subject",) for relation in ("behind", "in front", *VERBS)},
    **{relation: ("subject", "third") for relation in ("gives", "gets")},
}
