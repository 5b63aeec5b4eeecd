"""LocalIndex: tasks from the files that a data index names."""

from __future__ import annotations

import hashlib
import itertools
import json
import stat
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from adapterxl.data.readers_search import read_bucc, read_entities, read_mentions
from adapterxl.data.readers_squad import read_squad
from adapterxl.data.readers_table import read_bitext, read_csv, read_jsonl, read_lines, read_tsv, with_labels
from adapterxl.data.readers_tag import read_conllu, read_iob
from adapterxl.data.rows import REQUIRED, BadRow, ExampleBuilder, Row, build_all
from adapterxl.data.schema import INDEX_NAME, TABLE_READERS, Entry, Index
from adapterxl.data.source import FileDigest, Loaded, OnBadRow, check_language, one_label_warning, pick_split
from adapterxl.data.textfile import TextFile, parse_json, read_text_file
from adapterxl.data.yamlfile import load_yaml, validate
from adapterxl.errors import DataError, TaskError, did_you_mean
from adapterxl.tasks.base import Form, Task

# Forms of rows that each reader can give; a table gives nearly all, through its columns.
_FORMS: Mapping[str, tuple[Form, ...]] = {
    "csv": ("classify", "tag", "choice", "retrieve", "mask"),
    "tsv": ("classify", "tag", "choice", "retrieve", "mask"),
    "jsonl": ("classify", "tag", "span", "choice", "retrieve", "mask"),
    "iob": ("tag",),
    "conllu": ("tag",),
    "squad": ("span",),
    "bitext": ("retrieve",),
    "lines": ("mask",),
    "bucc": ("search",),
    "mewslix": ("search",),
}


class LocalIndex:
    """A data source of local files, described by an index.

    Attributes:
        path: The index file, for messages.
        root: The folder that all paths are relative to.
        entries: Task name -> how its files are read.
        prefix: Where the entries stand in the index file, for messages ("tasks." or nothing).
    """

    def __init__(self, path: Path, entries: Mapping[str, Entry], *, prefix: str = "tasks.") -> None:
        self.path, self.root, self.entries, self.prefix = path, path.parent, dict(entries), prefix

    @classmethod
    def open(cls, folder: str | Path) -> LocalIndex:
        """Read and check the index of a folder; data files are looked at when they are used.

        Raises:
            DataError: If the index is missing or does not fit the schema; names file and field.
        """
        path = Path(folder) / INDEX_NAME
        return cls(path, validate(Index, load_yaml(path), path).tasks)

    @property
    def describe(self) -> str:
        """Return the source in words."""
        return f"data index {self.path}"

    def splits(self, task: Task) -> dict[str, tuple[str, ...]]:
        """Return split -> languages of a task. Where languages may be crossed, "de.de" of the index is "de"."""
        found = self._entry(task).splits
        return {split: tuple(_shortened(task, key) for key in keys) for split, keys in found.items()}

    def labels(self, task: Task) -> tuple[str, ...]:
        """Return the label set of a task that leaves it to the data.

        Raises:
            DataError: If the entry names no file of labels, or one that gives no set of labels.
        """
        entry = self._entry(task)
        field = f"{self._at(task.name)}label_names"
        if entry.label_names is None:
            raise DataError(
                f"{self.path}: {field}: missing; the labels of '{task.name}' are not part of the package. "
                "Name the file that lists them."
            )
        return _label_names(self._file(entry.label_names, name="labels", field=field, use=f"task '{task.name}'"))

    def languages(self, task: Task, split: str) -> tuple[str, ...]:
        """Return the languages of one split of a task."""
        return pick_split(task, self.splits(task), split, self.describe)

    def load(self, task: Task, split: str, language: str, *, on_bad_row: OnBadRow = "stop") -> Loaded:
        """Read one split of a task in one language; see DataSource.load."""
        check_language(task, split, language, self.languages(task, split), self.describe)
        entry = self._entry(task)
        self._check_fit(task, entry)
        files = self._read(task, entry, split, language)
        labels = self._labels(task, entry, split, language)
        rows = itertools.chain.from_iterable(_rows(entry, files, labels, split, language))
        builder = ExampleBuilder(task, language, training=split == "train")
        built = list(build_all(rows, builder, on_bad_row))
        examples = tuple(each for each in built if not isinstance(each, str))
        dropped = tuple(each for each in built if isinstance(each, str))
        if not examples:
            raise DataError(
                f"{dropped[0] if dropped else files[0].shown + ':1: no row.'} No row of task '{task.name}' "
                f"({split}, {language}) is left: all {len(dropped)} were dropped."
            )
        return Loaded(
            examples=examples,
            dropped=dropped,
            files=tuple(FileDigest(file.relative, file.sha256) for file in (*files, *labels)),
            origin=f"{self.describe}, task {task.name}, split {split}, language {language}",
            warnings=one_label_warning(task, examples, files[0].shown),
            translated=split == "train" and language in entry.translated,
        )

    def content(self, task: Task) -> str | None:
        """Return the sha256 of all that a task's entry names (the entry and its files); None if it is not here.

        A missing file counts as absent: it is refused when it is used.
        """
        name = task.entry or task.name
        if name not in self.entries:
            return None
        entry = self.entries[name]
        digest = hashlib.sha256(entry.model_dump_json().encode())
        names = {path for split, known in entry.splits.items() for lang in known for path in entry.files(split, lang)}
        for relative in sorted(names | {path for path in (entry.labels_file, entry.label_names) if path}):
            path = self.root / relative
            digest.update(relative.encode() + (hash_file(path) if path.is_file() else b"absent"))
        return digest.hexdigest()

    def _entry(self, task: Task) -> Entry:
        name = task.entry or task.name
        if name not in self.entries:
            raise TaskError(
                f"{self.path}: no task '{name}', found: {', '.join(sorted(self.entries))}."
                f"{did_you_mean(name, self.entries)}"
            )
        return self.entries[name]

    def _check_fit(self, task: Task, entry: Entry) -> None:
        """Refuse an entry that cannot give rows of this kind before any file is read."""
        place = f"{self.path}: {self._at(task.name)}"
        kinds = _FORMS[entry.reader]
        if task.form not in kinds:
            able = [reader for reader, served in _FORMS.items() if task.form in served]
            raise DataError(
                f"{place}reader: found {entry.reader}, which holds {' or '.join(kinds)}, not rows "
                f"for a task of kind {task.form}; expected one of: {', '.join(able)}."
            )
        if entry.reader not in TABLE_READERS:
            return
        needed = [task.question if role == "question" else role for role in REQUIRED[task.form]]
        if task.hub:  # a shipped pair task stays a pair task, a choice with a question keeps it
            needed += [role for role in task.hub[0].columns if role not in ("id", "language", *needed)]
        for role in needed:
            if role not in entry.columns and not (role == "label" and entry.labels_file):
                raise DataError(
                    f"{place}columns.{role}: missing; task '{task.name}' needs it. "
                    f"Found columns: {', '.join(entry.columns)}."
                )

    def _at(self, name: str) -> str:
        return f"{self.prefix}{name}." if self.prefix else ""

    def _read(self, task: Task, entry: Entry, split: str, language: str) -> list[TextFile]:
        crossed = f"{language}.{language}"
        paths = entry.files(split, crossed if task.pairs and crossed in entry.splits[split] else language)
        # Ids of rows start with the shortest name that tells the files of this split apart.
        styles = ([Path(path).stem for path in paths], [Path(path).name for path in paths], paths)
        names = next((style for style in styles if len(set(style)) == len(paths)), paths)
        return [
            self._file(
                path,
                name=name,
                field=f"{self._at(task.name)}{split}.{language}[{n}]",
                use=f"task '{task.name}', split {split}, language {language}",
            )
            for n, (path, name) in enumerate(zip(paths, names, strict=True))
        ]

    def _labels(self, task: Task, entry: Entry, split: str, language: str) -> list[TextFile]:
        if entry.labels_file is None:
            return []
        field = f"{self._at(task.name)}labels_file"
        use = f"task '{task.name}', split {split}, language {language}"
        return [self._file(entry.labels_file, name="labels", field=field, use=use)]

    def _file(self, relative: str, *, name: str, field: str, use: str) -> TextFile:
        path = self.root / relative
        place = f"{self.path}: {field}: '{relative}'"
        try:
            resolved = path.resolve(strict=True)
            mode = resolved.stat().st_mode
        except (OSError, RuntimeError):
            raise DataError(
                f"{place} is missing ({use}; looked for {path}). Put the file there or correct the index."
            ) from None
        if not resolved.is_relative_to(self.root.resolve()):
            raise DataError(f"{place} is a link out of the folder of the index ({use}). Copy the file into it.")
        if not stat.S_ISREG(mode):
            raise DataError(f"{place} is no regular file ({use}). Name a file.")
        return read_text_file(resolved, shown=str(path), relative=relative, name=name)


