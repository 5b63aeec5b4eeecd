"""Tasks from the Hugging Face hub, or from local folders in its layout, through the datasets library."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterxl.data.lock import Lock, Locked
from adapterxl.data.rows import BadRow, ExampleBuilder, Row, build_all, value_at
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
        lock: What sources gave at first use.

    Args:
        lock: Its file; by default one for all, in the cache.
        accept: Rows that differ from those of first use are the right ones from now on.
    """

    def __init__(self, cache_dir: str | None = None, *, lock: str | Path | None = None, accept: bool = False) -> None:
        self.cache_dir, self.lock = cache_dir, Lock(lock, accept=accept)

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
        crossed = [f"{a}.{b}" for a in task.languages for b in task.languages if task.pairs and a != b]
        return {split: (*task.languages, *crossed) for split in ("train", "dev", "test") if split in found}

    def languages(self, task: Task, split: str) -> tuple[str, ...]:
        """Return the languages of one split of a task."""
        return pick_split(task, self.splits(task), split, self.describe)

    def load(self, task: Task, split: str, language: str, *, on_bad_row: OnBadRow = "stop") -> Loaded:
        """Read one split of a task in one language; see DataSource.load."""
        check_language(task, split, language, self.languages(task, split), self.describe)
        question, context = task.spoken(language)
        reasons: list[str] = []
        for source in task.hub:
            if split not in source.splits or (source.configs and language not in source.configs):
                continue
            try:
                table = self._table(source, split, (question, context or ""))
                columns = _check_columns(source, table)
            except _Unusable as reason:
                reasons.append(str(reason))
                continue
            place = _place(source, split, (question, context or ""))
            return self._build(task, source, table, columns, place, split, language, on_bad_row, reasons)
        raise DataError(
            f"{'; '.join(reasons)}. Task '{task.name}' ({split}, {language}) could not be read from the hub: "
            "check the connection, or give a folder with its files: --data DIR"
        )

    def _table(self, source: HubSource, split: str, spoken: tuple[str, str]) -> Any:
        from datasets import load_dataset  # slow to import, and not needed for local files

        try:
            return load_dataset(
                source.id,
                name=_config(source, spoken),
                data_dir=_folder(source, spoken),
                split=source.splits[split],
                revision=source.revision,
                cache_dir=self.cache_dir,
            )
        except Exception as error:  # many kinds: network, missing configuration, damaged file
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise _Unusable(f"{_place(source, split, spoken)}: {type(error).__name__}: {reason}") from error

    def _build(
        self,
        task: Task,
        source: HubSource,
        table: Any,
        columns: Mapping[str, str | tuple[str, ...]],
        place: str,
        split: str,
        language: str,
        on_bad_row: OnBadRow,
        reasons: list[str],
    ) -> Loaded:
        rows = _Rows(source, table, place, language)
        builder = ExampleBuilder(task, language, training=split == "train", by_name=source.by_name)
        built = list(build_all(rows, builder, on_bad_row))
        found = Locked(revision=_revision(table), sha256=rows.digest.hexdigest(), rows=rows.count)
        changed = self.lock.check(f"{place}: {language}", found) if rows.count else None
        examples = tuple(each for each in built if not isinstance(each, str))
        dropped = tuple(each for each in built if isinstance(each, str))
        if not examples:
            why = f"all {len(dropped)} rows dropped, the first: {dropped[0]}" if dropped else "found none"
            raise DataError(f"{place}: {why}; expected rows of task '{task.name}' in language {language}.")
        warnings = [f"{reason}; {source.id} was read in its place." for reason in reasons]
        warnings += [changed] if changed else []
        if rows.left_out:
            why = ", ".join(f"{role} {' or '.join(map(str, values))}" for role, values in source.leave_out.items())
            warnings.append(f"{place}: {rows.left_out:,} rows have {why}, which marks none of the task's: left out.")
        return Loaded(
            examples=examples,
            dropped=dropped,
            files=(FileDigest(f"{place}: {language}", found.sha256),),  # one configuration may mix languages
            origin=f"hub dataset {place}",
            warnings=(*warnings, *one_label_warning(task, examples, place)),
            translated=source.translated and split == "train" and language != task.source_language,
        )


