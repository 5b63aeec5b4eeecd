"""The miniature world: who is where, has what, comes before whom. One seed, one world."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from functools import cache

from adapterxl.miniature.facts import (
    ADVERBS,
    ANIMALS,
    CITIES,
    COLOURS,
    OBJECTS,
    ORGANISATIONS,
    PERSONS,
    PLACES,
    VERBS,
    Fact,
    Split,
)

# Relation -> who is compared by it.
COMPARED = {"bigger": OBJECTS, "heavier": OBJECTS, "faster": ANIMALS, "older": PERSONS, "behind": OBJECTS}
# Relation -> (who, where).
PLACED = {"at": (PERSONS + ANIMALS + OBJECTS, PLACES), "lives": (PERSONS, CITIES), "works": (PERSONS, ORGANISATIONS)}
EVERYTHING = PERSONS + ANIMALS + OBJECTS
RELATIONS = (*PLACED, *COMPARED, "has", "gives", *VERBS)


@cache
def _able(relation: str, subject: str, splits: frozenset[Split]) -> list[str]:
    """Where some splits may say that a subject is."""
    return [place for place in PLACED[relation][1] if Fact(relation, subject, place).split in splits]


class World:
    """A state of the world, of which only what some splits may say is ever told.

    Attributes:
        subjects: Persons, animals and things of which it is told where they are.
        random: The source of all choices; the same seed gives the same world and the same stories for ever.
    """

    def __init__(self, seed: str, splits: Collection[Split], subjects: Collection[str] = EVERYTHING) -> None:
        self.random = random.Random(seed)  # a text, so that "train 1" and "test 1" are unrelated
        self.splits, self.subjects = frozenset(splits), frozenset(subjects)
        # Decided when they are first told.
        self._homes: dict[str, dict[str, str | None]] = {}
        self._ranks: dict[str, dict[str, int]] = {}

    def placed(self, relation: str, subject: str) -> Fact | None:
        """Where a subject is, lives or works; None if this split may not say anything of the kind."""
        homes = self._homes.setdefault(relation, {})
        if subject not in homes:
            able = _able(relation, subject, self.splits)
            homes[subject] = self.random.choice(able) if able else None
        home = homes[subject]
        return None if home is None else Fact(relation, subject, home)

    def compared(self, relation: str, first: str, second: str) -> Fact | None:
        """How two things compare, the higher one first."""
        ranks = self._ranks.setdefault(relation, {})
        if not ranks:
            order = list(COMPARED[relation])
            self.random.shuffle(order)
            ranks |= {thing: rank for rank, thing in enumerate(order)}
        pair = (first, second) if ranks[first] > ranks[second] else (second, first)
        return self.may(Fact(relation, *pair))

    def may(self, fact: Fact) -> Fact | None:
        """The fact, if it belongs to the splits of this world."""
        return fact if fact.split in self.splits else None

    def fact(self, relations: Sequence[str], but: Collection[str] = ()) -> Fact:
        """A true fact of one of the relations about things not in `but`; of any relation if these have none left."""
        for attempt in range(1_000):
            found = self._fact(self.random.choice(relations if attempt < 200 else RELATIONS))
            if found is not None and not {found.subject, found.object, found.third} & set(but):
                return found
        raise AssertionError(f"A world of {sorted(self.splits)} has no statement left besides {sorted(but)}.")

    def adverb(self, share: float = 0.25) -> str | None:
        """Now and then an adverb."""
        return self.random.choice(ADVERBS) if self.random.random() < share else None

    def pick(self, things: Sequence[str], number: int, but: Collection[str] = ()) -> list[str]:
        """Different things, none of them in `but`."""
        return self.random.sample([thing for thing in things if thing not in but], number)

    def _fact(self, relation: str) -> Fact | None:
        choose = self.random.choice
        if relation in PLACED:
            return self.placed(relation, choose([who for who in PLACED[relation][0] if who in self.subjects]))
        if relation in COMPARED:
            return self.compared(relation, *self.pick(COMPARED[relation], 2))
        person = choose(PERSONS)
        if relation == "has":
            return self.may(Fact("has", person, choose(OBJECTS), choose(COLOURS)))
        if relation == "gives":
            return self.may(Fact("gives", person, choose(OBJECTS), self.pick(PERSONS, 1, but=[person])[0]))
        assert relation in VERBS
        liked = OBJECTS if relation == "buys" else (*ANIMALS, *OBJECTS) if relation != "loves" else (*ANIMALS, *PERSONS)
        other = self.pick(liked, 1, but=[person])[0]
        return self.may(Fact(relation, person, other))
