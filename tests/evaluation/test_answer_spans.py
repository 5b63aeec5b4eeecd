"""The answer span is the one that trying every span would find."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.errors import DataError, UsageError
from adapterxl.evaluation.spans import SpanWindow, decode_span

OUTSIDE = (-1, -1)


def window(starts, ends, offsets) -> SpanWindow:
    return SpanWindow(np.array(starts, dtype=np.float32), np.array(ends, dtype=np.float32), np.array(offsets))


def try_every_span(windows, longest):
    """Return (score, start character, end character) of the best span, trying them in order of preference."""
    best = None
    for one in windows:
        tokens = len(one.start_logits)
        for start in range(tokens):
            for end in range(start, tokens):
                inside = all(one.offsets[position][0] >= 0 for position in range(start, end + 1))
                first, last = one.offsets[start][0], one.offsets[end][1]
                if not inside or end - start + 1 > longest or last <= first:
                    continue
                score = float(one.start_logits[start]) + float(one.end_logits[end])
                if best is None or score > best[0]:
                    best = (score, first, last)
    return best


# Few distinct values, so that ties are common; some with digits that float32 addition would round away.
LOGITS = st.sampled_from([-2.0, 0.0, 0.0, 1.0, 1.0, 3.0, 1e-7, 16777216.0]) | st.floats(-50, 50, width=32)


@st.composite
def examples(draw):
    """A context and windows with context tokens of 0 to 3 characters, anywhere between outside ones."""
    windows = []
    length = 0
    for _ in range(draw(st.integers(1, 3))):
        position, offsets = draw(st.integers(0, 3)), [OUTSIDE]
        for size in draw(st.lists(st.sampled_from([None, 0, 1, 1, 2, 3]), max_size=12)):
            offsets.append(OUTSIDE if size is None else (position, position + size))
            position += size or 0
        length = max(length, position)
        logits = st.lists(LOGITS, min_size=len(offsets), max_size=len(offsets))
        windows.append(window(draw(logits), draw(logits), offsets))
    context = "".join(chr(0x4E00 + number) for number in range(length + 2))  # every character differs
    return context, windows, draw(st.integers(1, 14))


def check_against_trying(example):
    context, windows, longest = example
    expected = try_every_span(windows, longest)
    if expected is None:
        with pytest.raises(DataError, match="hold no context token"):
            decode_span(context, windows, max_answer_length=longest)
        return
    answer = decode_span(context, windows, max_answer_length=longest)
    assert (answer.score, answer.start_char, answer.end_char) == expected
    assert answer.text == context[answer.start_char : answer.end_char] != ""
    assert answer.no_answer_score == min(float(w.start_logits[0]) + float(w.end_logits[0]) for w in windows)
    for threshold in (-3.0, 0.0, answer.no_answer_score - answer.score, 3.0):
        other = decode_span(context, windows, max_answer_length=longest, no_answer_threshold=threshold)
        if answer.no_answer_score - answer.score > threshold:
            assert other == dataclasses.replace(answer, text="", start_char=-1, end_char=-1)
        else:
            assert other == answer


@settings(max_examples=200, deadline=None)
@given(examples())
def test_equals_trying_every_span(example):
    check_against_trying(example)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(examples())
def test_equals_trying_every_span_in_many_cases(example):
    check_against_trying(example)


CONTEXT = "one two three"
OFFSETS = [OUTSIDE, OUTSIDE, (0, 3), (4, 7), (8, 13), OUTSIDE]


def test_question_tokens_and_specials_are_never_answers():
    loud = window([99, 99, 0, 1, 0, 99], [99, 99, 0, 1, 0, 99], OFFSETS)
    assert decode_span(CONTEXT, [loud]).text == "two"


def test_the_end_never_comes_before_the_start():
    assert decode_span(CONTEXT, [window([0, 0, 0, 0, 9, 0], [0, 0, 9, 0, 1, 0], OFFSETS)]).text == "three"


def test_an_answer_is_at_most_as_long_as_asked():
    far = window([0, 0, 5, 0, 0, 0], [0, 0, 0, 1, 5, 0], OFFSETS)
    assert decode_span(CONTEXT, [far], max_answer_length=3).text == "one two three"
    assert decode_span(CONTEXT, [far], max_answer_length=2).text == "one two"


def test_by_default_an_answer_has_at_most_30_tokens():
    context, tokens = "x" * 40, 41
    offsets = [OUTSIDE, *((number, number + 1) for number in range(40))]
    starts, ends = np.zeros(tokens), np.zeros(tokens)
    starts[1] = ends[30] = 5.0
    assert len(decode_span(context, [window(starts, ends, offsets)]).text) == 30
    ends[30], ends[31] = 0.0, 5.0
    assert len(decode_span(context, [window(starts, ends, offsets)]).text) < 30


def test_the_best_window_wins_and_ties_go_to_the_first():
    low = window([0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0], OFFSETS)
    high = window([0, 0, 0, 2, 0, 0], [0, 0, 0, 2, 0, 0], OFFSETS)
    same = window([0, 0, 0, 0, 2, 0], [0, 0, 0, 0, 2, 0], OFFSETS)
    assert decode_span(CONTEXT, [low, high, same]).text == "two"
    assert decode_span(CONTEXT, [same, low, high]).text == "three"


def test_of_equal_spans_the_lowest_start_then_the_lowest_end_wins():
    assert decode_span(CONTEXT, [window([0] * 6, [0] * 6, OFFSETS)]).text == "one"


def test_no_answer_uses_the_lowest_first_token_of_all_windows():
    sure = window([9, 0, 1, 0, 0, 0], [9, 0, 1, 0, 0, 0], OFFSETS)
    unsure = window([0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], OFFSETS)
    assert decode_span(CONTEXT, [sure], no_answer_threshold=0.0).text == ""
    answer = decode_span(CONTEXT, [sure, unsure], no_answer_threshold=0.0)
    assert (answer.text, answer.no_answer_score, answer.score) == ("one", 1.0, 2.0)
    assert decode_span(CONTEXT, [sure]).text == "one"  # never empty unless asked for


def test_thai_and_chinese_answers_are_cut_by_characters():
    thai = "กรุงเทพฯ เป็นเมืองหลวง"
    offsets = [OUTSIDE, (0, 7), (7, 8), (9, 13), (13, len(thai))]
    assert decode_span(thai, [window([0, 3, 0, 0, 0], [0, 0, 3, 0, 0], offsets)]).text == "กรุงเทพฯ"
    chinese = "𠮷野在中国"  # the first character lies outside of the basic plane
    assert decode_span(chinese, [window([0, 3, 0], [0, 3, 0], [OUTSIDE, (0, 2), (2, 5)])]).text == "𠮷野"


def test_masked_logits_outside_of_the_context_do_no_harm():
    low = -np.inf
    masked = window([0, low, 0, 1, 0, low], [0, low, 0, 1, 0, np.nan], OFFSETS)
    assert decode_span(CONTEXT, [masked]).text == "two"


@pytest.mark.parametrize(
    ("starts", "ends", "offsets", "message"),
    [
        ([0, 0], [0, 0, 0], [OUTSIDE, (0, 1), (1, 2)], r"start logits \(2,\), end logits \(3,\)"),
        ([0, 0], [0, 0], [OUTSIDE], r"offsets \(1, 2\)"),
        ([], [], np.zeros((0, 2), dtype=int), "expected .* 1 token or more"),
        ([[0, 0]], [[0, 0]], [OUTSIDE, (0, 1)], r"start logits \(1, 2\)"),
        ([0, 0], [0, 0], [(-1.0, -1.0), (0.0, 1.0)], "of float64; expected .* integers"),
        ([0, 0], [0, 0], [OUTSIDE, (0, 14)], "do not fit a context of 13 characters"),
        ([0, 0], [0, 0], [OUTSIDE, (3, 2)], "do not fit a context"),
        ([0, 0], [0, 0], [OUTSIDE, (-2, 2)], "do not fit a context"),
        ([0, np.nan], [0, 0], [OUTSIDE, (0, 3)], "NaN or infinite"),
        ([0, 0], [0, np.inf], [OUTSIDE, (0, 3)], "NaN or infinite"),
        ([np.nan, 0], [0, 0], [OUTSIDE, (0, 3)], "NaN or infinite"),
    ],
)
def test_a_window_that_cannot_be_right_is_refused(starts, ends, offsets, message):
    with pytest.raises(DataError, match=message):
        decode_span(CONTEXT, [window(starts, ends, offsets)])


def test_nothing_to_choose_from_is_an_error_and_not_an_empty_answer():
    outside, empty = ([window([0, 0], [0, 0], [OUTSIDE, offsets])] for offsets in (OUTSIDE, (4, 4)))
    for windows in ([], outside, empty):
        with pytest.raises(DataError, match=f"{len(windows)} windows hold no context token"):
            decode_span(CONTEXT, windows, no_answer_threshold=0.0)


def test_settings_that_make_no_sense_are_refused():
    one = window([0, 0], [0, 0], [OUTSIDE, (0, 3)])
    with pytest.raises(UsageError, match="max_answer_length is 0; expected 1 or more"):
        decode_span(CONTEXT, [one], max_answer_length=0)
    with pytest.raises(UsageError, match="no_answer_threshold is NaN"):
        decode_span(CONTEXT, [one], no_answer_threshold=float("nan"))
