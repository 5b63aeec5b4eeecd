"""Tasks from the Hugging Face hub, or from local folders in its layout, through the datasets library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from adapterxl.data.rows import ExampleBuilder, Row, build_all
from adapterxl.data.source import FileDigest, Loaded, OnBadRow, check_language, one_label_warning, pick_split
from adapterxl.errors import DataError, TaskError, did_you_mean
from adapterxl.tasks.base import HubSource, Task
from adapterxl.tasks.languages import language_of_name


class _Unusable(Exception):
    """One repository that cannot serve a task; the next in order may."""


class HubData:
    """A data source that reads each task from the repositories named in its facts, in order of preference.

    Only parquet and other plain data is read: dataset scripts are never run.

    Attributes:
        cache_dir: Where the datasets library keeps its copies (its own default if None).
    """

    def __init__(self, cache_dir: str | None = None) -> None:
        self.cache_dir = cache_dir

    @property
    def describe(self) -> str:
        """Return the source in words."""
        return "the Hugging Face hub"

    def splits(self, task: Task) -> dict[str, tuple[str, ...]]:
        """Return split -> languages of the benchmark; the few pairs that do not exist fail when read."""
        if not task.hub:
            raise TaskError(
                f"Task '{task.name}' is not on the hub in a form that can be read. "
                "Give a folder with its files: --data DIR"
            )
        found = {split for source in task.hub for split in source.splits}
        return {split: task.languages for split in ("train", "dev", "test") if split in found}

    def languages(self, task: Task, split: str) -> tuple[str, ...]:
        """Return the languages of one split of a task."""
        return pick_split(task, self.splits(task), split, self.describe)

    def load(self, task: Task, split: str, language: str, *, on_bad_row: OnBadRow = "stop") -> Loaded:
        """Read one split of a task in one language; see DataSource.load."""
        check_language(task, split, language, self.languages(task, split), self.describe)
        reasons: list[str] = []
        for source in task.hub:
            if split not in source.splits:
                continue
            try:
                table = self._table(source, split, language)
                columns = _check_columns(source, table)
            except _Unusable as reason:
                reasons.append(str(reason))
                continue
            return self._build(task, source, table, columns, split, language, on_bad_row, reasons)
        raise DataError(
            f"{'; '.join(reasons)}. Task '{task.name}' ({split}, {language}) could not be read from the hub: "
            "check the connection, or give a folder with its files: --data DIR"
        )

    def _table(self, source: HubSource, split: str, language: str) -> Any:
        from datasets import load_dataset  # slow to import, and not needed for local files

        try:
            return load_dataset(
                source.id,
                name=_config(source, language),
                split=source.splits[split],
                revision=source.revision,
                cache_dir=self.cache_dir,
            )
        except Exception as error:  # many kinds: network, missing configuration, damaged file
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise _Unusable(f"{_place(source, split, language)}: {type(error).__name__}: {reason}") from error

    def _build(
        self,
        task: Task,
        source: HubSource,
        table: Any,
        columns: Mapping[str, str | tuple[str, ...]],
        split: str,
        language: str,
        on_bad_row: OnBadRow,
        reasons: list[str],
    ) -> Loaded:
        place = _place(source, split, language)
        digest = hashlib.sha256()
        rows = _rows(table, columns, place, language, digest)
        built = list(build_all(rows, ExampleBuilder(task, language), on_bad_row))
        examples = tuple(each for each in built if not isinstance(each, str))
        dropped = tuple(each for each in built if isinstance(each, str))
        if not examples:
            why = f"all {len(dropped)} rows dropped, the first: {dropped[0]}" if dropped else "found none"
            raise DataError(f"{place}: {why}; expected rows of task '{task.name}' in language {language}.")
        warnings = [f"{reason}; {source.id} was read in its place." for reason in reasons]
        return Loaded(
            examples=examples,
            dropped=dropped,
            files=(FileDigest(f"{place}: {language}", digest.hexdigest()),),  # one configuration may mix languages
            origin=f"hub dataset {place}",
            warnings=(*warnings, *one_label_warning(task, examples, place)),
        )


def _config(source: HubSource, language: str) -> str | None:
    if source.configs:
        return source.configs.get(language)
    return source.config.replace("{language}", language) if source.config else None


def _place(source: HubSource, split: str, language: str) -> str:
    """Return "id (config C, split S)" for messages and records."""
    config = _config(source, language)
    parts = [f"config {config}"] if config else []
    parts.append(f"split {source.splits[split]}")
    if source.revision:
        parts.append(f"revision {source.revision}")
    return f"{source.id} ({', '.join(parts)})"


def _check_columns(source: HubSource, table: Any) -> Mapping[str, str | tuple[str, ...]]:
    """Return the columns by role, or refuse the repository if it lacks one."""
    found = list(table.column_names)
    for role, column in source.columns.items():
        for name in (column,) if isinstance(column, str) else column:
            if name not in found:
                raise _Unusable(
                    f"{source.id}: no column '{name}' (for {role}), found: {', '.join(found)}"
                    f"{did_you_mean(name, found).rstrip('?')}"
                )
    return source.columns


def _rows(
    table: Any, columns: Mapping[str, str | tuple[str, ...]], place: str, language: str, digest: Any
) -> Iterator[Row]:
    """Yield the rows of one language; feed the digest with what was read, free of storage details."""
    names = {role: _class_names(table, columns[role]) for role in ("label", "tags") if role in columns}
    shown = {role: column for role, column in columns.items() if isinstance(column, str)}
    within = 0  # counted in the language: where one table holds several, translations get the same number
    for number, record in enumerate(table):
        if "language" in columns and _language(record[str(columns["language"])]) != language:
            continue
        values = {
            role: record[column] if isinstance(column, str) else [record[each] for each in column]
            for role, column in columns.items()
            if role != "language"
        }
        for role, known in names.items():
            if known is not None:
                values[role] = _named(values[role], known)
        for role in ("text", "english"):
            text = values.get(role)
            if isinstance(text, str):
                values[role] = text.rstrip("\r\n")  # Tatoeba sentences kept their line ends
        digest.update(json.dumps(values, sort_keys=True, ensure_ascii=True).encode())
        yield Row(f"{place} row {number}", f"{language}:{within}", values, shown)
        within += 1


def _class_names(table: Any, column: str | tuple[str, ...]) -> list[str] | None:
    """Return the names of an integer class column (or of a list of them), if the repository gives them."""
    feature = table.features[column]
    inner = getattr(feature, "feature", feature)
    inner = inner[0] if isinstance(inner, list) else inner
    return getattr(inner, "names", None)


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    return names[value] if type(value) is int and 0 <= value < len(names) else value


def _language(value: Any) -> str:
    """Return the language of a row from its code ("en") or from an id such as "arabic-12-0"."""
    text = str(value)
    return language_of_name(text.partition("-")[0]) or text
