"""From typed examples to token rows with targets: the same for training and evaluation, for all engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DataError, UsageError
from .examples import ChoiceExample, ClassifyExample, Example, SpanExample, TagExample, TextExample
from .items import Item
from .masking import Masking
from .row_cache import Made, RowCache, Rows, source_digest

MAX_QUESTION = 64  # tokens of a question, as BERT's run_squad (Devlin et al. 2019)
DOC_STRIDE = 128  # tokens that neighbouring windows of a context share, as BERT's run_squad
_CHUNK = 1000  # texts per tokenizer call: enough for its threads, little enough for a moving progress bar


@dataclass(frozen=True)
class Prepared:
    """Examples of one task with their items.

    Attributes:
        truncated: Examples that lost text because they are longer than max_length.
        unlabelled: tag: words without any sub-word; they can't be predicted and count as wrong.
    """

    kind: str
    examples: tuple[Example, ...]
    items: Sequence[Item]
    truncated: int = 0
    unlabelled: int = 0


def prepare(
    kind: str, examples: Sequence[Example], tokenizer: Any, max_length: int, *, progress: bool = False
) -> Prepared:
    """Tokenise examples of one kind, or read what was made of the same examples before; see `row_cache`.

    Args:
        tokenizer: A fast tokenizer of transformers.
        max_length: Tokens per row, special ones included. Words, contexts and plain text beyond it go into
            further windows; classify and choice are cut.

    Raises:
        DataError: If there are no examples.
        UsageError: If max_length leaves no room, or the cache's limit is not a number.
    """
    if not examples:
        raise DataError("There are no examples to prepare.")
    if max_length < 16:
        raise UsageError(f"max_length: found {max_length}, expected at least 16 tokens.")
    make = _MAKERS[kind]

    def chunks() -> Iterator[Made]:
        total = len(examples)
        with tqdm(total=total, desc="tokenising", unit="ex", disable=not progress, leave=False, delay=1) as bar:
            for start in range(0, total, _CHUNK):
                chunk = examples[start : start + _CHUNK]
                yield make(chunk, start, tokenizer, max_length)
                bar.update(len(chunk))

    code = _SOURCE if make.__module__ == __name__ else source_digest(make)
    cache = RowCache(aloud=progress)
    rows = cache.rows(kind, examples, tokenizer, chunks, code=code, max_length=max_length)
    if rows is None:
        made = list(chunks())
        items = tuple(item for each, _, _ in made for item in each)
        rows = Rows(items, sum(cut for _, cut, _ in made), sum(empty for _, _, empty in made))
    return Prepared(kind, tuple(examples), rows.items, rows.truncated, rows.unlabelled)


def text_rows(texts: Sequence[str], tokenizer: Any, max_length: int) -> list[list[int]]:
    """Token ids of single texts, cut at max_length: what retrieval encodes."""
    rows: list[list[int]] = []
    for start in range(0, len(texts), _CHUNK):
        encodings = _encode(tokenizer, texts[start : start + _CHUNK], max_length, offsets=False)
        rows += [encoding.ids for encoding in encodings]
    return rows


def _encode(
    tokenizer: Any,
    inputs: Sequence[Any],
    max_length: int | None,
    *,
    strategy: str = "longest_first",
    stride: int = 0,
    offsets: bool = True,
    **options: Any,
) -> list[Any]:
    """The Rust tokenizer's own encodings of texts or pairs, made on all cores.

    To call the tokenizer of transformers around it gives the same, but makes lists of everything in one thread.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    if max_length is None:
        backend.no_truncation()
    else:
        side = tokenizer.truncation_side
        backend.enable_truncation(max_length, stride=stride, strategy=strategy, direction=side)
    encode = backend.encode_batch if offsets else backend.encode_batch_fast
    encodings: list[Any] = encode(list(inputs), **options)
    return encodings


