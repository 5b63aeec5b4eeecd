"""From the raw values of one row to a typed example: the checks that every reader and the hub share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from adapterxl.data.examples import (
    CandidateExample,
    ChoiceExample,
    ClassifyExample,
    Example,
    PairExample,
    QueryExample,
    SpanExample,
    TagExample,
    TextExample,
)
from adapterxl.data.source import OnBadRow
from adapterxl.errors import DataError, UsageError, did_you_mean
from adapterxl.tasks.base import Form, Task

MAX_CHARS = 200_000  # a longer field is a broken file, and takes a tokenizer minutes
# Invisible, but not whitespace for str.strip: zero-width space, joiners, word joiner, byte order mark.
_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"

# The columns that a row of each form must have. Optional ones: text_pair, question of a choice, id.
REQUIRED: Mapping[Form, tuple[str, ...]] = {
    "classify": ("text", "label"),
    "tag": ("words", "tags"),
    "span": ("context", "question", "answers"),
    "choice": ("choices", "label"),
    "retrieve": ("text", "english"),
    "mask": ("text",),
    "search": ("id", "text"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """Raw values of one row. `lines` gives the line of each word where a row takes several lines."""

    where: str
    id: str
    values: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    lines: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that the reader itself could not take apart."""

    where: str
    problem: str


class FieldError(Exception):
    """A field of a row that cannot be used. `index` is the word for fields that hold one value a word."""

    def __init__(self, role: str, problem: str, index: int | None = None) -> None:
        super().__init__(problem)
        self.role, self.problem, self.index = role, problem, index

    def at(self, row: Row) -> str:
        """Return the full message: place, field, problem."""
        name = row.names.get(self.role, self.role)
        if self.index is None:
            return f"{row.where}: {name}: {self.problem}"
        if row.lines:
            return f"{row.path}:{row.lines[self.index]}: {name}: {self.problem}"
        return f"{row.where}: {name}[{self.index}]: {self.problem}"


def value_at(record: Mapping[str, Any], column: str) -> Any:
    """Return a record's value by key, or by a path of keys ("choices.text"); a list gives the value of each entry.

    Raises:
        KeyError: With the key that is not there, and the keys that are (none where the value is no object).
    """
    if column in record:
        return record[column]
    key, dot, rest = column.partition(".")
    if not dot or key not in record:
        raise KeyError(key, tuple(record))
    inside = record[key]
    if isinstance(inside, list | tuple):
        return [_inside(each, rest) for each in inside]
    return _inside(inside, rest)


def _inside(value: Any, column: str) -> Any:
    if not isinstance(value, Mapping):
        raise KeyError(column, ())
    return value_at(value, column)


