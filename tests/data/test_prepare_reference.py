"""Prepared rows beside transformers' own pipeline (word_ids, char_to_token, run_qa's offsets), on real text in scripts
with spaces and without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from adapterxl.data import LocalIndex
from adapterxl.data.examples import SpanExample
from adapterxl.data.prepare import MAX_QUESTION, prepare, text_rows
from adapterxl.tasks import get_task

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def tokenizer(shared: Path) -> Any:
    return AutoTokenizer.from_pretrained(shared / "models/xlmr-mini")


def some(shared: Path, task: str, split: str, language: str, count: int) -> Sequence[Any]:
    """Examples from all of a set."""
    found = LocalIndex.open(shared / "data").load(get_task(task), split, language).examples
    return found[:: max(1, len(found) // count)][:count]


@pytest.mark.parametrize("language", ["en", "th", "zh", "ar", "sw"])
def test_pairs_are_those_of_the_tokenizers_own_call(language: str, shared: Path, tokenizer: Any) -> None:
    examples = some(shared, "xnli", "dev", language, 60)
    for length in (24, 128):
        found = prepare("classify", examples, tokenizer, length)
        texts, pairs = [e.text for e in examples], [e.text_pair for e in examples]
        expected = tokenizer(texts, pairs, truncation=True, max_length=length)["input_ids"]
        assert [item.rows[0] for item in found.items] == expected
        whole = tokenizer(texts, pairs)["input_ids"]
        assert found.truncated == sum(len(row) > length for row in whole)
        assert text_rows(texts, tokenizer, length) == tokenizer(texts, truncation=True, max_length=length)["input_ids"]


@pytest.mark.parametrize("language", ["en", "th", "zh", "id"])
def test_choices_are_those_of_the_tokenizers_own_call(language: str, shared: Path, tokenizer: Any) -> None:
    task, split = ("copa", "dev") if language == "en" else ("xcopa", "test")
    examples = some(shared, task, split, language, 20)
    for example, item in zip(examples, prepare("choice", examples, tokenizer, 32).items, strict=True):
        first = [f"{example.context} {example.question}"] * 2
        expected = tokenizer(first, list(example.choices), truncation=True, max_length=32)["input_ids"]
        assert item.rows == expected and item.target == example.label


@pytest.mark.parametrize(
    ("task", "split", "language"),
    [
        *(("udpos", "test", language) for language in ("en", "th", "zh", "ar")),
        *(("panx", "dev", language) for language in ("ja", "zh", "ko")),
    ],
)
def test_first_sub_words_are_those_of_word_ids(
    task: str, split: str, language: str, shared: Path, tokenizer: Any
) -> None:
    examples = some(shared, task, split, language, 60)
    length = 24  # most sentences have several windows
    encoded = tokenizer(
        [list(example.words) for example in examples], is_split_into_words=True, truncation=True, max_length=length,
        stride=length // 4, return_overflowing_tokens=True,
    )  # fmt: skip
    items = iter(prepare("tag", examples, tokenizer, length).items)
    seen: set[tuple[int, int]] = set()
    for window, number in enumerate(encoded["overflow_to_sample_mapping"]):
        before, labels = None, {}
        for position, word in enumerate(encoded.word_ids(window)):  # as run_ner gives labels: first sub-words only
            if word is not None and word != before and (number, word) not in seen:
                labels[position] = examples[number].tags[word]
                seen.add((number, word))
            before = word
        if labels:
            item = next(items)
            assert (item.example, item.rows[0]) == (number, encoded["input_ids"][window])
            assert dict(zip(item.positions or (), item.target, strict=True)) == labels
    assert next(items, None) is None and len(encoded["input_ids"]) > len(examples)


@pytest.mark.parametrize(
    ("task", "split", "language"),
    [
        *(("xquad", "test", language) for language in ("en", "th", "zh", "ar", "hi", "ru")),
        ("tydiqa", "dev", "ko"), ("tydiqa", "dev", "sw"), ("mlqa", "dev", "zh"), ("mlqa", "dev", "vi"),
    ],
)  # fmt: skip
def test_answers_are_those_of_char_to_token_and_of_run_qa(
    task: str, split: str, language: str, shared: Path, tokenizer: Any
) -> None:
    length, stride = 128, 21
    examples: list[SpanExample] = [
        example
        for example in some(shared, task, split, language, 40)
        if len(tokenizer(example.question, add_special_tokens=False)["input_ids"]) <= MAX_QUESTION
    ]
    encoded = tokenizer(
        [example.question for example in examples], [example.context for example in examples],
        truncation="only_second", max_length=length, stride=stride, return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    items = prepare("span", examples, tokenizer, length).items
    assert [item.rows[0] for item in items] == encoded["input_ids"]
    assert [item.example for item in items] == encoded["overflow_to_sample_mapping"]
    answered = 0
    for window, item in enumerate(items):
        context, (text, begin) = examples[item.example].context, examples[item.example].answers[0]
        assert item.offsets is not None
        first, last = _run_qa(encoded, window, begin, begin + len(text))
        # Tokens that share a character (a bare mark of a space and what follows it, parts of a compatibility
        # character) make spans that differ in tokens and not in text.
        covered = context[encoded["offset_mapping"][window][first][0] : encoded["offset_mapping"][window][last][1]]
        mine = context[max(0, item.offsets[item.target[0], 0]) : max(0, item.offsets[item.target[1], 1])]
        if (first, last) == (0, 0):
            assert item.target == (0, 0)
            continue
        answered += 1
        assert mine == covered.strip() and text.strip("\u200b") in mine
        ends = (encoded.char_to_token(window, begin, 1), encoded.char_to_token(window, begin + len(text) - 1, 1))
        if len(set(encoded["offset_mapping"][window])) == len(encoded["offset_mapping"][window]):
            assert item.target == ends
    assert answered >= len(examples) - 2


def _run_qa(encoded: Any, window: int, begin: int, end: int) -> tuple[int, int]:
    """Start and end token as transformers' question answering example finds them, by walking over the offsets."""
    offsets, owners = encoded["offset_mapping"][window], encoded.sequence_ids(window)
    inside = [token for token, owner in enumerate(owners) if owner == 1]
    first, last = inside[0], inside[-1]
    if offsets[first][0] > begin or offsets[last][1] < end:
        return 0, 0
    while first <= inside[-1] and offsets[first][0] <= begin:
        first += 1
    while last >= inside[0] and offsets[last][1] >= end:
        last -= 1
    return first - 1, last + 1
