"""The miniature's files load as a user's do, are the same for ever, and hold what their puzzles say."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from adapterxl.data import schema
from adapterxl.data.examples import ClassifyExample, Example, PairExample, SpanExample, TagExample
from adapterxl.data.index import LocalIndex
from adapterxl.miniature import data
from adapterxl.miniature.facts import ORDERS, Fact, judge
from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.puzzles import Choice, Inference, Paraphrase, Question
from adapterxl.miniature.text import Line, quiz, story
from adapterxl.miniature.world import World
from adapterxl.tasks import all_tasks, get_task

# Of all files by name. Text that changes is another world: raise data.VERSION, train the backbone anew, then this.
SHA256 = "5fe72f921d1c67ce2c6523579889a4a615380dfe3e8762d1d5f6b9f38b6029ec"
TASKS = tuple(data.SOURCES)
EVERYWHERE = tuple(name for name, source in data.SOURCES.items() if source.target)


@pytest.fixture(scope="session")
def rows(written) -> dict[tuple[str, str, str], tuple[Example, ...]]:
    """(task, split, language) -> examples, read as a user's data is."""
    index = LocalIndex.open(written.folder)
    found = {}
    for name in TASKS:
        task = get_task(name)
        for split, languages in index.splits(task).items():
            for language in languages:
                loaded = index.load(task, split, language)
                assert not loaded.dropped and not loaded.warnings
                found[name, split, language] = loaded.examples
    return found


def lines_of(puzzle: Any) -> tuple[Line, ...]:
    """All sentences of a puzzle."""
    if isinstance(puzzle, Inference):
        return (*puzzle.premises, puzzle.hypothesis)
    if isinstance(puzzle, Paraphrase):
        return (puzzle.first, puzzle.second)
    if isinstance(puzzle, Choice):
        return (*puzzle.context, *puzzle.options)
    return (puzzle,) if isinstance(puzzle, Line) else (*puzzle.context, puzzle.question)


def statements(lines: tuple[Line, ...]) -> Iterator[tuple[str, ...]]:
    """What lines speak of, true or not: for comparisons whichever comes first, for possessions whatever the colour."""
    for fact in (fact.canonical for line in lines for fact in line.facts):
        ends = sorted((fact.subject, fact.object)) if fact.relation in ORDERS else (fact.subject, fact.object)
        yield (fact.relation, *ends)


def text_of(example: Example) -> tuple[Any, ...]:
    """A row without its id."""
    if isinstance(example, ClassifyExample):
        return example.text, example.text_pair
    if isinstance(example, TagExample):
        return example.words
    return (example.text,) if isinstance(example, PairExample) else (example.context, example.question)


def test_the_files_are_the_same_for_ever(written):
    digest = hashlib.sha256()
    for path in sorted(path for path in written.folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(written.folder).as_posix().encode() + b"\0" + path.read_bytes())
    assert digest.hexdigest() == SHA256


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_finds_the_same_puzzles(written, hash_seed: str):
    code = (
        "import hashlib; from adapterxl.miniature import data; "
        "found = list(data._puzzles('mini_choice', data.SOURCES['mini_choice'], 'dev', set())); "
        "print(hashlib.sha256(repr(found).encode()).hexdigest())"
    )
    # Sets and dictionaries of text are ordered by chance in each process unless a seed is given.
    surroundings = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=True)
    here = written.puzzles["mini_choice", "dev"]
    assert run.stdout.strip() == hashlib.sha256(repr(here).encode()).hexdigest()


def test_every_source_is_a_shipped_task_and_every_mini_task_has_a_source(rows):
    assert set(TASKS) == {name for name in all_tasks() if name.startswith("mini_")}
    assert data.INDEX_NAME == schema.INDEX_NAME
    for name, source in data.SOURCES.items():
        for split, size in source.sizes.items():
            found = {language: len(each) for (n, s, language), each in rows.items() if (n, s) == (name, split)}
            wanted = set(get_task(name).languages) if split == "test" else {"en"}
            assert found == dict.fromkeys(wanted, size)


@pytest.mark.parametrize("name", [name for name in EVERYWHERE if name != "mini_bitext"])
def test_test_rows_are_parallel_across_languages(rows, name: str):
    english = rows[name, "test", "en"]
    for language in get_task(name).languages:
        for one, other in zip(english, rows[name, "test", language], strict=True):
            if isinstance(one, ClassifyExample):
                assert one.label == other.label
            elif isinstance(one, SpanExample):
                assert len(one.answers) == len(other.answers) == 1


def test_every_translation_stands_beside_the_same_english(rows):
    said = [tuple(pair.english for pair in rows["mini_bitext", "test", code]) for code in LANGUAGES if code != "en"]
    assert len(set(said)) == 1
    assert len(set(said[0])) == len(said[0]), "two sentences alike: neither could be found"


@pytest.mark.parametrize("name", TASKS)
def test_no_english_row_is_in_two_splits_or_twice_in_one(rows, name: str):
    found = [text_of(row) for (n, _, language), each in rows.items() if (n, language) == (name, "en") for row in each]
    assert len(set(found)) == len(found)


