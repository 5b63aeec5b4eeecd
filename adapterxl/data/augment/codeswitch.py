"""Code-switching: words of English training rows become words of other languages, with labels, tags and answers."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from adapterxl.data.augment.base import Augmentation, Augmented, Ready
from adapterxl.data.examples import (
    ChoiceExample,
    ClassifyExample,
    Example,
    SpanExample,
    TagExample,
    TextExample,
)
from adapterxl.data.index import LocalIndex
from adapterxl.data.lexicon import Lexicon, lexicon_files, read_lexicons
from adapterxl.data.parallel import induced_lexicons, origin_notes, parallel_source
from adapterxl.data.resolve import DataLike
from adapterxl.data.scripts import UNSPACED
from adapterxl.errors import DataError
from adapterxl.tasks.base import Task

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class CodeSwitch(Augmentation):
    """Replaces words of English training rows by translations, each into a language drawn for it.

    A copy of the rows is made once, before they are tokenised, and is the same for all epochs: its rows can be counted,
    kept in caches and taken up again. `copies=N` makes N of them with other draws, for as many epochs of other words.

    Attributes:
        ratio: Share of the words known to a lexicon that are replaced.
        languages: Languages to draw from; all of the lexicon by default.
        lexicon: Folder with a lexicon file for each language, or one file; or else
        induced: Parallel text that lexicons are induced from (`align`): a task of kind retrieve, or a user's own YAML.
        copies: Different copies of each row.
        keep: The rows as they were stay beside the copies; without it they are replaced.

    Source: CoSDA-ML, Qin et al. 2020, https://arxiv.org/abs/2006.06402. Unlike there, a copy is fixed (see above), and
    all fields of a row are switched, with its tags and answers.
    """

    name: ClassVar[str] = "codeswitch"
    summary: ClassVar[str] = "words of English rows become translations from a lexicon; tags and answers follow"
    source: ClassVar[str] = "CoSDA-ML, Qin et al. 2020, https://arxiv.org/abs/2006.06402"

    ratio: float = Field(0.5, gt=0, le=1)
    languages: tuple[str, ...] | None = Field(None, min_length=1)
    lexicon: str | None = None
    induced: str | None = None
    copies: int = Field(1, ge=1)
    keep: bool = False

    @field_validator("languages", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("lexicon", "induced", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _has_words(self) -> Self:
        if self.languages and len(set(self.languages)) < len(self.languages):
            raise ValueError(f"languages: {', '.join(self.languages)}: name each once")
        if (self.lexicon is None) == (self.induced is None):
            found = "neither lexicon nor induced" if self.lexicon is None else "both lexicon and induced"
            raise ValueError(f"found {found}; name a folder with files such as en-de.tsv, or parallel text")
        return self

    def content(self, data: DataLike) -> dict[str, str]:
        """Digests of the lexicon files, or of the index's files of the parallel text (empty for the hub)."""
        if self.lexicon is None:
            task, source, _, _ = parallel_source(str(self.induced), data)
            known = source.content(task) if isinstance(source, LocalIndex) else None
            return {task.name: known or ""}
        return {
            language: hashlib.sha256(path.read_bytes()).hexdigest()
            for language, path in lexicon_files(self.lexicon, self.languages).items()
        }

    def begin(self, data: DataLike) -> Ready:
        """Read the lexicons, or induce them."""
        notes: list[str] = []
        if self.lexicon is not None:
            lexicons, named = read_lexicons(self.lexicon, self.languages), Path(self.lexicon).resolve().name
            files = {f"lexicon {named}, {language}": one.sha256 for language, one in lexicons.items()}
        else:
            made = list(induced_lexicons(str(self.induced), data, self.languages))
            lexicons, named = {one.lexicon.language: one.lexicon for one in made}, Path(str(self.induced)).name
            files = {file.path: file.sha256 for one in made for file in one.loaded.files}
            notes = origin_notes(made)
        place = {"lexicon" if self.lexicon else "induced": named}
        text = str(self.model_copy(update={**place, "languages": tuple(lexicons)}))

        def apply(rows: Sequence[Example], task: Task, seed: int) -> Augmented:
            switcher = Switcher(lexicons, self.ratio, task, seed)
            made = [each for row in rows for each in switcher.copies_of(row, self.copies, self.keep)]
            facts = {"operator": text, "seed": seed, **switcher.facts(), "lexicons": {
                language: one.sha256 for language, one in lexicons.items()
            }}  # fmt: skip
            return Augmented(tuple(made), facts, (*notes, *switcher.notes(text)), files)

        return apply


