"""Predictions: one for each example, whatever the batches and the order of rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import make_module, make_part, write_data

from adapterxl.backbone import Backbone
from adapterxl.data import open_data
from adapterxl.data.examples import SpanExample, TagExample
from adapterxl.data.prepare import prepare
from adapterxl.engines import get_engine
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.base import Answer
from adapterxl.evaluation.predict import gold_answers, predict
from adapterxl.modules import LoRA
from adapterxl.tasks import get_task

CPU = torch.device("cpu")
KINDS = {"tag": ("udpos", "test", "en"), "classify": ("xnli", "test", "fr"), "span": ("xquad", "test", "en"),
         "choice": ("copa", "dev", "en")}  # fmt: skip


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def answers(
    on: Backbone, kind: str, examples: Any, labels: Any, budget: int = 8192, length: int = 64, **options: Any
) -> Any:
    module = make_module(on, "m", [make_part(LoRA(), "m", on, 1)], kind, labels=labels)
    assert module.head is not None
    engine, prepared = get_engine("packed")(on, module.parts, None), prepare(kind, examples, on.tokenizer, length)
    return predict(engine, module.head.build(on), prepared, labels, on=on, tokens_per_batch=budget, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_do_not_depend_on_batches_or_order(kind: str, on: Backbone, data: Path) -> None:
    name, split, language = KINDS[kind]
    task = get_task(name)
    examples = list(open_data(data).load(task, split, language).examples)
    whole = answers(on, kind, examples, task.labels)
    assert len(whole) == len(examples) == len(gold_answers(examples, task.labels))
    assert answers(on, kind, examples, task.labels, budget=1) == whole  # each row alone
    assert answers(on, kind, examples, task.labels, budget=100) == whole
    order = random.Random(1).sample(range(len(examples)), len(examples))
    assert answers(on, kind, [examples[i] for i in order], task.labels) == [whole[i] for i in order]


def test_every_word_has_one_prediction_beyond_512_tokens_too(on: Backbone) -> None:
    words = ("Boxkämpfer", "fox", "книгу") * 400
    examples = [TagExample("1", "en", ("fox", "\u200b"), (0, 0)), TagExample("2", "en", words, (1,) * 1200)]
    labels = tuple("abcdefgh")
    short, long = answers(on, "tag", examples, labels, length=512)
    assert len(long) == 1200 and None not in long and len(set(long)) > 1
    spoken = {word for word in on.tokenizer(["fox", "\u200b"], is_split_into_words=True).word_ids() if word is not None}
    assert [tag is not None for tag in short] == [word in spoken for word in (0, 1)]
    assert answers(on, "tag", examples[1:], labels, length=512) == [long]


def test_answers_are_texts_of_the_context_without_spaces_around(on: Backbone) -> None:
    contexts = ["The quick brown fox jumps over the lazy dog. " * n for n in (1, 5, 40)]
    examples = [SpanExample(str(n), "en", context, "Who?", ()) for n, context in enumerate(contexts)]
    found = answers(on, "span", examples, ())
    for context, text in zip(contexts, found, strict=True):
        assert text and text in context and text == text.strip()


def test_where_there_may_be_no_answer_the_text_comes_with_what_speaks_for_none(on: Backbone) -> None:
    examples = [SpanExample("1", "en", "The dog. " * 5, "Who?", ())]
    ((text, belief),) = answers(on, "span", examples, (), no_answer=True)
    assert answers(on, "span", examples, ()) == [text] != [""]
    assert isinstance(belief, float)
    given = {name: get_metric(name).compute([Answer(text, belief)], [()]) for name in ("best_f1", "exact_match")}
    assert given["best_f1"] == 1.0 and (given["exact_match"] == 1.0 or belief <= 0)
