"""What follows from what was said agrees with a count over all small worlds, and a statement has one split."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest

from adapterxl.miniature.facts import CONVERSE, FUNCTIONAL, OBJECTS, ORDERS, PERSONS, VERBS, Fact, judge
from adapterxl.miniature.world import COMPARED, PLACED

Holds = Callable[[Fact], bool]  # a world, by what is true in it


def by_count(worlds: Iterable[Holds], premises: Sequence[Fact], asked: Fact) -> str | None:
    """Entailed if true in every world of the premises, contradicted if in none; None if the premises have no world."""
    answers = {world(asked) for world in worlds if all(map(world, premises))}
    return {frozenset({True}): "entailment", frozenset({False}): "contradiction", frozenset(): None}.get(
        frozenset(answers), "neutral"
    )


def homes(relation: str) -> list[Holds]:
    """Two persons, each in one of three places or in a fourth that nobody speaks of."""

    def world(home: dict[str, str]) -> Holds:
        return lambda fact: (home[fact.subject] == fact.object) != fact.negated

    assert relation in FUNCTIONAL
    choices = itertools.product((*PLACED[relation][1][:3], "elsewhere"), repeat=2)
    return [world(dict(zip(PERSONS[:2], places, strict=True))) for places in choices]


def rankings(relation: str) -> list[Holds]:
    """All strict orders of four things; written without `canonical`, which is under test."""

    def world(order: tuple[str, ...]) -> Holds:
        return lambda fact: (order.index(fact.subject) < order.index(fact.object)) == (fact.relation == relation)

    return [world(order) for order in itertools.permutations(COMPARED[relation][:4])]


def gifts() -> list[Holds]:
    """Every set of gifts of two objects between two persons."""
    possible = [(a, thing, b) for a, b in itertools.permutations(PERSONS[:2], 2) for thing in OBJECTS[:2]]

    def world(given: set[tuple[str, str, str]]) -> Holds:
        def holds(fact: Fact) -> bool:
            ends = (fact.subject, fact.third or "")
            giver, receiver = ends if fact.relation == "gives" else ends[::-1]
            return (giver, fact.object, receiver) in given

        return holds

    return [world(set(given)) for size in range(5) for given in itertools.combinations(possible, size)]


def some_fact(relation: str, draw: random.Random) -> Fact:
    """A statement within the small worlds, in either form, denied where the world has denials."""
    if relation in FUNCTIONAL:
        denied = relation == "at" and draw.random() < 0.5
        return Fact(relation, draw.choice(PERSONS[:2]), draw.choice(PLACED[relation][1][:3]), negated=denied)
    if relation in ORDERS:
        return Fact(draw.choice((relation, CONVERSE[relation])), *draw.sample(COMPARED[relation][:4], 2))
    giver, receiver = draw.sample(PERSONS[:2], 2)
    return Fact(draw.choice(("gives", "gets")), giver, draw.choice(OBJECTS[:2]), receiver)


@pytest.mark.parametrize("relation", [*FUNCTIONAL, *ORDERS, "gives"])
def test_judgement_agrees_with_a_count_over_all_small_worlds(relation: str):
    worlds = gifts() if relation == "gives" else homes(relation) if relation in FUNCTIONAL else rankings(relation)
    draw, seen = random.Random(relation), Counter[str]()
    for _ in range(600):
        premises = [some_fact(relation, draw) for _ in range(draw.randint(1, 3))]
        asked = some_fact(relation, draw)
        expected = by_count(worlds, premises, asked)
        if expected is not None:
            assert judge(premises, asked) == expected, (premises, asked)
            seen[expected] += 1
    # A gift rules out no other; all else can be contradicted.
    assert set(seen) == {"entailment", "neutral", *(() if relation == "gives" else ("contradiction",))}
    assert min(seen.values()) >= 20


def test_the_rest_settles_only_what_it_says():
    for relation in VERBS:
        said = Fact(relation, "anna", "book")
        assert judge([said], said) == "entailment"
        assert (
            judge([said], Fact(relation, "anna", "key")) == judge([said], Fact(relation, "nina", "book")) == "neutral"
        )
    said = Fact("has", "anna", "book", "red")
    assert judge([said], replace(said, third="blue")) == judge([said], replace(said, object="key")) == "neutral"
    assert judge([Fact("lives", "anna", "london")], Fact("at", "anna", "kitchen")) == "neutral"


def all_facts() -> list[Fact]:
    """One fact for every pair of things that can stand in a relation."""
    pairs = {relation: list(itertools.product(*who_where)) for relation, who_where in PLACED.items()}
    pairs |= {relation: list(itertools.permutations(things, 2)) for relation, things in COMPARED.items()}
    pairs |= {verb: list(itertools.product(PERSONS, OBJECTS)) for verb in ("buys", "sees", "seeks", "finds", "has")}
    facts = [Fact(relation, *pair) for relation, found in pairs.items() for pair in found]
    return facts + [Fact("gives", a, thing, b) for a, b in itertools.permutations(PERSONS, 2) for thing in OBJECTS]


def test_the_converse_of_the_converse_is_the_fact():
    turned = [fact for fact in all_facts() if fact.relation in CONVERSE]
    assert {fact.relation for fact in turned} == {*ORDERS, "gives"}
    for fact in turned:
        assert fact.converse != fact
        assert fact.converse.converse == fact
        assert fact.converse.canonical == fact.canonical == fact


def test_a_statement_its_converse_its_opposite_and_its_denial_share_a_split():
    for fact in all_facts():
        if fact.relation in CONVERSE:
            assert fact.converse.split == fact.split
        if fact.relation in ORDERS:
            assert replace(fact, subject=fact.object, object=fact.subject).split == fact.split
        if fact.relation == "at":
            assert replace(fact, negated=True).split == fact.split


def test_splits_share_the_statements_60_20_20_in_every_relation():
    counts: dict[str, Counter[str]] = {}
    for fact in all_facts():
        counts.setdefault(fact.relation, Counter())[fact.split] += 1
    for relation, count in counts.items():
        for split, share in (("train", 0.6), ("dev", 0.2), ("test", 0.2)):
            assert count[split] / count.total() == pytest.approx(share, abs=0.12), relation
    overall = sum(counts.values(), Counter[str]())
    assert overall["train"] / overall.total() == pytest.approx(0.6, abs=0.03)
    assert overall["test"] / overall.total() == pytest.approx(0.2, abs=0.03)
