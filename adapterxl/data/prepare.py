"""From typed examples to token rows with targets: the same for training and evaluation, for all engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DataError, UsageError
from .examples import ChoiceExample, ClassifyExample, Example, SpanExample, TagExample, TextExample
from .masking import Masking

MAX_QUESTION = 64  # tokens of a question, as BERT's run_squad (Devlin et al. 2019)
DOC_STRIDE = 128  # tokens that neighbouring windows of a context share, as BERT's run_squad
_CHUNK = 1000  # texts per tokenizer call: enough for its threads, little enough for a moving progress bar


@dataclass(slots=True)
class Item:
    """What is drawn into a batch as one: a row of tokens, or one row per choice.

    Attributes:
        example: Index of its example; long examples have several items (windows).
        rows: Token ids.
        types: Segment ids, shaped as `rows`.
        target: classify, choice: label id. span: (start, end) token positions; (0, 0) where the window does not
            hold the answer. tag: tag ids of `positions`. mask: the tokens that were there.
        positions: tag: token position of each labelled word's first sub-word. mask: the masked places.
        words: tag: index of each labelled word in its example.
        offsets: span: (tokens, 2) character offsets into the context, (-1, -1) outside of it.
    """

    example: int
    rows: list[list[int]]
    types: list[list[int]]
    target: Any
    positions: list[int] | None = None
    words: list[int] | None = None
    offsets: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        return sum(len(row) for row in self.rows)


@dataclass(frozen=True)
class Prepared:
    """Examples of one task with their items.

    Attributes:
        truncated: Examples that lost text because they are longer than max_length.
        unlabelled: tag: words without any sub-word; they can't be predicted and count as wrong.
    """

    kind: str
    examples: tuple[Example, ...]
    items: tuple[Item, ...]
    truncated: int = 0
    unlabelled: int = 0


def prepare(
    kind: str, examples: Sequence[Example], tokenizer: Any, max_length: int, *, progress: bool = False
) -> Prepared:
    """Tokenise examples of one kind.

    Args:
        tokenizer: A fast tokenizer of transformers.
        max_length: Tokens per row, special ones included. Words, contexts and plain text beyond it go into
            further windows; classify and choice are cut.

    Raises:
        DataError: If there are no examples.
        UsageError: If max_length leaves no room.
    """
    if not examples:
        raise DataError("There are no examples to prepare.")
    if max_length < 16:
        raise UsageError(f"max_length: found {max_length}, expected at least 16 tokens.")
    make = _MAKERS[kind]
    items: list[Item] = []
    truncated = unlabelled = 0
    with tqdm(total=len(examples), desc="tokenising", unit="ex", disable=not progress, leave=False) as bar:
        for start in range(0, len(examples), _CHUNK):
            chunk = examples[start : start + _CHUNK]
            made, cut, empty = make(chunk, start, tokenizer, max_length)
            items += made
            truncated, unlabelled = truncated + cut, unlabelled + empty
            bar.update(len(chunk))
    return Prepared(kind, tuple(examples), tuple(items), truncated, unlabelled)


def text_rows(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[list[int]]:
    """Token ids of single texts, cut at max_length: what retrieval encodes."""
    rows: list[list[int]] = []
    for start in range(0, len(texts), _CHUNK):
        rows += tokenizer(list(texts[start : start + _CHUNK]), truncation=True, max_length=max_length)["input_ids"]
    return rows


_Made = tuple[list[Item], int, int]


def _types(encoding: Any, tokenizer: Any) -> list[int]:
    """Segment ids; all zero for models without segments, whatever the tokenizer gives further windows."""
    segments = "token_type_ids" in tokenizer.model_input_names
    return list(encoding.type_ids) if segments else [0] * len(encoding.ids)


def _classify(chunk: Sequence[ClassifyExample], start: int, tokenizer: Any, max_length: int) -> _Made:
    texts = [example.text for example in chunk]
    pairs = [example.text_pair or "" for example in chunk]
    paired = any(example.text_pair is not None for example in chunk)
    encoded = tokenizer(texts, pairs if paired else None, truncation="longest_first", max_length=max_length)
    items = [
        Item(start + i, [encoding.ids], [_types(encoding, tokenizer)], chunk[i].label)
        for i, encoding in enumerate(encoded.encodings)
    ]
    return items, sum(bool(encoding.overflowing) for encoding in encoded.encodings), 0


def _choice(chunk: Sequence[ChoiceExample], start: int, tokenizer: Any, max_length: int) -> _Made:
    first = [f"{e.context} {e.question}".strip() for e in chunk for _ in e.choices]
    second = [choice for e in chunk for choice in e.choices]
    encodings = iter(tokenizer(first, second, truncation="longest_first", max_length=max_length).encodings)
    items, cut = [], 0
    for i, example in enumerate(chunk):
        mine = [next(encodings) for _ in example.choices]
        cut += any(encoding.overflowing for encoding in mine)
        items.append(Item(start + i, [list(e.ids) for e in mine], [_types(e, tokenizer) for e in mine], example.label))
    return items, cut, 0


def _tag(chunk: Sequence[TagExample], start: int, tokenizer: Any, max_length: int) -> _Made:
    encoded = tokenizer(
        [list(example.words) for example in chunk],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        stride=max_length // 4,
        return_overflowing_tokens=True,
    )
    items = []
    labelled: list[set[int]] = [set() for _ in chunk]
    for encoding, i in zip(encoded.encodings, encoded["overflow_to_sample_mapping"], strict=True):
        positions, words = [], []
        for position, word in enumerate(encoding.word_ids):
            # Only the first sub-word speaks for a word, and only in the first window that holds it.
            if word is not None and word not in labelled[i]:
                labelled[i].add(word)
                positions.append(position)
                words.append(word)
        if not words:  # nothing to learn from or to predict
            continue
        tags = [chunk[i].tags[word] for word in words]
        items.append(Item(start + i, [list(encoding.ids)], [_types(encoding, tokenizer)], tags, positions, words))
    missing = sum(len(example.words) - len(found) for example, found in zip(chunk, labelled, strict=True))
    return items, 0, missing


def _span(chunk: Sequence[SpanExample], start: int, tokenizer: Any, max_length: int) -> _Made:
    room = min(MAX_QUESTION, max_length // 2)  # the other half, less the special tokens, is context
    questions, cut = _short_questions([example.question for example in chunk], tokenizer, room)
    encoded = tokenizer(
        questions,
        [example.context for example in chunk],
        truncation="only_second",
        max_length=max_length,
        stride=min(DOC_STRIDE, max_length // 6),
        return_overflowing_tokens=True,
    )
    items = []
    for encoding, i in zip(encoded.encodings, encoded["overflow_to_sample_mapping"], strict=True):
        inside = np.array([owner == 1 for owner in encoding.sequence_ids])
        offsets = np.where(inside[:, None], np.array(encoding.offsets), -1)
        _skip_spaces(offsets, chunk[i].context)
        target = _answer_tokens(offsets, chunk[i].answers)
        items.append(Item(start + i, [list(encoding.ids)], [_types(encoding, tokenizer)], target, offsets=offsets))
    return items, cut, 0


def _short_questions(questions: Sequence[str], tokenizer: Any, room: int) -> tuple[list[str], int]:
    short, cut = [], 0
    encodings = tokenizer(list(questions), add_special_tokens=False).encodings
    for question, encoding in zip(questions, encodings, strict=True):
        if len(encoding.ids) > room:
            question, cut = question[: encoding.offsets[room - 1][1]], cut + 1
        short.append(question)
    return short, cut


def _skip_spaces(offsets: np.ndarray, context: str) -> None:
    """Move the start of tokens past spaces: XLM-R's pieces own the space before them, which no answer begins with."""
    for token, (begin, end) in enumerate(offsets.tolist()):
        while 0 <= begin < end and context[begin].isspace():
            begin += 1
        offsets[token, 0] = begin