def _shortened(task: Task, key: str) -> str:
    question, context = task.spoken(key)
    return question if question == context else key


def _label_names(file: TextFile) -> tuple[str, ...]:
    """Read {label: number} with numbers from 0 without gaps, or one label a line."""
    if not file.text.lstrip().startswith("{"):
        names = file.lines()
    else:
        try:
            numbers = parse_json(file.text)
        except ValueError as error:
            raise DataError(f"{file.shown}:1: no JSON that can be read: {error}.") from error
        names = sorted(numbers, key=lambda name: json.dumps(numbers[name]).zfill(9))
        if [numbers[name] for name in names] != list(range(len(names))):
            raise DataError(f"{file.shown}:1: expected the labels with the numbers 0 to {len(names) - 1}, each once.")
    wrong = next((n for n, name in enumerate(names) if not name.strip() or name in names[:n]), None)
    if wrong is not None or len(names) < 2:
        found = f"{len(names)} label" if wrong is None else f"label {wrong} empty or again ({names[wrong]!r})"
        raise DataError(f"{file.shown}: found {found}, expected two labels or more, each once.")
    return tuple(names)


@cache
def hash_file(path: Path) -> bytes:
    """sha256 of a file; it is read once a process."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _rows(
    entry: Entry, files: list[TextFile], labels: list[TextFile], split: str, language: str
) -> Iterator[Iterator[Row | BadRow]]:
    """Yield the rows of each file, or of files that belong together."""
    if entry.reader == "bucc":
        yield read_bucc(*files)
        return
    if entry.reader == "mewslix":
        yield from (read_entities(file) if split == "pool" else read_mentions(file, language) for file in files)
        return
    if entry.reader == "bitext":
        yield read_bitext(files[0], files[1])
        return
    for file in files:
        rows = _rows_of(entry, file)
        yield with_labels(rows, labels[0]) if labels else rows


def _rows_of(entry: Entry, file: TextFile) -> Iterator[Row | BadRow]:
    if entry.reader == "csv":
        return read_csv(file, entry.columns, header=entry.has_header)
    if entry.reader == "tsv":
        return read_tsv(file, entry.columns, header=entry.has_header)
    if entry.reader == "jsonl":
        return read_jsonl(file, entry.columns)
    if entry.reader == "lines":
        return read_lines(file)
    if entry.reader == "iob":
        return read_iob(file)
    if entry.reader == "conllu":
        return read_conllu(file, entry.column or "upos")
    return read_squad(file)