def shown(value: object) -> str:
    """Return a value for a message, cut to a length that fits one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_blank(text: str) -> bool:
    """Say whether a text has no visible character."""
    return not text.strip() or not text.strip(_INVISIBLE).strip()


def text_of(values: Mapping[str, Any], role: str, *, may_be_blank: bool = False) -> str:
    """Return a text field; raise FieldError if it is missing, no text, blank, too long or no Unicode."""
    return _checked_text(values.get(role), role, may_be_blank=may_be_blank)


def _checked_text(value: Any, role: str, *, may_be_blank: bool = False, index: int | None = None) -> str:
    if not isinstance(value, str):
        found = "nothing" if value is None else f"{type(value).__name__} {shown(value)}"
        raise FieldError(role, f"found {found}, expected text.", index)
    # WikiANN has single words that are a zero-width space; a whole text of such characters is a fault.
    if not may_be_blank and (is_blank(value) if index is None else not value.strip()):
        raise FieldError(role, f"found {shown(value)}, expected text that is not empty.", index)
    if len(value) > MAX_CHARS:
        raise FieldError(role, f"found {len(value):,} characters, expected at most {MAX_CHARS:,}; cut it.", index)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise FieldError(
                role, f"found half of a surrogate pair at character {error.start}, expected whole Unicode text.", index
            ) from error
    return value


class LabelMap:
    """Label names, other spellings and positions -> label id.

    Names and aliases come before positions: with the labels ("1", "0") the text "1" is the label "1", id 0.
    Positions (numbers, or digits as text) are taken for classify and choice only, as tag sets have no agreed
    order, and not where labels are digits themselves: with choices called 1 to 3 a 0 is a mistake.
    """

    def __init__(self, task: Task, *, by_name: bool = False) -> None:
        self.task = task
        self.counted = not (by_name or task.kind == "tag" or any(label.isdigit() for label in task.labels))
        self.ids = {label: position for position, label in enumerate(task.labels)}
        for alias, label in task.label_aliases.items():
            if label not in self.ids:
                raise DataError(
                    f"task '{task.name}': label_aliases.{alias}: found '{label}', expected one of the labels "
                    f"{', '.join(task.labels)}."
                )
            self.ids.setdefault(alias, self.ids[label])

    def id_of(self, value: Any, role: str, *, count: int | None = None, index: int | None = None) -> int:
        """Return the label id of a value; `count` bounds a position where labels have no names (choices)."""
        found = self.ids.get(value) if isinstance(value, str) else None
        if found is not None:
            return found
        size = len(self.task.labels) or (count or 0)
        if type(value) is int and str(value) in self.ids:
            return self.ids[str(value)]
        if self.counted:
            position = value if type(value) is int else _digits(value)
            if position is not None and 0 <= position < size:
                return position
        raise FieldError(role, self._problem(value, size, count), index)

    def _problem(self, value: Any, size: int, count: int | None) -> str:
        if value in (-1, "-1"):
            return "found -1, which marks a row without a label; expected a labelled split."
        if not self.task.labels:
            return f"found {shown(value)}, expected the number of a choice, 0 to {size - 1}."
        allowed = ", ".join(self.task.labels)
        positions = f" (or 0 to {size - 1})" if self.counted else ""
        hint = did_you_mean(value, self.ids) if isinstance(value, str) else ""
        return f"found {shown(value)}, expected one of: {allowed}{positions}.{hint}"


def _digits(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 4:
        return int(value)
    return None


class ExampleBuilder:
    """Builds typed examples of one task and language from rows; `training`: each must have something to learn."""

    def __init__(self, task: Task, language: str, *, training: bool = False, by_name: bool = False) -> None:
        self.task, self.language, self.training = task, language, training
        self.labels = LabelMap(task, by_name=by_name)
        self._build: Callable[[Row], Example] = getattr(self, f"_{task.form}")

    def __call__(self, row: Row) -> Example:
        """Return the example of a row; raise FieldError if a field cannot be used."""
        return self._build(row)

    def _classify(self, row: Row) -> ClassifyExample:
        values = row.values
        pair = text_of(values, "text_pair") if "text_pair" in values else None
        label = self.labels.id_of(values.get("label"), "label")
        return ClassifyExample(_id(row), self.language, text_of(values, "text"), pair, label)

    def _tag(self, row: Row) -> TagExample:
        words, tags = _list(row.values, "words"), _list(row.values, "tags")
        if len(words) != len(tags):
            raise FieldError("tags", f"found {len(tags)} tags for {len(words)} words, expected one a word.")
        if not words:
            raise FieldError("words", "found no word, expected at least one.")
        return TagExample(_id(row), self.language, _words(words), self._tag_ids(tags))

    def _tag_ids(self, tags: Sequence[Any]) -> tuple[int, ...]:
        known = self.labels.ids
        if all(isinstance(tag, str) and tag in known for tag in tags):
            return tuple([known[tag] for tag in tags])
        return tuple(self.labels.id_of(tag, "tags", index=n) for n, tag in enumerate(tags))

    def _span(self, row: Row) -> SpanExample:
        values = row.values
        context, question = text_of(values, "context"), text_of(values, self.task.question)
        find = _place if self.task.answers_as_text else _checked_place
        answers = tuple(
            (_checked_text(text, f"answers[{n}].text"), find(n, text, start, context))
            for n, (text, start) in enumerate(_answers(values))
        )
        if not answers and not (values.get("is_impossible") is True or self.task.no_answer):
            raise FieldError("answers", "found none, expected at least one (or is_impossible: true).")
        if self.training and any(start < 0 for _, start in answers):
            found = shown(next(text for text, start in answers if start < 0))
            raise FieldError("answers", f"found {found}, which does not stand in the context: nothing to learn from.")
        sentences: tuple[tuple[int, int], ...] = ()
        if self.task.candidates == "sentence" and values.get("sentence_breaks") is not None:
            sentences = _sentences(_list(values, "sentence_breaks"), len(context))
        return SpanExample(_id(row), self.language, context, question, answers, sentences)

    def _choice(self, row: Row) -> ChoiceExample:
        values = row.values
        context = text_of(values, "context") if "context" in values else ""
        question = text_of(values, "question") if "question" in values else ""
        raw = _list(values, "choices")
        expected = len(self.task.labels)
        if len(raw) < 2 or (expected and len(raw) != expected):
            raise FieldError("choices", f"found {len(raw)}, expected {expected or 'two or more'}.")
        choices = tuple(_checked_text(text, f"choices[{n}]") for n, text in enumerate(raw))
        label = self.labels.id_of(values.get("label"), "label", count=len(choices))
        return ChoiceExample(_id(row), self.language, context, question, choices, label)

    def _retrieve(self, row: Row) -> PairExample:
        values = row.values
        return PairExample(_id(row), self.language, text_of(values, "text"), text_of(values, "english"))

    def _search(self, row: Row) -> QueryExample | CandidateExample:
        values = row.values
        text = text_of(values, "text")
        if "right" in values:
            right = tuple(_checked_text(each, "right", index=n) for n, each in enumerate(_list(values, "right")))
            return QueryExample(_id(row), self.language, text, right)
        language = text_of(values, "language") if "language" in values else self.language
        return CandidateExample(_id(row), language, text)

    def _mask(self, row: Row) -> TextExample:
        return TextExample(_id(row), self.language, text_of(row.values, "text"))


def _words(words: Sequence[Any]) -> tuple[str, ...]:
    """Check the words of a sentence together, and one by one only if something is wrong: there are millions."""
    try:
        together = "".join(words)
        together.encode()
        if len(together) <= MAX_CHARS and all(map(str.strip, words)):
            return tuple(words)
    except (TypeError, UnicodeEncodeError):
        together = ""  # the loop below says which word
    return tuple(_checked_text(word, "words", index=n) for n, word in enumerate(words))


def _id(row: Row) -> str:
    if "id" not in row.values:
        return row.id
    value = row.values["id"]
    if type(value) is int:
        return str(value)
    return _checked_text(value, "id")


def _sentences(breaks: Sequence[Any], size: int) -> tuple[tuple[int, int], ...]:
    """Take [[start, end], ...] in order, none of them empty."""
    found: list[tuple[int, int]] = []
    for n, each in enumerate(breaks):
        after = found[-1][1] if found else 0
        numbers = isinstance(each, list | tuple) and len(each) == 2 and all(type(number) is int for number in each)
        if not numbers or not after <= each[0] < each[1] <= size:
            raise FieldError(
                f"sentence_breaks[{n}]",
                f"found {shown(each)}, expected [start, end] with {after} <= start < end <= {size}.",
            )
        found.append((each[0], each[1]))
    return tuple(found)


def _list(values: Mapping[str, Any], role: str) -> Sequence[Any]:
    value = values.get(role)
    if not isinstance(value, list | tuple):
        raise FieldError(role, f"found {shown(value)}, expected a list.")
    return value


def _answers(values: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Take [{text, answer_start}, ...] or {text: [...], answer_start: [...]}."""
    raw = values.get("answers")
    if isinstance(raw, Mapping):
        texts, starts = _list(raw, "text"), _list(raw, "answer_start")
        if len(texts) != len(starts):
            raise FieldError("answers", f"found {len(texts)} texts and {len(starts)} starts, expected as many.")
        return list(zip(texts, starts, strict=True))
    if not isinstance(raw, list | tuple):
        raise FieldError("answers", f"found {shown(raw)}, expected a list of text and answer_start.")
    for n, answer in enumerate(raw):
        if not isinstance(answer, Mapping) or not {"text", "answer_start"} <= set(answer):
            raise FieldError(f"answers[{n}]", f"found {shown(answer)}, expected text and answer_start.")
    return [(answer["text"], answer["answer_start"]) for answer in raw]