def _windows(encodings: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """All windows, each with the index of its text."""
    return ((i, window) for i, encoding in enumerate(encodings) for window in (encoding, *encoding.overflowing))


def _types(encoding: Any, tokenizer: Any) -> list[int]:
    """Segment ids; all zero for models without segments, whatever the tokenizer gives further windows."""
    segments = "token_type_ids" in tokenizer.model_input_names
    return encoding.type_ids if segments else [0] * len(encoding)


def _classify(chunk: Sequence[ClassifyExample], start: int, tokenizer: Any, max_length: int) -> Made:
    paired = any(example.text_pair is not None for example in chunk)
    texts = [(example.text, example.text_pair or "") if paired else example.text for example in chunk]
    encodings = _encode(tokenizer, texts, max_length, offsets=False)
    items = [
        Item(start + i, [encoding.ids], [_types(encoding, tokenizer)], chunk[i].label)
        for i, encoding in enumerate(encodings)
    ]
    return items, sum(bool(encoding.overflowing) for encoding in encodings), 0


def _choice(chunk: Sequence[ChoiceExample], start: int, tokenizer: Any, max_length: int) -> Made:
    pairs = [(f"{e.context} {e.question}".strip(), choice) for e in chunk for choice in e.choices]
    encodings = iter(_encode(tokenizer, pairs, max_length, offsets=False))
    items, cut = [], 0
    for i, example in enumerate(chunk):
        mine = [next(encodings) for _ in example.choices]
        cut += any(encoding.overflowing for encoding in mine)
        items.append(Item(start + i, [e.ids for e in mine], [_types(e, tokenizer) for e in mine], example.label))
    return items, cut, 0


def _tag(chunk: Sequence[TagExample], start: int, tokenizer: Any, max_length: int) -> Made:
    words_of = [example.words for example in chunk]
    encodings = _encode(tokenizer, words_of, max_length, stride=max_length // 4, is_pretokenized=True)
    items = []
    labelled: list[set[int]] = [set() for _ in chunk]
    for i, encoding in _windows(encodings):
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
        items.append(Item(start + i, [encoding.ids], [_types(encoding, tokenizer)], tags, positions, words))
    missing = sum(len(example.words) - len(found) for example, found in zip(chunk, labelled, strict=True))
    return items, 0, missing


def _span(chunk: Sequence[SpanExample], start: int, tokenizer: Any, max_length: int) -> Made:
    room = min(MAX_QUESTION, max_length // 2)  # the other half, less the special tokens, is context
    questions, cut = _short_questions([example.question for example in chunk], tokenizer, room)
    pairs = [(question, example.context) for question, example in zip(questions, chunk, strict=True)]
    stride = min(DOC_STRIDE, max_length // 6)
    items = []
    for i, encoding in _windows(_encode(tokenizer, pairs, max_length, strategy="only_second", stride=stride)):
        inside = np.array([owner == 1 for owner in encoding.sequence_ids])
        offsets = np.where(inside[:, None], np.array(encoding.offsets), -1)
        _skip_spaces(offsets, chunk[i].context)
        target = _answer_tokens(offsets, chunk[i].answers)
        items.append(Item(start + i, [encoding.ids], [_types(encoding, tokenizer)], target, offsets=offsets))
    return items, cut, 0


def _short_questions(questions: Sequence[str], tokenizer: Any, room: int) -> tuple[list[str], int]:
    short, cut = [], 0
    encodings = _encode(tokenizer, questions, None, add_special_tokens=False)
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


def _mask(chunk: Sequence[TextExample], start: int, tokenizer: Any, max_length: int) -> Made:
    """Masks that are always the same, for evaluation; training draws others for every batch."""
    masking, generator = Masking(tokenizer), np.random.default_rng(start)
    texts = [example.text for example in chunk]
    encodings = _encode(tokenizer, texts, max_length, offsets=False)
    items = [
        Item(start + i, [drawn[0]], [_types(encoding, tokenizer)], drawn[2], drawn[1])
        for i, encoding in _windows(encodings)
        if (drawn := masking.draw(encoding.ids, generator)) is not None
    ]
    return items, 0, 0


_MAKERS: dict[str, Callable[..., Made]] = {
    "classify": _classify, "tag": _tag, "span": _span, "choice": _choice, "mask": _mask,
}  # fmt: skip

# Of this file and of what it calls, as they were imported.
_SOURCE = source_digest(prepare, ClassifyExample, Item, Masking)
