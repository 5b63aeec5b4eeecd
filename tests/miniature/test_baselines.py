"""Shallow cues stay near chance: linear baselines that read only a part, or the words of both sides, learn nothing.

What one side has in common with the other is a cue in some rows, as in real tasks, and no answer in the others: for the
baselines that see it the test holds how far they come (OVERLAP).

After Gururangan et al. 2018 (https://aclanthology.org/N18-2017), who found labels from hypotheses alone. Each baseline
is a logistic regression on English training rows, scored on rows that it has not seen. "Near" is chance plus four
binomial standard errors, ``sqrt(chance * (1 - chance) / rows)``: on 2,000 rows 0.04, on 400 rows 0.09 (three labels).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any

import pytest
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from adapterxl.miniature.facts import FUNCTIONAL, OBJECTS, judge
from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.puzzles import Choice, Inference, Paraphrase, Question
from adapterxl.miniature.text import Line, askable

Features = dict[str, float]
Baseline = Callable[[Any], Features]


@cache
def spoken(line: Line) -> tuple[str, ...]:
    return tuple(word.text.lower() for word in line.words(LANGUAGES["en"]))


def words(*lines: Line) -> list[str]:
    return [word for line in lines for word in spoken(line)]


def bag(side: str, *lines: Line) -> Features:
    return {f"{side} {word}": float(count) for word, count in Counter(words(*lines)).items()}


def numbers(first: Sequence[Line], second: Sequence[Line]) -> Features:
    """How many words both sides have, and how many more one has."""
    one, other = Counter(words(*first)), Counter(words(*second))
    return {f"shared {(one & other).total()}": 1.0, f"longer by {one.total() - other.total()}": 1.0}


def shared(first: Sequence[Line], second: Sequence[Line]) -> Features:
    """Which words both sides have and which only one, and how many."""
    one, other = set(words(*first)), set(words(*second))
    marks = {f"both {w}": 1.0 for w in one & other} | {f"first {w}": 1.0 for w in one - other}
    return marks | {f"second {w}": 1.0 for w in other - one} | numbers(first, second)


def relations(*lines: Line) -> str:
    return " ".join(sorted(f"{fact.relation}{'-' * fact.negated}" for line in lines for fact in line.facts))


NLI: dict[str, Baseline] = {
    "hypothesis only": lambda p: bag("h", p.hypothesis),
    "premises only": lambda p: bag("p", *p.premises),
    "both, words by side": lambda p: bag("h", p.hypothesis) | bag("p", *p.premises),
    "number of premises": lambda p: {str(len(p.premises)): 1.0},
    "hypothesis's relation": lambda p: {relations(p.hypothesis): 1.0},
    "relations of both": lambda p: {f"{relations(*p.premises)} > {relations(p.hypothesis)}": 1.0},
}
PARAPHRASE: dict[str, Baseline] = {
    "first only": lambda p: bag("1", p.first),
    "second only": lambda p: bag("2", p.second),
    "both, words by side": lambda p: bag("1", p.first) | bag("2", p.second),
    "relations of both": lambda p: {f"{relations(p.first)} > {relations(p.second)}": 1.0},
    "order and adverbs": lambda p: (
        {f"{p.first.facts[0].relation == p.second.facts[0].relation}": 1.0}
        | {f"{p.first.adverb} {p.second.adverb}": 1.0}
    ),
}
# What sees both sides at once, and the most it may reach.
OVERLAP: dict[str, tuple[dict[str, Baseline], float]] = {
    "nli": (
        {
            "shared words": lambda p: shared(p.premises, [p.hypothesis]),
            "number of shared words": lambda p: numbers(p.premises, [p.hypothesis]),
        },
        0.75,
    ),
    "paraphrase": ({"shared words": lambda p: shared([p.first], [p.second])}, 0.80),
}
CHOICE: dict[str, Callable[[Choice, int], Features]] = {
    "choice only": lambda p, n: {word: 1.0 for word in answer(p, n)},
    "place of the choice": lambda p, n: {f"{n} {p.slot}": 1.0},
    "choice and question": lambda p, n: {f"{q} {c}": 1.0 for q in words(p.question) for c in answer(p, n)},
    "length": lambda p, n: {f"length {len(' '.join(answer(p, n)))}": 1.0, f"words {len(answer(p, n))}": 1.0},
}


def answer(puzzle: Choice, number: int) -> list[str]:
    """The words of one choice, as they are given to a model."""
    said = puzzle.options[number].words(LANGUAGES["en"])
    return [word.text.lower() for word in said if word.slot == puzzle.slot]


def learned(train: Sequence[Features], truth: Sequence[Hashable], test: Sequence[Features]) -> list[Any]:
    """What a logistic regression trained on `train` says of `test`."""
    table = DictVectorizer()
    model = LogisticRegression(C=0.3, max_iter=200, tol=1e-3).fit(table.fit_transform(train), list(truth))
    return list(model.predict(table.transform(test)))


def accuracy(said: Sequence[Any], truth: Sequence[Any]) -> float:
    # A plain float: workers of pytest-xdist cannot send what record_property holds of numpy.
    return float(sum(a == b for a, b in zip(said, truth, strict=True)) / len(truth))


def limit(chance: float, rows: int) -> float:
    return chance + 4 * math.sqrt(chance * (1 - chance) / rows)


def label_of(puzzle: Inference | Paraphrase) -> Hashable:
    return puzzle.label if isinstance(puzzle, Inference) else puzzle.same


def score(baseline: Baseline, train: Sequence[Any], test: Sequence[Any]) -> float:
    said = learned([baseline(p) for p in train], [label_of(p) for p in train], [baseline(p) for p in test])
    return accuracy(said, [label_of(p) for p in test])


def score_choice(
    baseline: Callable[[Choice, int], Features], train: Sequence[Choice], tests: Sequence[Sequence[Choice]]
) -> list[float]:
    """Each choice is rated alone, as models of this kind of task do; the best of four is taken."""
    table = DictVectorizer()
    given = table.fit_transform([baseline(p, n) for p in train for n in range(4)])
    right = [p.right == n for p in train for n in range(4)]
    model = LogisticRegression(C=0.3, max_iter=200, tol=1e-3).fit(given, right)
    found = []
    for test in tests:
        rated = model.decision_function(table.transform([baseline(p, n) for p in test for n in range(4)]))
        found.append(accuracy(list(rated.reshape(-1, 4).argmax(axis=1)), [p.right for p in test]))
    return found


def halves(written: Any, name: str) -> dict[str, tuple[list[Any], list[Any]]]:
    """Where a baseline learns and is scored: on other statements, and on more rows of the training statements."""
    train = written.puzzles[name, "train"]
    half = len(train) // 2
    found = {"held-out train": (train[:half], train[half:])}
    for split in ("dev", "test"):
        if (name, split) in written.puzzles:
            found[split] = (train, written.puzzles[name, split])
    return found


class Table:
    """Scores beside their limits, printed (pytest -rP) and kept in the report of the run."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self.record, self.beyond = record, []  # type: ignore[var-annotated]

    def add(self, name: str, found: float, chance: float, rows: int) -> None:
        most = limit(chance, rows)
        line = f"{name}: {found:.3f}, chance {chance:.3f}, within {most - chance:.3f} on {rows} rows"
        print(line)
        self.record(name, round(found, 4))
        # Far below chance is a cue as well: one that turns round in other splits.
        if not 2 * chance - most <= found <= most:
            self.beyond.append(line)


