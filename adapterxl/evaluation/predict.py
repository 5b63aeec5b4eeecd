"""Run an engine and a head over prepared examples: predictions and gold answers, example by example."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..backbone import Backbone
from ..data.collate import Batch, collate, cut_batches
from ..data.examples import ChoiceExample, ClassifyExample, Example, SpanExample, TagExample, TextExample
from ..data.prepare import Item, Prepared
from ..engines import Engine
from ..modules import Head
from ..modules.attention_record import AttentionRecord
from ..ragged import RaggedBatch, pack
from .metrics.base import Answer
from .spans import SpanWindow, decode_span

MAX_ANSWER = 30  # tokens of an answer, as BERT's run_squad


def head_scores(engine: Engine, head: Head, batch: Batch, *, training: bool = False) -> Tensor:
    """Scores of a batch, as `Head.forward` gives them."""
    head.train(training)
    return head(engine.hidden(batch.ragged, training=training), batch.ragged, batch.select)


@dataclass(eq=False)
class Reader:
    """How results are read out of hidden states. One pass of the encoder serves all readers of one engine and depth.

    Attributes:
        kind: Of the items: classify, tag, span, choice or retrieve.
        scores: Scores from the hidden states (tokens, hidden) of a batch, on its device.
        results: The scores as one result for each item of the batch.
        upto: Layers that run before; all by default.
    """

    kind: str
    engine: Engine
    scores: Callable[[Tensor, Batch], Tensor]
    results: Callable[[Tensor, Batch], list[Any]]
    upto: int | None = None


def head_reader(engine: Engine, head: Head) -> Reader:
    """Reads a head's scores, reduced to what is needed later."""
    kind = head.kind
    return Reader(
        kind,
        engine,
        lambda hidden, batch: head.eval()(hidden, batch.ragged, batch.select),
        lambda scores, batch: _split(kind, scores, batch),
    )


@dataclass(eq=False)
class Request:
    """Items that wait for a result each, such as those of one language.

    Attributes:
        owner: Whose tokens they are in the record of attention; None for nobody's.
        results: One for each item, after `answer`.
    """

    items: Sequence[Item]
    reader: Reader
    owner: int | None = 0
    results: list[Any] = field(default_factory=list)


Takers = list[tuple[Request, int]]
"""Who gets one result: requests, and the index of the item in each."""


@torch.no_grad()
def answer(
    requests: Sequence[Request],
    on: Backbone,
    *,
    tokens_per_batch: int,
    record: AttentionRecord | None = None,
    done: Callable[[int], object] = lambda count: None,
) -> None:
    """Run the items of all requests together, in order of length, so that batches are full of rows of one length.

    Items with the very same tokens run once, for all readers of one engine and depth. (A context that two questions
    share does run twice: every layer of these encoders lets it attend to its question, so that nothing but its
    embeddings is common to both.)

    Args:
        tokens_per_batch: Most tokens per forward.
        record: Where the attention of fusions goes, by the owners of the requests; then every item runs, and counts.
        done: Told how many items were answered.
    """
    units: dict[object, dict[object, tuple[Reader, Takers]]] = {}  # rows -> what is read out of them
    for request in requests:
        request.results = [None] * len(request.items)
        reader = request.reader
        for index, item in enumerate(request.items):
            rows = (request, index) if record is not None else (reader.engine, reader.upto, _content(item))
            what = (reader, tuple(item.positions or ()))
            units.setdefault(rows, {}).setdefault(what, (reader, []))[1].append((request, index))
    groups: dict[object, list[_Unit]] = {}
    for readings in units.values():
        unit = _Unit([*readings.values()])
        # A batch has one number of choices; and the last layer is cheap where only the first tokens are looked at.
        alike = (unit.reader.engine, unit.reader.upto, len(unit.item.rows), unit.first_only)
        groups.setdefault(alike, []).append(unit)
    for group in groups.values():
        _answer_alike(group, on, tokens_per_batch, record, done)


class _Unit:
    """Rows that run once, and all that is read out of them."""

    def __init__(self, readings: Sequence[tuple[Reader, Takers]]) -> None:
        self.readings = readings
        self.reader, ((request, index), *_) = readings[0]
        self.item, self.owner = request.items[index], request.owner
        self.first_only = all(reader.kind in ("classify", "choice") for reader, _ in readings)


def _answer_alike(
    group: Sequence[_Unit],
    on: Backbone,
    tokens_per_batch: int,
    record: AttentionRecord | None,
    done: Callable[[int], object],
) -> None:
    """Run units of one engine, depth and number of rows."""
    lengths = [unit.item.tokens for unit in group]
    previous: list[tuple[Reader, list[Takers], Tensor, Batch]] = []

    def take() -> None:
        for reader, takers, scores, batch in previous:
            for each, result in zip(takers, reader.results(scores, batch), strict=True):
                for request, index in each:
                    request.results[index] = result
            done(sum(map(len, takers)))

    for indices in cut_batches(np.argsort(lengths, kind="stable").tolist(), lengths, None, tokens_per_batch):
        units = [group[i] for i in indices]
        readings: dict[Reader, list[tuple[int, Takers]]] = {}
        for place, unit in enumerate(units):
            for reader, takers in unit.readings:
                readings.setdefault(reader, []).append((place, takers))
        batches = {
            reader: collate(reader.kind, [request.items[i] for _, ((request, i), *_) in found], on.device)
            for reader, found in readings.items()
        }
        first, same = units[0].reader, len(readings) == 1 and len(readings[units[0].reader]) == len(units)
        ragged = batches[first].ragged if same else _packed(units, on)
        if record is not None:
            record.owners = _owners(ragged, units, record.count)
        with on.autocast():
            hidden = first.engine.hidden(ragged, upto=first.upto)
            now = []
            for reader, found in readings.items():
                batch = batches[reader]
                if same:
                    own = hidden
                else:
                    many = len(units[0].item.rows)
                    rows = [place * many + row for place, _ in found for row in range(many)]
                    own = hidden.index_select(0, ragged.places(rows, batch.ragged))
                now.append((reader, [takers for _, takers in found], reader.scores(own, batch), batch))
        take()  # one behind: to read a result is to wait for the device, which has its next work by now
        previous = now
    take()


