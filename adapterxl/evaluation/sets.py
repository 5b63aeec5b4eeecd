"""From a task and its data to the sets that evaluation answers: loaded, limited, perturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..backbone import Backbone
from ..console import say
from ..data.perturb import Perturbation, perturb
from ..data.search import Searched, searched
from ..data.source import DataSource, OnBadRow
from ..errors import DataError, TaskError
from ..tasks.base import Task
from .languages import HeadSet, LanguageSet, RetrievalSet
from .predict import Reader
from .scores import Option
from .search import MinedSet, PassageSet, PooledSet


class Sets:
    """Makes the sets of one task.

    Attributes:
        options: What is to be told beside the scores; filled while rows are read and sets are scored.
    """

    def __init__(
        self, task: Task, source: DataSource, on: Backbone, options: dict[str, Option], *, limit: int | None,
        on_bad_row: OnBadRow, center: bool, perturbation: Perturbation | None, tokens_per_batch: int, progress: bool,
    ) -> None:  # fmt: skip
        self.task, self.source, self.on, self.options = task, source, on, options
        self.limit, self.on_bad_row, self.center, self.perturbation = limit, on_bad_row, center, perturbation
        self.tokens_per_batch, self.progress = tokens_per_batch, progress
        self._seen: dict[tuple[str, str], Searched] = {}

    @property
    def together(self) -> bool:
        """Whether all languages are one set."""
        return self.task.kind == "retrieve" and self.task.search == "pooled"

    def of(
        self, split: str, languages: Sequence[str], reader: Reader, owners: Sequence[int], *, clean: bool = False
    ) -> Iterator[LanguageSet]:
        """Give the sets of these languages; `owners` are theirs in the record of attention.

        Args:
            clean: Without the perturbation.

        Raises:
            DataError, TaskError: As the data source, while a set is taken; and where mining has no dev rows.
        """
        changed = None if clean else self.perturbation
        if self.together:
            yield self._pooled(split, languages, reader, owners, changed)
            return
        for language, owner in zip(languages, owners, strict=True):
            yield self._one(split, language, reader, owner, changed)

    def _one(self, split: str, language: str, reader: Reader, owner: int, changed: Perturbation | None) -> LanguageSet:
        task, on = self.task, self.on
        if task.kind != "retrieve" or task.search == "translation":
            examples: Sequence[Any] = self._rows(split, language)[: self.limit]
            examples = examples if changed is None else perturb(examples, changed)
            if task.kind == "retrieve":
                return RetrievalSet(task, examples, split, language, on, reader, owner, self.center)
            return HeadSet(task, examples, split, language, on, reader, owner)
        found = self._queries(self._searched(split, language), changed)
        if task.search == "mined":
            dev = found if split == "dev" else self._queries(self._searched("dev", language), changed)
            return MinedSet(
                task, found, dev, split, language, on, reader, self.center, self.tokens_per_batch, self.options,
                self.progress,
            )  # fmt: skip
        parallel = None
        if not task.pairs and language != task.source_language:
            if task.source_language in self.source.languages(task, split):
                parallel = self._searched(split, task.source_language)
        return PassageSet(task, found, split, language, on, reader, owner, self.center, parallel)

    def _pooled(
        self, split: str, languages: Sequence[str], reader: Reader, owners: Sequence[int], changed: Perturbation | None
    ) -> PooledSet:
        task = self.task
        there = {language: self._searched(split, language) for language in self.source.languages(task, split)}
        pool = [candidate for one in there.values() for candidate in one.candidates]
        if "pool" in self.source.splits(task):
            for name in self.source.languages(task, "pool"):
                pool += searched(task, self._rows("pool", name), name).candidates
        known = {candidate.id for candidate in pool}
        right: dict[str, tuple[str, ...]] = {}
        for one in there.values():
            for query in one.queries:  # one id in several languages: one question
                right[query.id] = tuple(dict.fromkeys((*right.get(query.id, ()), *query.right)))
                if not known.issuperset(query.right):
                    missing = next(each for each in query.right if each not in known)
                    raise DataError(
                        f"{self.source.describe}: {task.name}: '{query.id}' asks for '{missing}', which is not among "
                        f"the {len(known):,} candidates; expected all of them. Name the whole pool in the index."
                    )
        chosen = {language: self._queries(there[language], changed) for language in languages}
        found = PooledSet(
            task, chosen, pool, right, split, self.on, reader, owners, self.center, self.tokens_per_batch, self.progress
        )
        self.options["pool"] = found.described
        return found

    def _queries(self, found: Searched, changed: Perturbation | None) -> Searched:
        """The first queries only (of pairs to be mined, the first of both sides), perturbed if asked."""
        queries: Any = found.queries[: self.limit]
        candidates = found.candidates[: self.limit] if self.task.search == "mined" else found.candidates
        changed_queries: Any = queries if changed is None else perturb(queries, changed)
        return replace(found, queries=tuple(changed_queries), candidates=candidates)

    def _searched(self, split: str, language: str) -> Searched:
        """Queries and candidates of a language; those of the source language are asked for by others too."""
        if (split, language) in self._seen:
            return self._seen[split, language]
        if split not in self.source.splits(self.task):
            raise TaskError(
                f"{self.task.name}: no {split} rows in {self.source.describe}, on which the threshold is chosen; "
                f"expected {split} rows in {language}."
            )
        found = searched(self.task, self._rows(split, language), language)
        if not found.queries:
            raise DataError(
                f"{self.source.describe}: {self.task.name}, {split}, {language}: found no question to search with, as "
                f"the answers of {found.left_out:,} begin in no sentence; expected one or more. Check sentence_breaks."
            )
        if found.left_out:
            self.options[f"left_out.{language}"] = found.left_out
        if found.split_by_rule:
            self.options["sentences"] = "split by rule"
        if self.together or language == self.task.source_language:
            self._seen[split, language] = found
        return found

    def _rows(self, split: str, language: str) -> Sequence[Any]:
        loaded = self.source.load(self.task, split, language, on_bad_row=self.on_bad_row)
        say(f"{language}: {warning}" for warning in loaded.warnings)
        if loaded.dropped:
            self.options[f"dropped_rows.{language}"] = len(loaded.dropped)
        if language in self.task.context_languages:
            self.options[f"context_language.{language}"] = self.task.context_languages[language]
        return loaded.examples
