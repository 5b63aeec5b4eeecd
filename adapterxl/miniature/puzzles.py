"""What the tasks of the miniature ask, before it is said in a language: one function a kind of task.

Words of one side, or of both without a look from one to the other, stay near chance: what stands in a hypothesis or an
answer is drawn alike for all labels. Some rows yield to who looks which words occur on both sides, others only to who
sees what is said of whom, as in the real tasks.
A world that a split leaves too little to say in gives None: the next world is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapterxl.miniature.facts import CONVERSE, FUNCTIONAL, Fact, Label
from adapterxl.miniature.text import LABELS, Line, askable, reworded
from adapterxl.miniature.world import COMPARED, PLACED, World


@dataclass(frozen=True)
class Inference:
    """Premises, a hypothesis and what follows."""

    premises: tuple[Line, ...]
    hypothesis: Line
    label: Label


@dataclass(frozen=True)
class Paraphrase:
    """Two sentences; do they say the same?"""

    first: Line
    second: Line
    same: bool


@dataclass(frozen=True)
class Question:
    """A context, a question about one of its lines, and the slot of that line that answers it."""

    context: tuple[Line, ...]
    question: Line
    line: int
    slot: str


@dataclass(frozen=True)
class Choice:
    """A context and a question with several answers, each a slot of a line."""

    context: tuple[Line, ...]
    question: Line
    options: tuple[Line, ...]
    slot: str
    right: int


def inference(world: World, relations: Sequence[str], number: int) -> Inference | None:
    """One to three premises, and a hypothesis of label `number` modulo three."""
    label = LABELS[number % 3]
    relation = relations[number // len(LABELS) % len(relations)]  # as many rows of each relation with each label
    make = _placed if relation in FUNCTIONAL else _ordered
    found = next((each for _ in range(50) if (each := make(world, relation, label)) is not None), None)
    if found is None:
        return None
    premises, hypothesis = found
    world.random.shuffle(premises)
    return Inference(tuple(Line((fact,)) for fact in premises), Line((hypothesis,)), label)


def paraphrase(world: World, relations: Sequence[str], number: int) -> Paraphrase | None:
    """A statement, and it again or another one, with another adverb or seen from the other side.

    The other one has its parts exchanged, all words being the same, or one thing in place of another.
    """
    same = number % 2 == 0
    fact = reworded(world.fact(relations), world)
    stranger = world.fact([fact.canonical.relation], but=fact.things)
    if stranger.relation != fact.canonical.relation:
        return None
    stranger = stranger if stranger.relation == fact.relation else stranger.converse
    exchange = fact.relation in CONVERSE and world.random.random() < 0.5
    other = _exchanged(fact) if exchange else _with(fact, world.random.choice(("subject", "object")), stranger)
    turned = fact.relation in CONVERSE and world.random.random() < 0.5
    adverbs = (world.adverb(0.6), world.adverb(0.6))
    # Neither test looks at the answer: a row is kept only if it could be asked with either.
    if not world.may(other) or (not turned and adverbs[0] == adverbs[1]):
        return None
    again = fact if same else other
    return Paraphrase(Line((fact,), adverbs[0]), Line((again.converse if turned else again,), adverbs[1]), same)


def question(world: World, relations: Sequence[str], number: int) -> Question | None:
    """Three to five statements, two of them of one relation, and a question that one of these two answers."""
    asked = world.fact(relations)
    other = world.fact([asked.relation], but=_things([asked]))
    if other.relation != asked.relation:
        return None
    if asked.relation in CONVERSE and world.random.random() < 0.5:
        asked, other = asked.converse, other.converse
    slot = world.random.choice(askable(asked))
    if not world.may(_with(asked, slot, other)):  # as with choices: this split may also say the wrong answer
        return None
    facts = [asked, other]
    wanted = world.random.randint(3, 5)
    while len(facts) < wanted:
        facts.append(reworded(world.fact(relations, but=_things(facts)), world))
    world.random.shuffle(facts)
    line = facts.index(asked)
    lines = tuple(Line((fact,), world.adverb()) for fact in facts)
    return Question(lines, Line((facts[line],), asked=slot), line, slot)


def choice(world: World, relations: Sequence[str], number: int) -> Choice | None:
    """Two statements of one relation and one of another; who is it, or where, of four: the second and third best
    answer are in what was told as well, the rest is not.

    A row is kept only if its split may say every answer: of a place that no training statement has for this person,
    a model would know that it is wrong without a look at the context, and in another split this would mislead it.
    """
    relation = world.random.choice(relations)
    slot = world.random.choice(("subject", "object"))
    who, where = [thing for thing in PLACED[relation][0] if thing in world.subjects], PLACED[relation][1]
    kept = world.random.choice(where if slot == "subject" else who)
    pairs = [(one, kept) for one in who] if slot == "subject" else [(kept, one) for one in where]
    able = [fact for fact in (Fact(relation, *pair) for pair in pairs) if world.may(fact)]
    if len(able) < 4:
        return None
    options = world.random.sample(able, 4)
    asked = options[number % 4]
    wrong = world.random.choice([fact for fact in options if fact != asked])
    # The other statement has one of the wrong answers, and it is true of somebody or somewhere else.
    if slot == "subject":
        free = [replace(wrong, object=one) for one in where if one != kept]
    else:
        free = [replace(wrong, subject=one) for one in who if one != kept]
    free = [each for each in free if world.may(each)]
    if not free:
        return None
    other = world.random.choice(free)
    context = [asked, other, world.fact(("has", "sees", "older"), but=_things([*options, other]))]
    world.random.shuffle(context)
    lines = tuple(Line((fact,)) for fact in context)
    return Choice(lines, Line((asked,), asked=slot), tuple(Line((fact,)) for fact in options), slot, number % 4)


def sentence(world: World, relations: Sequence[str], number: int) -> Line:
    """One sentence, a question now and then."""
    fact = reworded(world.fact(relations), world)
    slots = askable(fact)
    if slots and world.random.random() < 0.2:
        return Line((fact,), asked=world.random.choice(slots))
    several = [fact]
    if world.random.random() < 0.4:
        several.append(reworded(world.fact(relations, but=_things(several)), world))
    return Line(tuple(several), world.adverb())


def _things(facts: Sequence[Fact]) -> set[str]:
    return {thing for fact in facts for thing in (fact.subject, fact.object, fact.third) if thing}


def _placed(world: World, relation: str, label: Label) -> tuple[list[Fact], Fact] | None:
    """Where one subject is; perhaps where another is, and something else of a third.

    A hypothesis that is not what was said has a place or a subject in it that was told of something else, or that was
    not told at all.
    """
    who = [thing for thing in PLACED[relation][0] if thing in world.subjects]
    first, second, bystander, stranger = world.pick(who, 4)
    here, there = world.placed(relation, first), world.placed(relation, second)
    elsewhere = world.random.choice(PLACED[relation][1])
    said = _about(world, relation, bystander, but={first, second, stranger})
    if here is None or there is None or said is None or len({here.object, there.object, elsewhere}) < 3:
        return None
    premises = [here]
    if world.random.random() < 0.5:
        premises.append(there)
        elsewhere = there.object if world.random.random() < 0.5 else elsewhere
    if world.random.random() < 0.5:
        premises.append(said)
        stranger = bystander if world.random.random() < 0.5 else stranger
    crossed, unknown = replace(here, object=elsewhere), replace(here, subject=stranger)
    # Whatever the label: or else the statements that a split may say would tell it.
    if not (world.may(crossed) and world.may(unknown)):
        return None
    denied = relation == "at" and world.random.random() < 1 / 4
    true = {"entailment": not denied, "contradiction": denied, "neutral": True}[label]
    asked = unknown if label == "neutral" else here if true else crossed
    return premises, replace(asked, negated=denied)


def _about(world: World, relation: str, subject: str, but: set[str]) -> Fact | None:
    """Anything about a subject but where it is by this relation."""
    able = [r for r in PLACED if r != relation and subject in PLACED[r][0]]
    able += [r for r in COMPARED if subject in COMPARED[r]]
    chosen = world.random.choice(able)
    if chosen in PLACED:
        return world.placed(chosen, subject)
    return world.compared(chosen, subject, *world.pick(COMPARED[chosen], 1, but=but | {subject}))


def _ordered(world: World, relation: str, label: Label) -> tuple[list[Fact], Fact] | None:
    """One comparison or two; a third between the two pairs is not settled."""
    a, b, c, d = world.pick(COMPARED[relation], 4)
    first, second = world.compared(relation, a, b), world.compared(relation, c, d)
    if first is None or second is None:
        return None
    ends = [world.random.choice((a, b)), world.random.choice((c, d))]
    world.random.shuffle(ends)
    unknown = Fact(relation, ends[0], ends[1])
    if not world.may(unknown):  # whatever the label, as with places
        return None
    hypothesis = {"entailment": first, "neutral": unknown, "contradiction": _exchanged(first)}[label]
    premises = [first, second] if world.random.random() < 0.5 else [first]
    return [reworded(fact, world) for fact in premises], reworded(hypothesis, world)


def _with(fact: Fact, slot: str, other: Fact) -> Fact:
    """A fact with what another one has in a slot."""
    return replace(fact, **{slot: getattr(other, slot)})


def _exchanged(fact: Fact) -> Fact:
    """The same words with the parts exchanged: what it says is the opposite."""
    if fact.third is not None:
        return replace(fact, subject=fact.third, third=fact.subject)
    return replace(fact, subject=fact.object, object=fact.subject)
