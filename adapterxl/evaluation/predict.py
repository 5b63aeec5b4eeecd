"""Run an engine and a head over prepared examples: predictions and gold answers, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.collate import Batch, collate, cut_batches
from ..data.examples import ChoiceExample, ClassifyExample, Example, SpanExample, TagExample
from ..data.prepare import Item, Prepared
from ..engines import Engine
from ..modules import Head
from .spans import SpanWindow, decode_span

MAX_ANSWER = 30  # tokens of an answer, as BERT's run_squad


def head_scores(engine: Engine, head: Head, batch: Batch, *, training: bool = False) -> Tensor:
    """Scores of a batch, as `Head.forward` gives them."""
    head.train(training)
    return head(engine.hidden(batch.ragged, training=training), batch.ragged, batch.select)


@torch.no_grad()
def predict(
    engine: Engine,
    head: Head,
    prepared: Prepared,
    labels: Sequence[str],
    *,
    device: torch.device,
    tokens_per_batch: int = 8192,
    no_answer_threshold: float | None = None,
    progress: str | None = None,
) -> list[Any]:
    """One prediction per example: a label, a list of tags (None where a word has no sub-word), an answer text,
    or the index of a choice as text.

    Args:
        tokens_per_batch: Most tokens per forward; rows are taken in order of length.
        no_answer_threshold: span: answer "" when the first token's score is above the best span's by more than
            this; None: always answer.
        progress: Text of the progress bar; none when absent.
    """
    items = prepared.items
    lengths = [item.tokens for item in items]
    order = np.argsort(lengths, kind="stable").tolist()
    found: list[Any] = [None] * len(items)
    with tqdm(total=len(items), desc=progress, unit="row", disable=progress is None, leave=False) as bar:
        for indices in cut_batches(order, lengths, None, tokens_per_batch):
            batch = collate(prepared.kind, [items[i] for i in indices], device)
            scores = head_scores(engine, head, batch).float().cpu()
            for index, result in zip(indices, _split(prepared.kind, scores, batch), strict=True):
                found[index] = result
            bar.update(len(indices))
    return _join(prepared, found, labels, no_answer_threshold)


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
    if kind == "tag":
        best = scores.argmax(dim=1).tolist()
        ends = np.cumsum([len(item.words or ()) for item in batch.items]).tolist()
        return [best[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    values = scores.numpy()
    starts = batch.ragged.starts
    return [values[start : start + item.tokens] for start, item in zip(starts, batch.items, strict=True)]


def _join(
    prepared: Prepared, found: Sequence[Any], labels: Sequence[str], no_answer_threshold: float | None
) -> list[Any]:
    """Put the windows of each example together."""
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
            answer = decode_span(
                example.context, spans, max_answer_length=MAX_ANSWER, no_answer_threshold=no_answer_threshold
            )
            predictions.append(answer.text)
        elif isinstance(example, ClassifyExample):
            predictions.append(labels[windows[0][1]])
        else:
            predictions.append(str(windows[0][1]))
    return predictions