def test_no_task_states_in_training_what_any_task_states_in_dev_or_test(written):
    spoken: dict[str, set[tuple[str, ...]]] = {"train": set(), "dev": set(), "test": set()}
    for (_, split), puzzles in written.puzzles.items():
        for puzzle in puzzles:
            spoken[split].update(statements(lines_of(puzzle)))
    assert all(len(each) > 200 for each in spoken.values())
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not spoken[one] & spoken[other]


def test_the_text_for_pretraining_has_no_statement_of_a_test_split():
    for number in range(200):
        told, again = story(World(f"any {number}", ("train", "dev")), 4)
        quizzes = [each for each in (quiz(World(f"any {number}", ("train", "dev")), n == 0) for n in (0, 1)) if each]
        lines = [*told, *again, *(line for each in quizzes for line in (*each.told, each.statement))]
        assert {fact.split for line in lines for fact in line.facts} <= {"train", "dev"}


@pytest.mark.parametrize("plain", [True, False])
def test_verdicts_of_quizzes_are_what_follows_and_come_up_alike(plain: bool):
    found = [each for n in range(900) if (each := quiz(World(f"quiz {n}", ("train", "dev")), plain)) is not None]
    for each in found:
        told = [fact for line in each.told for fact in line.facts]
        assert each.verdict == judge(told, each.statement.facts[0])
        if plain:
            assert each.slot is None and not any(line.adverb or line.facts[0].negated for line in each.told)
    count = Counter(each.verdict for each in found)
    assert len(found) > 700 and max(count.values()) < 1.25 * min(count.values())


@pytest.mark.parametrize("name", ["mini_nli", "mini_xnli"])
def test_labels_are_what_follows_and_come_up_alike(written, rows, name: str):
    labels = get_task(name).labels
    for split in data.SOURCES[name].sizes:
        puzzles = written.puzzles[name, split]
        for puzzle, row in zip(puzzles, rows[name, split, "en"], strict=True):
            premises = [fact for line in puzzle.premises for fact in line.facts]
            assert labels[row.label] == puzzle.label == judge(premises, puzzle.hypothesis.facts[0])
        count = Counter(puzzle.label for puzzle in puzzles)
        assert len(count) == 3 and max(count.values()) - min(count.values()) <= 1


def test_paraphrases_say_the_same_and_the_others_do_not(written, rows):
    task = get_task("mini_paraphrase")
    for split in ("train", "dev"):
        puzzles = written.puzzles["mini_paraphrase", split]
        for puzzle, row in zip(puzzles, rows["mini_paraphrase", split, "en"], strict=True):
            first, second = ({fact.canonical for fact in line.facts} for line in (puzzle.first, puzzle.second))
            assert (first == second) == puzzle.same == (task.labels[row.label] == "yes")
        assert sum(puzzle.same for puzzle in puzzles) * 2 == len(puzzles)


@pytest.mark.parametrize("name", ["mini_qa", "mini_xqa"])
def test_every_answer_stands_in_its_context_and_only_one_line_gives_it(written, rows, name: str):
    for split in data.SOURCES[name].sizes:
        puzzles: list[Question] = written.puzzles[name, split]
        for code in get_task(name).languages if split == "test" else ("en",):
            for row in rows[name, split, code]:
                [(answer, start)] = row.answers
                assert answer and row.context[start : start + len(answer)] == answer
        for puzzle in puzzles:
            said = [fact for line in puzzle.context for fact in line.facts]
            assert puzzle.question.facts[0] == said[puzzle.line]
            things = [thing for fact in said for thing in (fact.subject, fact.object)]
            things += [fact.third for fact in said if fact.relation in ("gives", "gets") and fact.third]
            assert len(set(things)) == len(things), "a thing of two lines may have two answers"


def test_two_choices_stand_in_the_context_one_answers_and_each_place_is_right_alike(written, rows):
    for split in ("train", "dev"):
        puzzles: list[Choice] = written.puzzles["mini_choice", split]
        for puzzle, row in zip(puzzles, rows["mini_choice", split, "en"], strict=True):
            assert len(set(row.choices)) == 4 and row.label == puzzle.right
            assert sum(choice in row.context for choice in row.choices) == 2
            assert puzzle.options[puzzle.right].facts == puzzle.question.facts
            told = [fact for line in puzzle.context for fact in line.facts]
            assert [line.facts[0] in told for line in puzzle.options].index(True) == puzzle.right
        assert set(Counter(puzzle.right for puzzle in puzzles).values()) == {len(puzzles) // 4}


def test_a_statement_is_true_of_one_world(written):
    """Premises and contexts never contradict themselves."""
    for name in ("mini_nli", "mini_xnli", "mini_qa", "mini_choice"):
        for puzzle in written.puzzles[name, "dev"]:
            lines = puzzle.premises if isinstance(puzzle, Inference) else puzzle.context
            said: list[Fact] = [fact for line in lines for fact in line.facts]
            for number, fact in enumerate(said):
                assert judge(said[:number] + said[number + 1 :], fact) != "contradiction"
