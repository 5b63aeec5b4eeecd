"""From examples to token rows: every word once, answers found again in their windows, nothing lost unsaid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from adapterxl.data.collate import collate
from adapterxl.data.examples import ChoiceExample, ClassifyExample, SpanExample, TagExample
from adapterxl.data.prepare import MAX_QUESTION, prepare, text_rows
from adapterxl.errors import DataError, UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["tiny_xlmr", "tiny_bert", pytest.param("mini", marks=pytest.mark.shared)])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "mini":
        return AutoTokenizer.from_pretrained(request.getfixturevalue("shared") / "models/xlmr-mini")
    return AutoTokenizer.from_pretrained(request.getfixturevalue(request.param))


def tagged(*words: str) -> TagExample:
    return TagExample("1", "en", words, tuple(range(len(words))))


def test_a_words_first_sub_word_has_its_tag(tokenizer: Any) -> None:
    words = ("The", "Zwölf-Boxkämpfer", "读书", "jagen", ".")
    (item,) = prepare("tag", [tagged(*words)], tokenizer, 64).items
    assert item.words == [0, 1, 2, 3, 4] and item.target == [0, 1, 2, 3, 4]
    at = 1  # after the first special token
    for word, position in zip(words, item.positions or (), strict=True):
        assert position == at
        at += len(tokenizer([word], is_split_into_words=True, add_special_tokens=False)["input_ids"])


def test_words_without_a_sub_word_are_counted_and_take_no_other_words_tag(tokenizer: Any) -> None:
    nothing = "\u200b"
    found = prepare("tag", [tagged("fox", nothing, "dog", ""), tagged(nothing, "")], tokenizer, 64)
    encoded = tokenizer(["fox", nothing, "dog", ""], is_split_into_words=True)
    spoken = sorted({word for word in encoded.word_ids() if word is not None})
    assert {0, 2} <= set(spoken) < {0, 1, 2, 3}
    assert found.items[0].words == spoken == found.items[0].target
    assert found.unlabelled >= 4 - len(spoken)
    assert all(item.words for item in found.items)  # a row without any word would have no loss


@pytest.mark.parametrize("length", [16, 40, 512])
def test_every_word_of_a_long_sentence_is_labelled_exactly_once(length: int, tokenizer: Any) -> None:
    words = ("Boxkämpfer", "fox", "книгу", "dog") * 300
    found = prepare("tag", [tagged("fox"), tagged(*words), tagged("dog", "fox")], tokenizer, length)
    assert found.truncated == 0 and len(found.items) > 4
    seen = [(item.example, word) for item in found.items for word in item.words or ()]
    assert sorted(seen) == [(0, 0), *((1, n) for n in range(1200)), (2, 0), (2, 1)]
    whole = tokenizer(list(words), is_split_into_words=True)
    first: dict[int | None, int] = {}
    for word, token in zip(whole.word_ids(), whole["input_ids"], strict=True):
        first.setdefault(word, token)
    for item in found.items:
        assert len(item.rows[0]) <= length and item.target == item.words
        if item.example == 1:
            for word, position in zip(item.words or (), item.positions or (), strict=True):
                assert item.rows[0][position] == first[word]


CONTEXTS = {
    "en": ("The quick brown fox jumps over the lazy dog. ", "lazy dog"),
    "de": ("Der Hund schläft,  und die Katze trinkt ihre Milch. ", "die Katze"),
    "zh": ("我喜欢读书。他们住在北京。", "北京"),
    "th": ("กรุงเทพมหานคร เป็นเมืองหลวง ของประเทศไทย ", "เป็นเมืองหลวง"),
    "ar": ("القطة تنام في البيت. ", "في البيت"),
}


@pytest.mark.parametrize("place", [0, 20, 39])
@pytest.mark.parametrize("language", CONTEXTS)
def test_the_answers_tokens_lead_back_to_the_answer(language: str, place: int, tokenizer: Any) -> None:
    sentence, answer = CONTEXTS[language]
    context = sentence * 40
    begin = len(sentence) * place + sentence.index(answer)
    example = SpanExample("1", language, context, "Wer?", ((answer, begin),))
    items = prepare("span", [example], tokenizer, 64).items
    hits = 0
    for item in items:
        offsets = item.offsets
        assert offsets is not None and offsets.shape == (len(item.rows[0]), 2) and len(item.rows[0]) <= 64
        assert (offsets[0] == -1).all() and (offsets[-1] == -1).all()  # special tokens
        first, last = item.target
        inside = offsets[offsets[:, 1] > offsets[:, 0]]
        if (first, last) == (0, 0):
            assert begin < inside[0, 0] or begin + len(answer) > inside[-1, 1]
            continue
        hits += 1
        start, end = int(offsets[first, 0]), int(offsets[last, 1])
        assert start <= begin < begin + len(answer) <= end and first <= last
        # and no shorter run of tokens holds it
        assert offsets[first, 1] > begin and offsets[last, 0] < begin + len(answer)
        if language in ("en", "de", "ar"):
            assert context[start:end] == answer  # words of their own: no space before, no full stop after
    assert hits >= 1
    covered = np.zeros(len(context), dtype=bool)
    for item in items:
        for start, end in item.offsets.tolist() if item.offsets is not None else ():
            if start >= 0:
                covered[start:end] = True
    assert all(covered[i] or character.isspace() for i, character in enumerate(context))


def test_neighbouring_windows_share_tokens(tokenizer: Any) -> None:
    context = CONTEXTS["en"][0] * 60
    items = prepare("span", [SpanExample("1", "en", context, "Who?", ())], tokenizer, 128).items
    for one, other in zip(items, items[1:], strict=False):
        assert one.offsets is not None and other.offsets is not None
        assert other.offsets[other.offsets[:, 0] >= 0][0, 0] < one.offsets[:, 1].max() - 10
    assert all(item.target == (0, 0) for item in items)  # no answer: the first token


def test_a_long_question_is_cut_and_counted(tokenizer: Any) -> None:
    context, question = CONTEXTS["en"][0] * 3, "Who wrote the book? " * 40
    found = prepare("span", [SpanExample("1", "en", context, question, (("fox", 16),))], tokenizer, 128)
    assert found.truncated == 1
    short = tokenizer(question, add_special_tokens=False)["input_ids"][:MAX_QUESTION]
    for item in found.items:
        assert item.rows[0][1 : 1 + MAX_QUESTION - 2] == short[: MAX_QUESTION - 2]
        first_context = int(np.flatnonzero(item.offsets[:, 0] >= 0)[0]) if item.offsets is not None else 0
        assert first_context <= MAX_QUESTION + 4
    assert any(item.target != (0, 0) for item in found.items)


def test_long_pairs_are_cut_at_the_longer_side_and_counted(tokenizer: Any) -> None:
    long = "The quick brown fox. " * 40
    pairs = [ClassifyExample("1", "en", long, "A dog.", 1), ClassifyExample("2", "en", "A", "B", 0)]
    found = prepare("classify", pairs, tokenizer, 32)
    assert found.truncated == 1 and [item.target for item in found.items] == [1, 0]
    assert len(found.items[0].rows[0]) == 32
    assert found.items[0].rows[0][-4:-1] == tokenizer("x", "A dog.")["input_ids"][-4:-1]
    choice = ChoiceExample("1", "en", long, "effect", ("A dog.", "A fox."), 1)
    found = prepare("choice", [choice], tokenizer, 32)
    assert found.truncated == 1 and [len(row) for row in found.items[0].rows] == [32, 32]


def test_segment_ids_are_those_of_the_tokenizer(tokenizer: Any) -> None:
    (item,) = prepare("classify", [ClassifyExample("1", "en", "A dog", "A fox", 0)], tokenizer, 32).items
    assert set(item.types[0]) == ({0, 1} if "token_type_ids" in tokenizer.model_input_names else {0})
    (alone,) = prepare("classify", [ClassifyExample("1", "en", "A dog", None, 0)], tokenizer, 32).items
    assert alone.rows[0] == tokenizer("A dog")["input_ids"]


def test_batches_point_at_the_labelled_tokens_whatever_the_order_of_rows(tokenizer: Any) -> None:
    examples = [tagged("The", "quick", "fox"), tagged("dog"), tagged("Boxkämpfer", "книгу")]
    items = prepare("tag", examples, tokenizer, 64).items
    batch = collate("tag", items, CPU)
    assert batch.select is not None
    picked = batch.ragged.input_ids[batch.select].tolist()
    assert picked == [item.rows[0][position] for item in items for position in item.positions or ()]
    assert batch.targets.tolist() == [0, 1, 2, 0, 0, 1]


def test_unlike_numbers_of_choices_are_refused(tokenizer: Any) -> None:
    examples = [ChoiceExample(str(n), "en", "A", "cause", ("x",) * n, 0) for n in (2, 3)]
    items = prepare("choice", examples, tokenizer, 64).items
    with pytest.raises(DataError, match=r"\[2, 3\] choices"):
        collate("choice", items, CPU)


def test_nothing_to_prepare_and_no_room_are_refused(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no examples"):
        prepare("tag", [], tokenizer, 64)
    with pytest.raises(UsageError, match="at least 16"):
        prepare("tag", [tagged("fox")], tokenizer, 15)


def test_texts_for_retrieval_are_cut(tokenizer: Any) -> None:
    rows = text_rows(["The dog.", "The quick brown fox. " * 40], tokenizer, 20)
    assert rows[0] == tokenizer("The dog.")["input_ids"] and len(rows[1]) == 20


@pytest.mark.parametrize("max_length", [16, 32, 64])
def test_short_rows_leave_room_for_the_context_however_long_the_question(tokenizer: Any, max_length: int) -> None:
    context, question = CONTEXTS["en"][0] * 3, "Who wrote the book? " * 40
    found = prepare("span", [SpanExample("1", "en", context, question, ())], tokenizer, max_length)
    assert all(len(item.rows[0]) <= max_length for item in found.items)
    assert max(item.offsets.max() for item in found.items if item.offsets is not None) >= len(context.rstrip()) - 1