class Switcher:
    """Switches rows of one task and counts what it did.

    Args:
        lexicons: Language -> lexicon.
        ratio: Share of the known words that are replaced.
        task: For its labels, which say how tags continue.
        seed: With a row's id and the number of the copy it decides the draws, so no other row does.
    """

    def __init__(self, lexicons: Mapping[str, Lexicon], ratio: float, task: Task, seed: int) -> None:
        self.lexicons, self.ratio, self.seed = dict(lexicons), ratio, seed
        ids = {label: number for number, label in enumerate(task.labels)}
        # A tag that begins something is continued by its I- tag, any other by itself.
        self.inside = [ids.get(f"I-{label[2:]}", n) if label[:2] == "B-" else n for n, label in enumerate(task.labels)]
        self.counts: Counter[str] = Counter()

    def copies_of(self, row: Example, copies: int, keep: bool) -> list[Example]:
        """The rows that take a row's place. A copy in which nothing was replaced never stands beside its row.

        Rows in other languages than English stay as they are.
        """
        self.counts["rows"] += 1
        if row.language != "en":
            self.counts["rows_not_english"] += 1
            return [row]
        made: list[Example] = [row] if keep else []
        switched = known = 0
        for number in range(copies):
            before = Counter(self.counts)
            copy = self._switched(row, number)
            known += self.counts["words_known"] - before["words_known"]
            if self.counts["words_replaced"] > before["words_replaced"]:
                switched += 1
                made.append(replace(copy, id=f"{row.id}~{number + 1}") if keep or copies > 1 else copy)
            elif not made:
                made.append(row)
        self.counts["rows_changed"] += bool(switched)
        self.counts["rows_without_known_word"] += not known
        return made

    def facts(self) -> dict[str, int]:
        """What was done, as counts: of rows given, and of words over all copies."""
        names = ("rows", "rows_changed", "rows_without_known_word", "rows_not_english")
        return {name: self.counts[name] for name in (*names, "words", "words_known", "words_replaced")}

    def notes(self, text: str) -> tuple[str, ...]:
        """What a person should know."""
        found = self.facts()
        share = found["words_replaced"] / max(1, found["words"])
        said = f"{text}: {found['rows_changed']:,} of {found['rows']:,} rows switched, {share:.0%} of their words"
        for name, why in (("rows_without_known_word", "hold no word of the lexicon"),
                          ("rows_not_english", "are not in English")):  # fmt: skip
            said += f"; {found[name]:,} {why}, and stay" if found[name] else ""
        return (f"{said}.",)

    def _switched(self, row: Example, copy: int) -> Example:
        def of(text: str, field: str, cuts: Sequence[int] = ()) -> tuple[str, Callable[[int], int]]:
            return self._text(text, random.Random(f"{self.seed}\n{row.id}\n{copy}\n{field}"), cuts)

        if isinstance(row, ClassifyExample):
            pair = None if row.text_pair is None else of(row.text_pair, "text_pair")[0]
            return replace(row, text=of(row.text, "text")[0], text_pair=pair)
        if isinstance(row, ChoiceExample):
            choices = tuple(of(choice, f"choice {n}")[0] for n, choice in enumerate(row.choices))
            return replace(
                row, context=of(row.context, "context")[0], question=of(row.question, "question")[0], choices=choices
            )
        if isinstance(row, TagExample):
            return self._tags(row, random.Random(f"{self.seed}\n{row.id}\n{copy}\nwords"))
        if isinstance(row, SpanExample):
            ends = [place for text, start in row.answers for place in (start, start + len(text))]
            context, moved = of(row.context, "context", ends)
            places = [(moved(start), moved(start + len(text))) for text, start in row.answers]
            answers = tuple((context[begin:end], begin) for begin, end in places)
            return checked(replace(row, context=context, question=of(row.question, "question")[0], answers=answers))
        assert isinstance(row, TextExample)
        return replace(row, text=of(row.text, "text")[0])

    def _tags(self, row: TagExample, draw: random.Random) -> TagExample:
        words: list[str] = []
        tags: list[int] = []
        for word, tag in zip(row.words, row.tags, strict=True):
            found = self._translation(word, draw) if _WORD.fullmatch(word) else None
            parts = [word] if found is None else found[0].split()
            words += parts
            tags += [tag, *[self.inside[tag]] * (len(parts) - 1)]
        return replace(row, words=tuple(words), tags=tuple(tags))

    def _text(self, text: str, draw: random.Random, cuts: Sequence[int]) -> tuple[str, Callable[[int], int]]:
        """The switched text, and where a place of the text is in it.

        Args:
            cuts: Places that must be found again: a word that one of them cuts in two stays.
        """
        edits: list[tuple[int, int, str]] = []  # from, to, what stands there instead
        last = (-1, "")  # end and language of the last word, if it was replaced
        for match in _WORD.finditer(text):
            begin, end = match.span()
            found = None if any(begin < cut < end for cut in cuts) else self._translation(match[0], draw)
            if found is None:
                continue
            translation, language = found
            if language in UNSPACED and last == (begin - 1, language) and text[begin - 1] == " ":
                edits.append((begin - 1, begin, ""))
            edits.append((begin, end, translation))
            last = (end, language)
        made, at = [], 0
        for begin, end, what in edits:
            made += [text[at:begin], what]
            at = end

        def moved(place: int) -> int:
            return place + sum(len(what) - (end - begin) for begin, end, what in edits if end <= place)

        return "".join([*made, text[at:]]), moved

    def _translation(self, word: str, draw: random.Random) -> tuple[str, str] | None:
        """A translation of a word in its case, and its language; None where it stays."""
        key = word.lower()
        able = [language for language, lexicon in self.lexicons.items() if key in lexicon.entries]
        self.counts["words"] += 1
        self.counts["words_known"] += bool(able)
        if not able or draw.random() >= self.ratio:
            return None
        self.counts["words_replaced"] += 1
        language = draw.choice(able)
        found = draw.choice(self.lexicons[language].entries[key])
        if len(word) > 1 and word.isupper():
            return found.upper(), language
        return (found[0].upper() + found[1:] if word[0].isupper() else found), language


def checked(row: SpanExample) -> SpanExample:
    """Return a row whose answers stand where they are said to stand.

    Raises:
        DataError: If one does not.
    """
    for text, start in row.answers:
        if not text or row.context[start : start + len(text)] != text:
            raise DataError(f"{row.id}: answer {text!r} does not stand at character {start} of the switched context.")
    return row


AUGMENTATION = CodeSwitch