def _place(n: int, text: str, start: Any, context: str) -> int:
    """Return where an answer stands: as said, or else first; -1 where it is said, or found, to stand nowhere.

    What is said to stand nowhere is not looked for: "no" is found in "not".
    """
    if type(start) is int and (start < 0 or context.startswith(text, start)):
        return max(start, -1)
    return context.find(text)


def _checked_place(n: int, text: str, start: Any, context: str) -> int:
    name = f"answers[{n}].answer_start"
    if type(start) is not int:
        raise FieldError(name, f"found {shown(start)}, expected a whole number.")
    if start < 0 or context[start : start + len(text)] != text:
        there = shown(context[start : start + len(text)]) if 0 <= start < len(context) else "nothing"
        first = context.find(text)
        hint = f"it stands at {first}" if first >= 0 else "it does not stand in the context"
        raise FieldError(name, f"found {there} at character {start}, expected {shown(text)}; {hint}. Count characters.")
    return start


def build_all(rows: Iterable[Row | BadRow], builder: ExampleBuilder, on_bad_row: OnBadRow) -> Iterator[Example | str]:
    """Yield an example for each good row and, when dropping, a message for each bad one.

    Raises:
        DataError: On the first bad row with "stop", and on an id that a file gives twice.
        UsageError: If `on_bad_row` is neither "stop" nor "drop".
    """
    if on_bad_row not in get_args(OnBadRow):
        raise UsageError(f"on_bad_row: found {shown(on_bad_row)}, expected 'stop' or 'drop'.")
    seen: dict[tuple[type, str], str] = {}
    for row in rows:
        if isinstance(row, BadRow):
            message = f"{row.where}: {row.problem}"
        else:
            try:
                example = builder(row)
                key = type(example), example.id  # a query may be called as a candidate is
                if key in seen:
                    raise FieldError("id", f"found '{example.id}' again (first: {seen[key]}), expected once.")
                seen[key] = row.where
            except FieldError as error:
                message = error.at(row)
            else:
                yield example
                continue
        if on_bad_row == "stop":
            raise DataError(f"{message} Mend the row, or leave such rows out with --on-bad-row drop.")
        yield message
