"""What a task is: facts only. Loading, preparing, heads and metrics are chosen by `kind`, never by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["classify", "tag", "span", "choice", "retrieve", "mask"]
LANGUAGE_SETS = ("xtreme", "xtreme-r")
KINDS: tuple[Kind, ...] = ("classify", "tag", "span", "choice", "retrieve", "mask")
Search = Literal["translation", "mined", "passages", "pooled"]
Form = Kind | Literal["search"]


@dataclass(frozen=True)
class HubSource:
    """Where a task lies on the Hugging Face hub, as parquet (dataset scripts are never run).

    Attributes:
        id: Dataset id, or a local folder in the layout of a hub repository.
        config: Configuration name; ``{language}``, ``{config}`` (as `configs` has it) and, for tasks in pairs of
            languages, ``{context}`` are replaced.
        splits: Our split name (train, dev, test) -> the repository's; ``a+b`` is one after the other.
        columns: Role -> column, with the roles of the data index (text, text_pair, label,
            words, tags, context, question, answers, choices, id, english); ``choices.text`` is a key inside a column.
        configs: Language -> what the repository calls it, where that is not its code; only these are there then.
        revision: Commit or branch of the repository.
        folder: Folder of a configuration, for repositories that name none (converted branches); as `config`.
        leave_out: Role -> values of rows that the publisher marks as none of the task's (SNLI: label -1).
        translated: Training rows in other languages than the source language are machine translations.
        by_name: Labels are taken by name only: the order of its label numbers is not verified.
    """

    id: str
    config: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    revision: str | None = None
    folder: str | None = None
    leave_out: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    by_name: bool = False
    translated: bool = False


@dataclass(frozen=True)
class Task:
    """One task: what it asks, in which languages, how it is scored, where it is found.

    Attributes:
        name: Short name, as in `adapterxl train NAME`.
        kind: classify (one or two texts -> label), tag (word -> tag), span (question + context ->
            answer span), choice (context + question -> one of several texts), retrieve (no training; a text is
            looked for with another, see `search`), mask (plain text -> its masked tokens, by the backbone's own head).
        summary: One line for `adapterxl list tasks`.
        source: Paper or specification.
        labels: Label or tag set; the position is the label id in the hub dataset. choice: what a row calls its
            choices ("A", "B", ...) where it does not count them from 0.
        labels_in_data: The label set is not in here; the index entry names its file.
        languages: Languages of the published benchmark, source language first. May be empty for a user's own task.
        sets: Name of a larger benchmark that has this task ("xtreme", "xtreme-r") -> the languages it scores there:
            `--languages xtreme-r`. They may be more than a source holds; the result is partial then.
        metrics: Names of metrics; the first is the primary one.
        train_from: The task whose English training data is used when this one has none.
        parts: Tasks whose rows, put together, are this task's: one head, drawn in proportion to their sizes.
        label_aliases: Other spellings found in files -> label.
        no_answer: span: questions may have no answer in their context, so "" is a possible prediction.
        answers_as_text: span: an answer's start may be missing or wrong: its first place in the context is taken.
            Answers that stand nowhere in it (start -1) are scored, and refused in training.
        question: span: the column that is asked, or its translation into the language of the context.
        context_languages: span: language of the question -> of the context, where they are not the same.
        pairs: span: languages may be crossed; "de.en" is German context with English questions.
        search: retrieve: what is looked for, and where. translation: the English translation of each sentence, the
            nearest one. mined: pairs of translations among two sides, most without a partner. passages: ranked, in one
            language at a time. pooled: ranked, among all languages together.
        candidates: retrieve: rows are questions about a context, as of span; looked for is the context, or the
            sentence that holds the answer. Questions of one id in several languages ask the same.
        entry: Name in a data index, where another task's files hold this one's rows too.
        max_length: Tokens per row, with the special ones.
        eval_split: The split that `evaluate` reads unless told otherwise (the index may hold only the other one).
        licence: Short licence note.
        hub: Where the hub has it, in order of preference.
    """

    name: str
    kind: Kind
    summary: str
    source: str = ""
    labels: tuple[str, ...] = ()
    labels_in_data: bool = False
    languages: tuple[str, ...] = ()
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    train_from: str | None = None
    parts: tuple[str, ...] = ()
    label_aliases: Mapping[str, str] = field(default_factory=dict)
    no_answer: bool = False
    answers_as_text: bool = False
    question: Literal["question", "question_pivot"] = "question"
    context_languages: Mapping[str, str] = field(default_factory=dict)
    pairs: bool = False
    search: Search = "translation"
    candidates: Literal["", "context", "sentence"] = ""
    entry: str = ""
    max_length: int = 256
    eval_split: Literal["dev", "test"] = "test"
    source_language: str = "en"
    licence: str = ""
    hub: tuple[HubSource, ...] = ()

    @property
    def form(self) -> Form:
        """What a row is: that of the kind; retrieval has questions about a context too, or queries and candidates."""
        if self.kind != "retrieve" or self.search == "translation":
            return self.kind
        return "span" if self.candidates else "search"

    def spoken(self, key: str) -> tuple[str, str | None]:
        """Return the language of the question and of the context of a language key ("de.en": en, de); (key, None)
        where there is no pair to tell apart."""
        context, dot, question = key.partition(".")
        if not self.pairs:
            return key, None
        return question if dot else key, context
