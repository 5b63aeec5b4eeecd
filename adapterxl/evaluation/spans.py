"""Choose the answer span of one question from the start and end logits of its windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapterxl.errors import DataError, UsageError


@dataclass(frozen=True)
class SpanWindow:
    """What the model said about one window of a long context.

    Attributes:
        start_logits: Shape (tokens,); the first token is ``<s>``, whose logits stand for "no answer".
        end_logits: Shape (tokens,).
        offsets: Shape (tokens, 2): characters [start, end) of the whole context under each token, (-1, -1)
            for tokens outside of the context.
    """

    start_logits: ArrayLike
    end_logits: ArrayLike
    offsets: ArrayLike


@dataclass(frozen=True)
class SpanAnswer:
    """The chosen answer.

    Attributes:
        text: ``context[start_char:end_char]``, or "" for no answer.
        start_char: First character in the context, -1 for no answer.
        end_char: Character after the last one, -1 for no answer.
        score: Start plus end logit of the best span, also where no answer was preferred to it.
        no_answer_score: Start plus end logit of the first token, the lowest over the windows.
    """

    text: str
    start_char: int
    end_char: int
    score: float
    no_answer_score: float


def decode_span(
    context: str,
    windows: Sequence[SpanWindow],
    *,
    max_answer_length: int = 30,
    no_answer_threshold: float | None = None,
) -> SpanAnswer:
    """Return the span with the highest start plus end logit over all windows of one example.

    Candidates are runs of context tokens, 1 to `max_answer_length` long, that cover at least one character.
    Of equal scores the lowest window wins, then the lowest start, then the lowest end. The search is exact.

    Args:
        context: The whole context, which the offsets count in characters of.
        windows: All windows of the example.
        max_answer_length: Longest answer in tokens.
        no_answer_threshold: Answer "" when ``no_answer_score - score`` is above it; None: always answer.

    Raises:
        UsageError: If `max_answer_length` is below 1 or the threshold is NaN.
        DataError: If there is no candidate at all, if shapes do not fit, if an offset lies outside of the
            context, or if a logit in use is not finite.

    Source: Devlin et al. 2019, section 4.2 and 4.3 (span score; no answer at the first token).
    """
    if max_answer_length < 1:
        raise UsageError(f"max_answer_length is {max_answer_length}; expected 1 or more tokens.")
    if no_answer_threshold is not None and math.isnan(no_answer_threshold):
        raise UsageError("no_answer_threshold is NaN; expected a number, or None to always answer.")
    best_score, best_start, best_end = -math.inf, -1, -1
    no_answer_score = math.inf
    for number, window in enumerate(windows):
        start_logits, end_logits, offsets = _checked(number, window, len(context))
        no_answer_score = min(no_answer_score, float(start_logits[0] + end_logits[0]))
        candidate = _best_in_window(start_logits, end_logits, offsets, max_answer_length)
        if candidate is not None and candidate[0] > best_score:  # strict: the lowest window wins a tie
            best_score, best_start, best_end = candidate
    if best_start < 0:
        raise DataError(
            f"No answer can be chosen: {len(windows)} windows hold no context token "
            f"(the context has {len(context)} characters). Check for an empty context or a question "
            "that fills the whole window."
        )
    if no_answer_threshold is not None and no_answer_score - best_score > no_answer_threshold:
        return SpanAnswer("", -1, -1, best_score, no_answer_score)
    return SpanAnswer(context[best_start:best_end], best_start, best_end, best_score, no_answer_score)


def _best_in_window(
    start_logits: NDArray[np.float64],
    end_logits: NDArray[np.float64],
    offsets: NDArray[np.int64],
    longest: int,
) -> tuple[float, int, int] | None:
    """Return (score, start character, end character) of the best span of a window, None without any."""
    tokens = len(start_logits)
    starts = np.arange(tokens)[:, None]
    ends = starts + np.arange(min(longest, tokens))  # (tokens, lengths): a row has the ends of one start
    fits = ends < tokens
    ends = np.where(fits, ends, starts)
    before = np.concatenate(([0], np.cumsum(offsets[:, 0] >= 0)))  # context tokens before each position
    fits &= before[ends + 1] - before[starts] == ends - starts + 1  # every token is in the context
    fits &= offsets[ends, 1] > offsets[starts, 0]
    if not fits.any():
        return None
    scores = np.full(ends.shape, -np.inf)
    np.add(start_logits[starts], end_logits[ends], out=scores, where=fits)
    flat = int(np.argmax(scores))  # the first maximum: lowest start, then lowest end
    start, end = flat // ends.shape[1], int(ends.flat[flat])
    return float(scores.flat[flat]), int(offsets[start, 0]), int(offsets[end, 1])


def _checked(
    number: int, window: SpanWindow, characters: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return the three arrays of a window, or say what is wrong with them."""
    # float64: the sum of two float32 logits is then exact enough that rounding makes no ties
    start_logits = np.asarray(window.start_logits, dtype=np.float64)
    end_logits = np.asarray(window.end_logits, dtype=np.float64)
    offsets = np.asarray(window.offsets)
    shapes = start_logits.shape, end_logits.shape, offsets.shape
    tokens = len(start_logits) if start_logits.ndim == 1 else 0
    if tokens == 0 or shapes != ((tokens,), (tokens,), (tokens, 2)) or offsets.dtype.kind not in "iu":
        raise DataError(
            f"Window {number} has start logits {shapes[0]}, end logits {shapes[1]} and offsets {shapes[2]} "
            f"of {offsets.dtype}; expected (tokens,), (tokens,) and (tokens, 2) of integers, 1 token or more."
        )
    offsets = offsets.astype(np.int64)
    inside = offsets[:, 0] >= 0
    outside_marked = (offsets[~inside] == -1).all()
    if not outside_marked or (offsets[inside, 1] < offsets[inside, 0]).any() or offsets.max() > characters:
        raise DataError(
            f"Window {number} has offsets that do not fit a context of {characters} characters; "
            "expected 0 <= start <= end <= characters, or (-1, -1) outside of the context."
        )
    in_use = inside.copy()
    in_use[0] = True
    if not (np.isfinite(start_logits[in_use]).all() and np.isfinite(end_logits[in_use]).all()):
        raise DataError(
            f"Window {number} has a start or end logit that is NaN or infinite; expected finite numbers. "
            "Was the module's training stable, or is its file damaged?"
        )
    return start_logits, end_logits, offsets
