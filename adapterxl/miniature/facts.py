"""What can be true in the miniature world: things, facts about them, and what follows from what was said.

Nothing here belongs to a language. Each file in `languages` says the same facts in its own grammar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

PERSONS = (
    "anna", "maria", "clara", "nina", "julia", "daniel", "martin", "viktor", "robert", "anton",
    "lena moreno", "eva rossi", "david rossi", "thomas moreno",
)  # fmt: skip
ANIMALS = ("dog", "cat", "horse", "cow", "mouse", "bird", "duck", "rabbit", "goat", "tiger")
OBJECTS = (
    "book", "key", "lamp", "letter", "bag", "cup", "box", "ball", "hat", "map", "apple", "chair", "table", "coat",
    "bottle", "camera",
)  # fmt: skip
PLACES = (
    "kitchen", "garden", "school", "park", "market", "library", "hospital", "museum", "office", "restaurant",
    "church", "forest", "station", "theatre",
)  # fmt: skip
CITIES = (
    "london", "berlin", "madrid", "moscow", "ankara", "beijing", "paris", "rome", "vienna", "cairo", "new york",
    "tokyo",
)  # fmt: skip
ORGANISATIONS = (
    "nova bank", "orion bank", "delta bank", "sigma bank", "vienna hotel", "cairo hotel", "paris hotel", "rome hotel",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "white", "black", "yellow", "new", "old")
ADVERBS = ("today", "now")

# A relation and its converse: `a is bigger than b` says what `b is smaller than a` says.
CONVERSE = {
    "bigger": "smaller", "heavier": "lighter", "faster": "slower", "older": "younger",
    "behind": "in front", "gives": "gets",
}  # fmt: skip
CONVERSE |= {second: first for first, second in CONVERSE.items()}
# One value at a time: who is in the kitchen is not in the garden.
FUNCTIONAL = ("at", "lives", "works")
ORDERS = ("bigger", "heavier", "faster", "older", "behind")  # a before b rules out b before a
VERBS = ("sees", "loves", "seeks", "finds", "buys")

Label = Literal["entailment", "neutral", "contradiction"]
Split = Literal["train", "dev", "test"]


@dataclass(frozen=True)
class Fact:
    """One thing that is said.

    Attributes:
        relation: at, lives, works (subject, place); has (subject, object, colour); a comparison or position
            (subject, object); gives (giver, object, receiver), gets (receiver, object, giver); a verb
            (subject, object).
        third: The colour of what one has, or the other person of giving and getting.
        negated: For "at" only.
    """

    relation: str
    subject: str
    object: str
    third: str | None = None
    negated: bool = False

    @property
    def things(self) -> set[str]:
        """Who and what it is about; a colour is nothing of its own."""
        third = {self.third} if self.relation in ("gives", "gets") and self.third else set()
        return {self.subject, self.object} | third

    @property
    def canonical(self) -> Fact:
        """The same statement in the first of two converse forms."""
        if self.relation in ("smaller", "lighter", "slower", "younger", "in front", "gets"):
            return self.converse
        return self

    @property
    def converse(self) -> Fact:
        """The same statement, seen from the other side."""
        relation = CONVERSE[self.relation]
        if self.third is not None:  # giving: the object stays, the persons change places
            return Fact(relation, self.third, self.object, self.subject)
        return Fact(relation, self.object, self.subject)

    @property
    def split(self) -> Split:
        """Which split may say this, true or false: the splits share words, never statements."""
        same = self.canonical
        return _share(same.relation, same.subject, same.object)


@cache
def _share(relation: str, first: str, second: str) -> Split:
    # Both directions of a comparison belong together, or else the answer would show in the split.
    ends = sorted((first, second)) if relation in ORDERS else [first, second]
    digest = hashlib.sha256(" ".join((relation, *ends)).encode()).digest()
    shares: tuple[Split, ...] = ("train", "train", "train", "dev", "test")
    return shares[digest[0] % 5]


def judge(premises: Iterable[Fact], hypothesis: Fact) -> Label:
    """Say what follows from the premises alone: what they do not settle is neutral.

    Places, homes and jobs hold one value a subject; comparisons and positions are transitive and have a direction.
    """
    said = {fact.canonical for fact in premises}
    asked = replace(hypothesis.canonical, negated=False)
    known = _settled(said, asked)
    if known is None:
        return "neutral"
    return "entailment" if known != hypothesis.negated else "contradiction"


def _settled(said: set[Fact], asked: Fact) -> bool | None:
    if asked in said:
        return True
    if replace(asked, negated=True) in said:
        return False
    if asked.relation in FUNCTIONAL:
        elsewhere = any(f.relation == asked.relation and f.subject == asked.subject and not f.negated for f in said)
        return False if elsewhere else None
    if asked.relation in ORDERS:
        pairs = {(f.subject, f.object) for f in said if f.relation == asked.relation}
        if _reaches(pairs, asked.subject, asked.object):
            return True
        if _reaches(pairs, asked.object, asked.subject):
            return False
    return None


def _reaches(pairs: set[tuple[str, str]], start: str, goal: str) -> bool:
    seen, ahead = set(), {start}
    while ahead:
        seen |= ahead
        ahead = {b for a, b in pairs if a in ahead} - seen
    return goal in seen - {start}
