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
from .metrics.base import Answer
from .spans import SpanWindow, decode_span

MAX_ANSWER = 30  # tokens of an answer, as BERT's run_squad


def head_scores(engine: Engine, head: Head, batch: Batch, *, training: bool = False) -> Tensor:
    """Scores of a batch, as `Head.forward` gives them."""
    head.train(training)
    return head(engine.hidden(batch.ragged, training=training), batch.ragged, batch.select)


@dataclass(eq=False)
class Reader:
    """How results are read out of batches. Items of one reader share batches, whichever request they are of.

    Attributes:
        forward: Scores of a batch on its device.
        results: The scores as one result for each item of the batch.
    """

    kind: str
    forward: Callable[[Batch], Tensor]
    results: Callable[[Tensor, Batch], list[Any]]


def head_reader(engine: Engine, head: Head) -> Reader:
    """Reads a head's scores, reduced to what is needed later."""
    kind = head.kind
    return Reader(
        kind,
        lambda batch: head_scores(engine, head, batch),
        lambda scores, batch: _split(kind, scores.float().cpu(), batch),
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

    Items with the very same tokens run once. (A context that two questions share does run twice: every layer of these
    encoders lets it attend to its question, so that nothing but its embeddings is common to both.)

    Args:
        tokens_per_batch: Most tokens per forward.
        record: Where the attention of fusions goes, by the owners of the requests; then every item runs, and counts.
        done: Told how many items were answered.
    """
    for request in requests:
        request.results = [None] * len(request.items)
    groups: dict[tuple[Reader, int], dict[object, list[tuple[Request, int]]]] = {}
    for request in requests:
        for index, item in enumerate(request.items):
            key = (request, index) if record is not None else _content(item)
            group = groups.setdefault((request.reader, len(item.rows)), {})  # a batch has one number of choices
            group.setdefault(key, []).append((request, index))
    for (reader, _), waiting in groups.items():
        _answer_alike(reader, list(waiting.values()), on, tokens_per_batch, record, done)


def _answer_alike(
    reader: Reader,
    alike: Sequence[Sequence[tuple[Request, int]]],
    on: Backbone,
    tokens_per_batch: int,
    record: AttentionRecord | None,
    done: Callable[[int], object],
) -> None:
    """Run one item of each group of equal ones; all of the group get its result."""
    items = [request.items[index] for (request, index), *_ in alike]
    lengths = [item.tokens for item in items]
    previous: tuple[list[int], Tensor, Batch] | None = None

    def take(indices: list[int], scores: Tensor, batch: Batch) -> None:
        for position, result in zip(indices, reader.results(scores, batch), strict=True):
            for request, index in alike[position]:
                request.results[index] = result
        done(sum(len(alike[position]) for position in indices))

    for indices in cut_batches(np.argsort(lengths, kind="stable").tolist(), lengths, None, tokens_per_batch):
        batch = collate(reader.kind, [items[i] for i in indices], on.device)
        if record is not None:
            record.owners = _owners(batch, [alike[i][0][0].owner for i in indices], record.count)
        with on.autocast():
            scores = reader.forward(batch)
        if previous is not None:
            take(*previous)  # one behind: to read a result is to wait for the device, which has its next work by now
        previous = indices, scores, batch
    if previous is not None:
        take(*previous)


def _content(item: Item) -> bytes:
    """What decides an item's result."""
    parts = [[len(row) for row in item.rows], *item.rows, *item.types, item.positions or []]
    return hashlib.blake2b(np.array([n for part in parts for n in part], np.int64).tobytes(), digest_size=16).digest()


def _owners(batch: Batch, owners: Sequence[int | None], nobody: int) -> Tensor:
    """The owner of each token of a batch, from the owner of each item."""
    of_rows = [owner for owner, item in zip(owners, batch.items, strict=True) for _ in item.rows]
    packed = torch.tensor([nobody if (owner := of_rows[row]) is None else owner for row in batch.ragged.order])
    return packed.repeat_interleave(torch.tensor(batch.ragged.lengths)).to(batch.ragged.device)


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
    values = scores.numpy()
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