def _packed(units: Sequence[_Unit], on: Backbone) -> RaggedBatch:
    rows = [row for unit in units for row in unit.item.rows]
    types = [row for unit in units for row in unit.item.types]
    return pack(rows, types, first_only=units[0].first_only).to(on.device)


def _content(item: Item) -> bytes:
    """What decides the hidden states of an item."""
    parts = [[len(row) for row in item.rows], *item.rows, *item.types]
    return hashlib.blake2b(np.array([n for part in parts for n in part], np.int64).tobytes(), digest_size=16).digest()


def _owners(ragged: RaggedBatch, units: Sequence[_Unit], nobody: int) -> Tensor:
    """The owner of each token of a batch, from the owner of each unit."""
    of_rows = [nobody if unit.owner is None else unit.owner for unit in units for _ in unit.item.rows]
    packed = torch.tensor([of_rows[row] for row in ragged.order])
    return packed.repeat_interleave(torch.tensor(ragged.lengths)).to(ragged.device)


def predict(
    engine: Engine,
    head: Head,
    prepared: Prepared,
    labels: Sequence[str],
    *,
    on: Backbone,
    tokens_per_batch: int = 8192,
    no_answer: bool = False,
) -> list[Any]:
    """One prediction per example: a label, a list of tags (None where a word has no sub-word), an answer text,
    the index of a choice as text, or the ids of masked tokens.

    Args:
        tokens_per_batch: Most tokens per forward; rows are taken in order of length.
        no_answer: span: give an `Answer`, the text with the first token's score minus its own; metrics withhold it
            above 0, or above the threshold that serves them best.
    """
    request = Request(prepared.items, head_reader(engine, head))
    answer([request], on, tokens_per_batch=tokens_per_batch)
    return join(prepared, request.results, labels, no_answer)


def gold_answers(examples: Sequence[Example], labels: Sequence[str]) -> list[Any]:
    """Gold answers in the form of `predict`; for spans a tuple of all accepted texts."""
    golds: list[Any] = []
    for example in examples:
        if isinstance(example, ClassifyExample):
            golds.append(labels[example.label])
        elif isinstance(example, TagExample):
            golds.append([labels[tag] for tag in example.tags])
        elif isinstance(example, SpanExample):
            golds.append(tuple(text for text, _ in example.answers))
        elif isinstance(example, ChoiceExample):
            golds.append(str(example.label))
        else:
            golds.append(example.id)
    return golds


def _split(kind: str, scores: Tensor, batch: Batch) -> list[Any]:
    """The scores of a batch, item by item, reduced to what is needed later."""
    if kind == "classify":
        return scores.argmax(dim=1).tolist()
    if kind == "choice":
        return scores.view(len(batch.items), -1).argmax(dim=1).tolist()
    if kind in ("tag", "mask"):
        best = scores.argmax(dim=1).tolist()
        ends = np.cumsum([len(item.positions or ()) for item in batch.items]).tolist()
        return [best[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    values = scores.float().cpu().numpy()
    starts = batch.ragged.starts
    return [values[start : start + item.tokens] for start, item in zip(starts, batch.items, strict=True)]


def join(prepared: Prepared, found: Sequence[Any], labels: Sequence[str], no_answer: bool) -> list[Any]:
    """Predictions from the results of all items: the windows of each example are put together."""
    by_example: list[list[tuple[Item, Any]]] = [[] for _ in prepared.examples]
    for item, result in zip(prepared.items, found, strict=True):
        by_example[item.example].append((item, result))
    predictions: list[Any] = []
    for example, windows in zip(prepared.examples, by_example, strict=True):
        if isinstance(example, TagExample):
            tags: list[str | None] = [None] * len(example.words)
            for item, result in windows:
                for word, tag in zip(item.words or (), result, strict=True):
                    tags[word] = labels[tag]
            predictions.append(tags)
        elif isinstance(example, SpanExample):
            spans = [
                SpanWindow(scores[:, 0], scores[:, 1], item.offsets)
                for item, scores in windows
                if item.offsets is not None
            ]
            answer = decode_span(example.context, spans, max_answer_length=MAX_ANSWER)
            belief = answer.no_answer_score - answer.score
            predictions.append(Answer(answer.text, belief) if no_answer else answer.text)
        elif isinstance(example, TextExample):
            predictions.append([token for _, result in windows for token in result])
        elif isinstance(example, ClassifyExample):
            predictions.append(labels[windows[0][1]])
        else:
            predictions.append(str(windows[0][1]))
    return predictions
