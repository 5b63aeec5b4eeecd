"""A perturbed copy of examples, to see how much of a score survives: character noise, casing. Gold answers stay."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from adapterxl.data.examples import (
    CandidateExample,
    ChoiceExample,
    ClassifyExample,
    Example,
    PairExample,
    QueryExample,
    SpanExample,
    TagExample,
    TextExample,
)
from adapterxl.errors import UsageError, did_you_mean

Casing = Literal["lower", "upper"]


@dataclass(frozen=True)
class Perturbation:
    """What is done to texts.

    Attributes:
        noise: Share of the letters that are hit, 0 to 1. A letter that is hit is swapped with the next one, left out,
            doubled, or replaced by another letter of the same text, each as likely, so that no script comes in. Marks
            go with their letter. What is no letter stays, and at least one letter of a text.
        casing: Afterwards: all letters small, or all capital.
        seed: With the example's id it decides the noise, so neither the order of examples nor others beside it do.

    Raises:
        UsageError: For a value outside of these, and where nothing would be done.

    Source: noise as in Belinkov and Bisk 2018, arXiv 1711.02173, and Pruthi et al. 2019, arXiv 1905.11268.
    """

    noise: float = 0.0
    casing: Casing | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise UsageError(f"noise: found {self.noise}, expected a share of letters from 0 to 1.")
        if self.casing not in (None, *get_args(Casing)):
            raise UsageError(f"casing: found {self.casing!r}, expected {' or '.join(get_args(Casing))}.")
        if not self.noise and self.casing is None:
            raise UsageError("Perturbation: found neither noise nor casing, expected one of them or both.")

    def __str__(self) -> str:
        noise = f"characters={self.noise:g}" if self.noise else None
        return ",".join(filter(None, (noise, self.casing and f"casing={self.casing}")))

    @classmethod
    def parse(cls, text: str) -> Perturbation:
        """Read ``characters``, ``characters=0.2``, ``casing``, ``casing=upper``, or both with a comma between.

        Without a value, one letter in ten is hit, or all are made small.

        Raises:
            UsageError: For anything else.
        """
        given: dict[str, str] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name not in _DEFAULTS or name in given:
                raise UsageError(
                    f"perturb: found '{part.strip()}' in '{text}', expected characters or casing, each once, such as "
                    f"characters=0.1,casing=lower.{did_you_mean(name, _DEFAULTS)}"
                )
            given[name] = value or _DEFAULTS[name]
        try:
            noise = float(given.get("characters", 0))
        except ValueError:
            raise UsageError(
                f"perturb: characters: found '{given['characters']}', expected a share such as 0.1."
            ) from None
        return cls(noise, given.get("casing"))  # type: ignore[arg-type] # what it is, it checks itself


_DEFAULTS = {"characters": "0.1", "casing": "lower"}


def perturb(examples: Sequence[Example], how: Perturbation) -> list[Example]:
    """Return the examples with perturbed texts; ids, labels, tags and gold answers are the same.

    Changed are both texts of a classification, the words of a tagged sentence one by one, context, question and choices
    of a multiple choice, the sentence (not its translation) of a pair, and queries (not what they look for). Of a span
    only the question is: answers are quoted from the context.
    """
    return [_perturbed(example, how) for example in examples]


def _perturbed(example: Example, how: Perturbation) -> Example:
    def of(text: str, field: str) -> str:
        text = _noisy(text, how.noise, random.Random(f"{how.seed}\n{example.id}\n{field}"))
        return text.lower() if how.casing == "lower" else text.upper() if how.casing == "upper" else text

    if isinstance(example, ClassifyExample):
        pair = None if example.text_pair is None else of(example.text_pair, "text_pair")
        return replace(example, text=of(example.text, "text"), text_pair=pair)
    if isinstance(example, TagExample):
        return replace(example, words=tuple(of(word, f"word {place}") for place, word in enumerate(example.words)))
    if isinstance(example, SpanExample):
        return replace(example, question=of(example.question, "question"))
    if isinstance(example, ChoiceExample):
        choices = tuple(of(choice, f"choice {place}") for place, choice in enumerate(example.choices))
        return replace(
            example, context=of(example.context, "context"), question=of(example.question, "question"), choices=choices
        )
    if isinstance(example, CandidateExample):
        return example
    assert isinstance(example, PairExample | TextExample | QueryExample)
    return replace(example, text=of(example.text, "text"))


def _noisy(text: str, share: float, draw: random.Random) -> str:
    clusters = _clusters(text)
    letters = [cluster for cluster in clusters if _is_letter(cluster)]
    left = len(letters)  # letters that the result will have
    made: list[str] = []
    place = 0
    while place < len(clusters):
        here = clusters[place]
        place += 1
        if not _is_letter(here) or draw.random() >= share:
            made.append(here)
            continue
        kind = draw.choice(("swap", "drop", "double", "replace"))
        if kind == "swap" and place < len(clusters) and _is_letter(clusters[place]):
            made += [clusters[place], here]
            place += 1
        elif kind == "drop" and left > 1:
            left -= 1
        elif kind == "double":
            made += [here, here]
        elif kind == "replace":
            made.append(draw.choice(letters))
        else:
            made.append(here)
    return "".join(made)


def _clusters(text: str) -> list[str]:
    """Cut into characters with the marks and joiners that follow them: a mark alone is no text."""
    found: list[str] = []
    for character in text:
        if found and (
            unicodedata.category(character)[0] == "M" or character in "\u200c\u200d" or found[-1][-1] == "\u200d"
        ):
            found[-1] += character
        else:
            found.append(character)
    return found


def _is_letter(cluster: str) -> bool:
    return cluster[0].isalpha()
