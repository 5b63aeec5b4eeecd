"""Typed rows, one class per kind of task: what readers give and what preparation takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClassifyExample:
    """One text or a pair of texts with a label id."""

    id: str
    language: str
    text: str
    text_pair: str | None
    label: int


@dataclass(frozen=True, slots=True)
class TagExample:
    """Words with one tag id each."""

    id: str
    language: str
    words: tuple[str, ...]
    tags: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SpanExample:
    """A question about a context. `answers` are (text, start character) pairs; none means: not answerable.

    `sentences` are (start, end) characters of the context, where the data tells them and the task looks for them.
    """

    id: str
    language: str
    context: str
    question: str
    answers: tuple[tuple[str, int], ...]
    sentences: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceExample:
    """A context, a question (may be empty) and several endings or answers, one of them right."""

    id: str
    language: str
    context: str
    question: str
    choices: tuple[str, ...]
    label: int


@dataclass(frozen=True, slots=True)
class PairExample:
    """A sentence and its English translation."""

    id: str
    language: str
    text: str
    english: str


@dataclass(frozen=True, slots=True)
class TextExample:
    """A plain text."""

    id: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class QueryExample:
    """A text to search with, and the ids of the candidates that are right."""

    id: str
    language: str
    text: str
    right: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CandidateExample:
    """A text to be found."""

    id: str
    language: str
    text: str


Example = (
    ClassifyExample
    | TagExample
    | SpanExample
    | ChoiceExample
    | PairExample
    | TextExample
    | QueryExample
    | CandidateExample
)
