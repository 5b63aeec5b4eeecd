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
    """A question about a context. `answers` are (text, start character) pairs; none means: not answerable."""

    id: str
    language: str
    context: str
    question: str
    answers: tuple[tuple[str, int], ...]


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


Example = ClassifyExample | TagExample | SpanExample | ChoiceExample | PairExample | TextExample