def _config(source: HubSource, spoken: tuple[str, str]) -> str | None:
    return _filled(source.config, source, spoken)


def _folder(source: HubSource, spoken: tuple[str, str]) -> str | None:
    return _filled(source.folder, source, spoken)


def _filled(template: str | None, source: HubSource, spoken: tuple[str, str]) -> str | None:
    codes = {"{config}": source.configs.get(spoken[0], ""), "{language}": spoken[0], "{context}": spoken[1]}
    for name, code in codes.items():
        template = template and template.replace(name, code)
    return template


def _place(source: HubSource, split: str, spoken: tuple[str, str]) -> str:
    """Return "id (config C, split S)" for messages and records."""
    given = {
        "config": _config(source, spoken),
        "folder": _folder(source, spoken),
        "split": source.splits[split],
        "revision": source.revision,
    }
    return f"{source.id} ({', '.join(f'{name} {value}' for name, value in given.items() if value)})"


def _revision(table: Any) -> str | None:
    """Return the commit that a table is of, after which the library names its folder; None for a folder of one's own.

    That way it is also known without a network.
    """
    names = {Path(file["filename"]).parent.name for file in table.cache_files}
    return next((name for name in names if re.fullmatch("[0-9a-f]{40}", name)), None)


def _check_columns(source: HubSource, table: Any) -> Mapping[str, str | tuple[str, ...]]:
    """Return the columns by role, or refuse the repository if it lacks one."""
    found = list(table.column_names)
    for role, column in source.columns.items():
        for name in (column,) if isinstance(column, str) else column:
            if name not in found and name.partition(".")[0] not in found:
                raise _Unusable(
                    f"{source.id}: no column '{name}' (for {role}), found: {', '.join(found)}"
                    f"{did_you_mean(name, found).rstrip('?')}"
                )
    return source.columns


class _Rows:
    """The rows of one language in a table, to be read once.

    Attributes:
        digest: Of what was read, free of storage details.
        count: Rows read, in the language: where one table holds several, translations get the same number.
        left_out: Rows that the source says are none of the task's.
    """

    def __init__(self, source: HubSource, table: Any, place: str, language: str) -> None:
        self.source, self.table, self.place, self.language = source, table, place, language
        self.digest, self.count, self.left_out = hashlib.sha256(), 0, 0

    def __iter__(self) -> Iterator[Row | BadRow]:
        columns = self.source.columns
        names = {role: _class_names(self.table, columns[role]) for role in ("label", "tags") if role in columns}
        shown_as = {role: column for role, column in columns.items() if isinstance(column, str)}
        for number, record in enumerate(self.table):
            if "language" in columns and _language(record[str(columns["language"])]) != self.language:
                continue
            where = f"{self.place} row {number}"
            try:
                values = {
                    role: value_at(record, column) if isinstance(column, str) else [value_at(record, c) for c in column]
                    for role, column in columns.items()
                    if role != "language"
                }
            except KeyError as error:
                yield BadRow(where, f"{error.args[0]}: no such key, found: {', '.join(error.args[1]) or 'no object'}.")
                continue
            if any(values[role] in unwanted for role, unwanted in self.source.leave_out.items()):
                self.left_out += 1
                continue
            for role, known in names.items():
                if known is not None:
                    values[role] = _named(values[role], known)
            for role in ("text", "english"):
                text = values.get(role)
                if isinstance(text, str):
                    values[role] = text.rstrip("\r\n")  # Tatoeba sentences kept their line ends
            self.digest.update(json.dumps(values, sort_keys=True, ensure_ascii=True).encode())
            yield Row(where, f"{self.language}:{self.count}", values, shown_as)
            self.count += 1


def _class_names(table: Any, column: str | tuple[str, ...]) -> list[str] | None:
    """Return the names of an integer class column (or of a list of them), if the repository gives them."""
    feature = table.features.get(column)
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
