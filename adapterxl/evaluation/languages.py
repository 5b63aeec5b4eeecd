"""What a language of a task asks of an engine, and how the results become records and predictions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from ..backbone import Backbone
from ..data.collate import Batch
from ..data.prepare import Item, Prepared, prepare, text_rows
from ..engines import Engine
from ..modules.attention_record import AttentionRecord
from ..tasks.base import Task
from .metrics import get_metric
from .predict import Reader, Request, answer, gold_answers, join
from .retrieval import first_tokens, mean_pool, nearest
from .scores import Record

Pooling = Literal["mean", "cls"]

POOL = 1_000_000  # tokens: some 100 MB of rows in Python, and a hundred batches

Found = tuple[list[Record], list[dict[str, Any]]]
"""Records, and a line for each prediction."""


class LanguageSet(Protocol):
    """The examples of one language."""

    @property
    def requests(self) -> Sequence[Request]:
        """What is asked of the engine before."""
        ...

    def score(self) -> Found:
        """What came out, after all requests are answered."""
        ...


class HeadSet:
    """Examples that a head answers, whether or not they are prepared already."""

    def __init__(
        self,
        task: Task,
        examples: Sequence[Any] | Prepared,
        split: str,
        language: str,
        on: Backbone,
        reader: Reader,
        owner: int,
    ) -> None:
        if not isinstance(examples, Prepared):
            examples = prepare(task.kind, examples, on.tokenizer, min(task.max_length, on.max_length))
        self.task, self.prepared, self.examples, self.split = task, examples, examples.examples, split
        self.language, self.context = task.spoken(language)
        self.requests = [Request(self.prepared.items, reader, owner)]
        self._tokens = on.tokenizer.convert_ids_to_tokens

    def score(self) -> Found:
        task, examples = self.task, self.examples
        predictions = join(self.prepared, self.requests[0].results, task.labels, task.no_answer)
        if task.kind == "mask":  # what is asked for is known of the items alone
            hidden = join(self.prepared, [item.target for item in self.prepared.items], (), False)
            predictions, golds = ([self._tokens(ids) for ids in side] for side in (predictions, hidden))
        else:
            golds = gold_answers(examples, task.labels)
        records = [
            Record(
                language=self.language,
                context_language=self.context,
                split=self.split,
                metric=name,
                value=get_metric(name).compute(predictions, golds, self.context or self.language),
                n=len(examples),
                primary=position == 0,
            )
            for position, name in enumerate(task.metrics)
        ]
        spoken = {"language": self.language} | ({"context_language": self.context} if self.context else {})
        rows = [
            {**spoken, "id": example.id, "prediction": prediction, "gold": gold}
            for example, prediction, gold in zip(examples, predictions, golds, strict=True)
        ]
        return records, rows


class RetrievalSet:
    """Sentences and their translations, found by their vectors. Only the language's own texts count in a record."""

    def __init__(
        self,
        task: Task,
        examples: Sequence[Any],
        split: str,
        language: str,
        on: Backbone,
        reader: Reader,
        owner: int,
        center: bool,
    ) -> None:
        self.task, self.examples, self.split, self.language, self.center = task, examples, split, language, center
        sides = (([e.text for e in examples], owner), ([e.english for e in examples], None))
        self.requests = [Request(text_items(texts, on, task.max_length), reader, whose) for texts, whose in sides]

    def score(self) -> Found:
        sides = {
            name: torch.stack(request.results)
            for name, request in zip((self.language, "en"), self.requests, strict=True)
        }
        ids = [example.id for example in self.examples]
        records, rows = [], []
        for query, index in ((self.language, "en"), ("en", self.language)):
            direction = f"{query}->{index}"
            predictions = [ids[i] for i in nearest(sides[query], sides[index], center=self.center).tolist()]
            value = get_metric(self.task.metrics[0]).compute(predictions, ids)
            records.append(
                Record(language=self.language, direction=direction, split=self.split, metric=self.task.metrics[0],
                       value=value, n=len(ids), primary=True)
            )  # fmt: skip
            rows += [
                {"language": self.language, "direction": direction, "id": gold, "prediction": prediction, "gold": gold}
                for prediction, gold in zip(predictions, ids, strict=True)
            ]
        return records, rows