@pytest.mark.parametrize("name", ["mini_nli", "mini_xnli", "mini_paraphrase"])
def test_words_without_order_tell_no_label(written, record_property, name: str):
    table = Table(record_property)
    chance, baselines = (1 / 2, PARAPHRASE) if name == "mini_paraphrase" else (1 / 3, NLI)
    for cue, baseline in baselines.items():
        for place, (train, test) in halves(written, name).items():
            table.add(f"{name} {place}, {cue}", score(baseline, train, test), chance, len(test))
    assert not table.beyond


@pytest.mark.parametrize("name", ["mini_nli", "mini_xnli", "mini_paraphrase"])
def test_words_that_both_sides_share_are_not_enough(written, record_property, name: str):
    baselines, most = OVERLAP["paraphrase" if name == "mini_paraphrase" else "nli"]
    for cue, baseline in baselines.items():
        for place, (train, test) in halves(written, name).items():
            found = score(baseline, train, test)
            print(f"{name} {place}, {cue}: {found:.3f}, at most {most}")
            record_property(f"{name} {place}, {cue}", round(found, 4))
            assert found <= most


def test_half_of_the_choices_stand_in_the_context(written):
    for puzzle in written.puzzles["mini_choice", "dev"]:
        told = {word for line in puzzle.context for word in spoken(line)}
        assert sum(set(answer(puzzle, n)) <= told for n in range(4)) >= 2


