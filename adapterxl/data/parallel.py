"""Lexicons induced from parallel text of a data source: a retrieval task's pairs, or a user's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapterxl.data.align import Induction, induce
from adapterxl.data.examples import PairExample
from adapterxl.data.lexicon import Lexicon, made_lexicon
from adapterxl.data.resolve import DataLike, TaskLike, resolve_task
from adapterxl.data.source import DataSource, Loaded, OnBadRow
from adapterxl.errors import TaskError
from adapterxl.tasks.base import Task

_SPLITS = ("train", "dev", "test")  # in order of preference


@dataclass(frozen=True)
class InducedLexicon:
    """A lexicon and where it comes from.

    Attributes:
        entries: (word, translation, score), by word, the best translation first.
        pairs: Pairs of sentences with words on both sides.
        task, split: Whose pairs they are.
        loaded: What was read.
    """

    lexicon: Lexicon
    entries: tuple[tuple[str, str, float], ...]
    pairs: int
    task: str
    split: str
    loaded: Loaded


def origin_notes(made: Sequence[InducedLexicon]) -> list[str]:
    """What a person should know of lexicons that were induced together: scores on text that they come from say less."""
    notes = [warning for one in made for warning in one.loaded.warnings]
    if made and made[0].split != "train":
        notes.append(
            f"The lexicons of {', '.join(one.lexicon.language for one in made)} come from the {made[0].split} rows of "
            f"{made[0].task}: report no score on these rows for what is trained with them."
        )
    return notes


def parallel_source(task: TaskLike, data: DataLike) -> tuple[Task, DataSource, str, tuple[str, ...]]:
    """Find parallel text: the task, its source, the split to take (train before dev before test) and its languages.

    Raises:
        TaskError: If the task holds no pairs of sentences.
    """
    found, source = resolve_task(task, data)
    if found.kind != "retrieve":
        raise TaskError(
            f"{found.name} ({found.kind}) is no parallel text; name a task of kind retrieve, such as tatoeba, or your "
            "own: a my_task.yaml with kind: retrieve and reader: bitext."
        )
    splits = source.splits(found)
    split = next(split for split in _SPLITS if split in splits)
    return found, source, split, splits[split]


def induced_lexicons(
    task: TaskLike,
    data: DataLike,
    languages: Sequence[str] | None = None,
    *,
    how: Induction | None = None,
    limit: int | None = None,
    on_bad_row: OnBadRow = "stop",
) -> Iterator[InducedLexicon]:
    """Induce a lexicon for each language of parallel text (all by default), one after the other.

    Args:
        limit: The first so many pairs of each language only.

    Raises:
        TaskError: If the task holds no pairs of sentences, or not in a language.
        DataError: If rows cannot be read, or have no words.
    """
    found, source, split, known = parallel_source(task, data)
    for language in languages or known:
        loaded = source.load(found, split, language, on_bad_row=on_bad_row)
        rows = [row for row in loaded.examples[:limit] if isinstance(row, PairExample)]
        induced = induce([(row.text, row.english) for row in rows], language, how)
        if not induced.entries:
            raise TaskError(
                f"{found.name}: no translation in '{language}' is likely enough in {induced.pairs:,} pairs. Give more "
                "pairs, or a lower threshold."
            )
        lexicon = made_lexicon(language, [(word, translation) for word, translation, _ in induced.entries])
        yield InducedLexicon(lexicon, induced.entries, induced.pairs, found.name, split, loaded)
