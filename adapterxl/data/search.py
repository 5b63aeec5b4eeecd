"""Queries and candidates of retrieval: as they were read, or made from questions about contexts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adapterxl.data.examples import CandidateExample, Example, QueryExample, SpanExample
from adapterxl.tasks.base import Task

_ENDS = ".!?\u2026\u061f\u06d4\u0964\u0965"  # Latin, Arabic, Hindi: a space follows
_WIDE = "\u3002\uff01\uff1f"  # Chinese and Japanese, which no space follows
_CLOSING = "\"'\u201d\u2019\u00bb\u300d\u300f)\\]\uff09\u3011"
_BREAK = re.compile(rf"(?:[{_ENDS}]+[{_CLOSING}]*\s+|[{_WIDE}]+[{_CLOSING}]*\s*)(?=\S)")
# An initial or an abbreviation of two letters: "J. Smith", "Dr. Smith", "St. Louis".
_ABBREVIATED = re.compile(r"(?:^|[\s(.])(?:\w|[A-Z]\w|Mrs|etc|vs|ca|e\.g|i\.e)\.$")


@dataclass(frozen=True)
class Searched:
    """What is looked for in one language.

    Attributes:
        left_out: Questions whose answer begins in no sentence.
        split_by_rule: The data does not tell sentences apart, so `sentences` did.
    """

    queries: tuple[QueryExample, ...]
    candidates: tuple[CandidateExample, ...]
    left_out: int = 0
    split_by_rule: bool = False


def searched(task: Task, examples: Sequence[Example], language: str) -> Searched:
    """Return queries and candidates of one language.

    Ids of candidates made here are ``<language>:<context>`` or ``<language>:<context>:<sentence>``, numbers from 0 in
    the order of the rows. Right is the sentence in which the answer begins, and others of the context that read the
    same.

    Source: Roy et al. 2020 (LAReQA), as XTREME-R's utils_lareqa.py pairs questions with sentences.
    """
    if not task.candidates:
        return Searched(
            tuple(each for each in examples if isinstance(each, QueryExample)),
            tuple(each for each in examples if isinstance(each, CandidateExample)),
        )
    numbers: dict[str, list[tuple[str, int, str]]] = {}  # context -> id, end in it, text of each candidate
    queries: list[QueryExample] = []
    candidates: list[CandidateExample] = []
    left_out, by_rule = 0, False
    for example in examples:
        assert isinstance(example, SpanExample)
        context = example.context
        spans = [(0, len(context))]
        if task.candidates == "sentence":
            by_rule |= not example.sentences
            spans = list(example.sentences) or sentences(context)
        if context not in numbers:
            name = f"{language}:{len(numbers)}"
            names = [f"{name}:{n}" if task.candidates == "sentence" else name for n in range(len(spans))]
            numbers[context] = [(each, b, context[a:b]) for each, (a, b) in zip(names, spans, strict=True)]
            candidates += [CandidateExample(each, language, text) for each, _, text in numbers[context]]
        begin = example.answers[0][1] if example.answers else 0
        place = next((n for n, (a, b) in enumerate(spans) if a <= begin < b), None)
        if place is None:
            left_out += 1
            continue
        wanted = numbers[context][place][2]
        right = tuple(name for name, _, text in numbers[context] if text == wanted)
        queries.append(QueryExample(example.id, language, example.question, right))
    return Searched(tuple(queries), tuple(candidates), left_out, by_rule)


def sentences(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of the sentences of a text, without the spaces between them.

    A rule for data that does not tell them: after . ! ? and their like in other scripts, with what closes a quotation,
    where a space follows or the script has none; not after initials and the shortest abbreviations.
    """
    found, start = [], 0
    for match in _BREAK.finditer(text):
        end = len(text[: match.end()].rstrip())
        if match[0].lstrip()[0] == "." and _ABBREVIATED.search(text[start : match.start() + 1]):
            continue
        found.append((start, end))
        start = match.end()
    return [*found, (start, len(text.rstrip()))] if text[start:].strip() else found
