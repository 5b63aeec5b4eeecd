"""Retrieval tasks as sets that evaluation answers: ranked in one language or in all together, and mined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from ..backbone import Backbone
from ..data.examples import CandidateExample, QueryExample
from ..data.search import Searched
from ..errors import DataError
from ..tasks.base import Task
from .languages import Found, embed, text_items
from .metrics import get_metric
from .mining import Pairs, Side, by_source, freeze_threshold, mine
from .predict import Reader, Request
from .rankings import Best, ranked, ranked_ids
from .retrieval import unit_rows
from .scores import Option, Record

TOP = 20  # as far as the metrics of ranked tasks look
CHUNK = 1 << 16  # candidates whose vectors are held at a time


class PassageSet:
    """Questions of one language, ranked against its passages, and against those of the source language where it has
    the same questions."""

    def __init__(
        self, task: Task, found: Searched, split: str, language: str, on: Backbone, reader: Reader, owner: int,
        center: bool, parallel: Searched | None,
    ) -> None:  # fmt: skip
        self.task, self.queries, self.split, self.center = task, found.queries, split, center
        self.language, context = task.spoken(language)
        right = {query.id: query.right for query in found.queries}
        self.pools = [(context or self.language, found.candidates, right)]
        if parallel is not None:
            right = {query.id: query.right for query in parallel.queries}
            if not right.keys().isdisjoint(query.id for query in found.queries):
                self.pools.append((task.source_language, parallel.candidates, right))
        texts: list[Sequence[QueryExample | CandidateExample]] = [
            found.queries, *(candidates for _, candidates, _ in self.pools)
        ]  # fmt: skip
        self.requests = [
            Request(text_items([each.text for each in side], on, task.max_length), reader, None if place > 1 else owner)
            for place, side in enumerate(texts)
        ]

    def score(self) -> Found:
        vectors, *pools = (torch.stack(request.results) for request in self.requests)
        records: list[Record] = []
        rows: list[dict[str, Any]] = []
        for (language, candidates, right), pool in zip(self.pools, pools, strict=True):
            known = [place for place, query in enumerate(self.queries) if query.id in right]
            found = ranked(vectors[known], pool, TOP, center=self.center)
            spoken = {
                "language": self.language, "context_language": language, "direction": f"{self.language}->{language}",
            }  # fmt: skip
            rankings = ranked_ids(found, [candidate.id for candidate in candidates])
            ids = [self.queries[place].id for place in known]
            new = _scored(self.task, self.split, spoken, ids, rankings, [right[each] for each in ids])
            records, rows = records + new[0], rows + new[1]
        return records, rows


class PooledSet:
    """Queries of several languages, ranked against one pool of the candidates of all languages.

    The pool is embedded in chunks, so that of a million candidates only the best of each query are kept. With `center`
    each language's mean is subtracted, of queries and of candidates, and the chunks are whole languages.
    """

    def __init__(
        self, task: Task, found: Mapping[str, Searched], pool: Iterable[CandidateExample],
        right: Mapping[str, tuple[str, ...]], split: str, on: Backbone, reader: Reader, owners: Sequence[int],
        center: bool, tokens_per_batch: int, progress: bool,
    ) -> None:  # fmt: skip
        self.task, self.found, self.split, self.on, self.reader, self.center = task, found, split, on, reader, center
        self.right, self.tokens_per_batch, self.progress = right, tokens_per_batch, progress
        self.pool: dict[str, list[CandidateExample]] = {}
        for candidate in pool:
            self.pool.setdefault(candidate.language, []).append(candidate)
        self.requests = [
            Request(text_items([query.text for query in one.queries], on, task.max_length), reader, owner)
            for one, owner in zip(found.values(), owners, strict=True)
        ]

    @property
    def described(self) -> str:
        """How large the pool is, and of which languages."""
        count = sum(len(candidates) for candidates in self.pool.values())
        return f"{count} candidates in {len(self.pool)} languages ({' '.join(self.pool)})"

    def score(self) -> Found:
        sides = [
            unit_rows(f"queries in {language}", torch.stack(request.results), self.center)
            for language, request in zip(self.found, self.requests, strict=True)
        ]
        best = Best(torch.cat(sides), TOP)
        ids: list[str] = []
        for language, candidates in self.pool.items():
            step = len(candidates) if self.center else CHUNK
            for start in range(0, len(candidates), step):
                chunk = candidates[start : start + step]
                found = embed(
                    self.reader, self.on, [candidate.text for candidate in chunk], self.tokens_per_batch,
                    self.task.max_length, progress=f"candidates in {language}" if self.progress else None,
                )  # fmt: skip
                best.add(unit_rows(f"candidates in {language}", found, self.center))
                ids += [candidate.id for candidate in chunk]
        rankings = ranked_ids(best.rows, ids)
        records: list[Record] = []
        rows: list[dict[str, Any]] = []
        start = 0
        for language, one in self.found.items():
            here = rankings[start : start + len(one.queries)]
            start += len(one.queries)
            spoken = {"language": language, "direction": f"{language}->all"}
            names = [query.id for query in one.queries]
            new = _scored(self.task, self.split, spoken, names, here, [self.right[name] for name in names])
            records, rows = records + new[0], rows + new[1]
        return records, rows


class MinedSet:
    """Sentences of a language and English ones, of which pairs are mined; the threshold is that of dev.

    Everything is embedded when it is scored, side by side, as the texts of BUCC take more memory than their vectors.

    Args:
        options: Where the threshold is told.
    """

    requests: Sequence[Request] = ()

    def __init__(
        self, task: Task, found: Searched, dev: Searched, split: str, language: str, on: Backbone, reader: Reader,
        center: bool, tokens_per_batch: int, options: dict[str, Option], progress: bool,
    ) -> None:  # fmt: skip
        self.task, self.found, self.dev, self.split, self.language = task, found, dev, split, language
        self.on, self.reader, self.center, self.tokens_per_batch = on, reader, center, tokens_per_batch
        self.options, self.progress = options, progress

    def score(self) -> Found:
        on_dev = self._mined(self.dev, "dev")
        threshold = freeze_threshold(on_dev, gold_pairs(self.dev))
        # No pair of dev may be right; then nothing is kept, and JSON has no number for that threshold.
        self.options[f"threshold.{self.language}"] = "none" if threshold == float("inf") else round(threshold, 6)
        pairs = on_dev if self.found is self.dev else self._mined(self.found, self.split)
        ids, mined, wanted = by_source(pairs, gold_pairs(self.found), threshold)
        spoken = {"language": self.language, "direction": f"{self.language}->{self.task.source_language}"}
        return _scored(self.task, self.split, spoken, ids, mined, wanted)

    def _mined(self, found: Searched, split: str) -> Pairs:
        sides: list[Side] = []
        both: tuple[Sequence[QueryExample | CandidateExample], ...] = (found.queries, found.candidates)
        for each in both:
            texts = [example.text for example in each]
            vectors = embed(
                self.reader, self.on, texts, self.tokens_per_batch, self.task.max_length,
                progress=f"{split} {self.language}" if self.progress else None,
            )  # fmt: skip
            sides.append(Side([example.id for example in each], texts, vectors))
        return mine(sides[0], sides[1], center=self.center)


def gold_pairs(found: Searched) -> set[tuple[str, str]]:
    """The right pairs among two sides.

    Raises:
        DataError: If there is none, as after a limit.
    """
    there = {candidate.id for candidate in found.candidates}
    pairs = {(query.id, right) for query in found.queries for right in query.right if right in there}
    if not pairs:
        raise DataError(
            f"Mining: found no gold pair among {len(found.queries):,} and {len(found.candidates):,} sentences, "
            "expected at least one. Is the limit too low?"
        )
    return pairs


def _scored(
    task: Task,
    split: str,
    spoken: Mapping[str, str],
    ids: Sequence[str],
    predictions: Sequence[Sequence[str]],
    golds: Sequence[Sequence[str]],
) -> Found:
    language = spoken.get("context_language", spoken["language"])
    records = [
        Record(
            **spoken,
            split=split,
            metric=name,
            value=get_metric(name).compute(predictions, golds, language),
            n=len(ids),
            primary=position == 0,
        )
        for position, name in enumerate(task.metrics)
    ]
    rows = [
        {**spoken, "id": name, "prediction": list(prediction), "gold": list(gold)}
        for name, prediction, gold in zip(ids, predictions, golds, strict=True)
    ]
    return records, rows