def test_choices_without_the_context_tell_no_answer(written, record_property):
    table = Table(record_property)
    train = written.puzzles["mini_choice", "train"]
    tests = {"dev": written.puzzles["mini_choice", "dev"], "held-out train": train[1_000:3_000]}
    for cue, baseline in CHOICE.items():
        for place, found in zip(tests, score_choice(baseline, train[:1_000], list(tests.values())), strict=True):
            table.add(f"mini_choice {place}, {cue}", found, 1 / 4, len(tests[place]))
    assert not table.beyond


def _all(puzzle: Question) -> list[int]:
    return list(range(len(puzzle.context)))


def _of_the_kind(puzzle: Question) -> list[int]:
    """Lines that have what is asked for: a person, a thing or a place."""
    kind = _kind(puzzle.question, puzzle.question.asked or "")
    return [
        n for n in _all(puzzle) if kind in (_kind(puzzle.context[n], s) for s in askable(puzzle.context[n].facts[0]))
    ]


def _of_the_relation(puzzle: Question) -> list[int]:
    asked = puzzle.question.facts[0].canonical.relation
    return [n for n in _all(puzzle) if puzzle.context[n].facts[0].canonical.relation == asked]


def _kind(line: Line, slot: str) -> str:
    fact = line.facts[0]
    if slot == "object":
        return "place" if fact.relation in FUNCTIONAL else "thing"
    return "thing" if fact.subject in OBJECTS else "person"


@pytest.mark.parametrize("name", ["mini_qa", "mini_xqa"])
def test_the_place_of_a_line_tells_no_answer(written, record_property, name: str):
    """Even for a reader who knows which phrase of a line is asked for, and from which lines it could come."""
    table = Table(record_property)
    positions: dict[str, Callable[[Question, list[int]], int]] = {
        "first": lambda p, among: among[0],
        "last": lambda p, among: among[-1],
        "longest": lambda p, among: max(among, key=lambda n: len(words(p.context[n]))),
    }
    for split in ("train", "dev", "test"):
        puzzles = written.puzzles.get((name, split), [])
        for kind, among in (
            ("line", _all),
            ("line of the kind", _of_the_kind),
            ("line of the relation", _of_the_relation),
        ):
            for position, pick in positions.items():
                if not puzzles:
                    continue
                chance = sum(1 / len(among(p)) for p in puzzles) / len(puzzles)
                found = accuracy([pick(p, among(p)) for p in puzzles], [p.line for p in puzzles])
                table.add(f"{name} {split}, {position} {kind}", found, chance, len(puzzles))
    assert not table.beyond


@pytest.mark.parametrize("name", ["mini_qa", "mini_xqa"])
def test_the_verb_alone_tells_no_line(written, name: str):
    for (task, _), puzzles in written.puzzles.items():
        if task == name:
            assert min(len(_of_the_relation(puzzle)) for puzzle in puzzles) >= 2


def test_a_reader_of_the_facts_solves_everything(written):
    """The other way round: what is asked can be answered, and these scores can leave chance."""

    def follows(puzzle: Any) -> Features:
        if isinstance(puzzle, Inference):
            return {judge([line.facts[0] for line in puzzle.premises], puzzle.hypothesis.facts[0]): 1.0}
        first, second = ({fact.canonical for fact in line.facts} for line in (puzzle.first, puzzle.second))
        return {f"same {first == second}": 1.0}

    for name in ("mini_nli", "mini_xnli", "mini_paraphrase"):
        for train, test in halves(written, name).values():
            assert score(follows, train, test) == 1.0
    choices = written.puzzles["mini_choice", "dev"]
    assert score_choice(lambda p, n: {"is": float(p.options[n].facts == p.question.facts)}, choices, [choices]) == [1.0]
    for name in ("mini_qa", "mini_xqa"):
        for puzzle in written.puzzles[name, "dev"]:
            assert [n for n in _all(puzzle) if puzzle.context[n].facts == puzzle.question.facts] == [puzzle.line]


def test_a_cue_in_a_fifth_of_the_rows_is_found(written):
    """A word more in a fifth of the contradictions, and the limit is passed."""

    def leaking(puzzle: Inference) -> Features:
        told = puzzle.label == "contradiction" and sum(map(len, words(puzzle.hypothesis))) % 5 == 0
        return NLI["hypothesis only"](puzzle) | ({"h never": 1.0} if told else {})

    train, test = halves(written, "mini_nli")["held-out train"]
    assert score(leaking, train, test) > limit(1 / 3, len(test))