def vector_reader(engine: Engine, layer: int, pooling: Pooling = "mean") -> Reader:
    """Reads pooled hidden states after `layer` layers, float32; they stay on the device."""
    pool = mean_pool if pooling == "mean" else first_tokens

    def results(pooled: Tensor, batch: Batch) -> list[Any]:
        found: list[Any] = [None] * len(pooled)
        for row, vector in zip(batch.ragged.order, pooled, strict=True):
            found[row] = vector
        return found

    return Reader("retrieve", engine, lambda hidden, batch: pool(hidden, batch.ragged.lengths), results, layer)


def text_items(texts: Sequence[str], on: Backbone, width: int) -> list[Item]:
    """Single texts as items, cut at `width` tokens."""
    rows = text_rows(texts, on.tokenizer, min(width, on.max_length))
    return [Item(index, [row], [[0] * len(row)], 0) for index, row in enumerate(rows)]


def embed(
    reader: Reader,
    on: Backbone,
    texts: Sequence[str],
    tokens_per_batch: int,
    width: int,
    *,
    progress: str | None = None,
    chunk: int = 1 << 15,
) -> Tensor:
    """Pooled hidden states of texts, shape (texts, hidden), float32, in the order given.

    Token rows of `chunk` texts are held at a time.
    """
    found = []
    with tqdm(desc=progress, unit="row", disable=progress is None, leave=False, total=len(texts)) as bar:
        for start in range(0, len(texts), chunk):
            request = Request(text_items(texts[start : start + chunk], on, width), reader)
            answer([request], on, tokens_per_batch=tokens_per_batch, done=bar.update)
            found.append(torch.stack(request.results))
    return torch.cat(found)


def score_all(
    sets: Iterable[LanguageSet],
    on: Backbone,
    tokens_per_batch: int,
    *,
    record: AttentionRecord | None = None,
    expected: int = 0,
    progress: str | None = None,
) -> Iterator[tuple[Found, float]]:
    """Answer sets together, several languages to a pool, and give what came out of each, in their order.

    A pool is made of whole sets, of at least `POOL` tokens but for the last: as many as fill batches with rows of one
    length, however many languages and tasks there are in all. Only its rows are held.

    Args:
        expected: How many sets there are, for the progress bar.
        progress: Text of the bar; none when absent.

    Yields:
        Records and predictions of a set; and its seconds: the share by tokens of those that its pool took, and those
        of its metrics.
    """
    waiting: list[tuple[LanguageSet, int]] = []
    began = time.monotonic()
    with tqdm(desc=progress, unit="row", disable=progress is None, leave=False, total=0) as bar:

        def answered() -> Iterator[tuple[Found, float]]:
            nonlocal began
            requests = [request for each, _ in waiting for request in each.requests]
            answer(requests, on, tokens_per_batch=tokens_per_batch, record=record, done=bar.update)
            second = (time.monotonic() - began) / max(sum(tokens for _, tokens in waiting), 1)
            for each, tokens in waiting:
                began = time.monotonic()
                found = each.score()
                yield found, second * tokens + time.monotonic() - began
            waiting.clear()
            began = time.monotonic()

        for number, each in enumerate(sets, 1):
            waiting.append((each, sum(item.tokens for request in each.requests for item in request.items)))
            bar.total = (bar.total or 0) + sum(len(request.items) for request in each.requests)
            bar.set_postfix_str(f"{number}/{expected} languages read")
            if sum(tokens for _, tokens in waiting) >= POOL:
                yield from answered()
        yield from answered()