def _answer_tokens(offsets: np.ndarray, answers: Iterable[tuple[str, int]]) -> tuple[int, int]:
    """First and last token of the first answer, or (0, 0), the first token, when it is not in this window."""
    inside = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    for text, begin in answers:
        end = begin + len(text)
        if not len(inside) or begin < offsets[inside[0], 0] or end > offsets[inside[-1], 1]:
            return 0, 0
        first = inside[np.searchsorted(offsets[inside, 1], begin, side="right")]
        last = inside[np.searchsorted(offsets[inside, 0], end, side="left") - 1]
        return (int(first), int(last)) if last >= first else (0, 0)
    return 0, 0


def _mask(chunk: Sequence[TextExample], start: int, tokenizer: Any, max_length: int) -> _Made:
    """Masks that are always the same, for evaluation; training draws others for every batch."""
    masking, generator = Masking(tokenizer), np.random.default_rng(start)
    texts = [example.text for example in chunk]
    encoded = tokenizer(texts, truncation=True, max_length=max_length, return_overflowing_tokens=True)
    items = [
        Item(start + i, [drawn[0]], [_types(encoding, tokenizer)], drawn[2], drawn[1])
        for encoding, i in zip(encoded.encodings, encoded["overflow_to_sample_mapping"], strict=True)
        if (drawn := masking.draw(encoding.ids, generator)) is not None
    ]
    return items, 0, 0


_MAKERS: dict[str, Callable[..., _Made]] = {
    "classify": _classify, "tag": _tag, "span": _span, "choice": _choice, "mask": _mask,
}  # fmt: skip
