"""The schema of a data index (`adapterxl-data.yaml`): which files hold which task, and how to read them."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from adapterxl.errors import did_you_mean

INDEX_NAME = "adapterxl-data.yaml"
SPLITS = ("train", "dev", "test")
ROLES = (
    "id", "text", "text_pair", "label", "words", "tags", "context", "question", "question_pivot", "answers",
    "choices", "english",
)  # fmt: skip
Reader = Literal["csv", "tsv", "jsonl", "iob", "conllu", "squad", "bitext", "lines", "bucc", "mewslix"]
TABLE_READERS = ("csv", "tsv", "jsonl")


def _relative(path: str) -> str:
    """Refuse a path that is absolute or leaves the folder of the index."""
    pure = PurePosixPath(path)
    if not path.strip() or pure.is_absolute() or PureWindowsPath(path).drive or "\\" in path or "\0" in path:
        raise ValueError("expected a path relative to the index, with /")
    if ".." in pure.parts:
        raise ValueError("expected a path inside the folder of the index, with no '..'")
    return path


def _role(name: str) -> str:
    if name not in ROLES:
        raise ValueError(f"expected one of: {', '.join(ROLES)}.{did_you_mean(name, ROLES)}")
    return name


RelativePath = Annotated[str, AfterValidator(_relative)]
LanguageCode = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]
Column = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=0, le=10_000)]


def _several(files: object) -> object:
    """One file may stand without brackets."""
    return [files] if isinstance(files, str) else files


Files = dict[LanguageCode, Annotated[list[RelativePath], Field(min_length=1), BeforeValidator(_several)]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Entry(_Strict):
    """How one task lies in files.

    Attributes:
        reader: Format of the files.
        header: csv and tsv: whether the first row names the columns (default: yes unless columns are numbers).
        columns: Role -> column name, or number counted from 0; `choices` takes a list, or in jsonl the name of one.
        labels_file: One label a line, where the rows have none.
        label_names: The label set, for tasks that leave it to the data: JSON {label: number}, or one label a line.
        column: conllu: which tags.
        extra: Further keys of squad files that are known and not read here.
        pivot: Language -> language of the pivot question.
        note: For people.
        train_from: The task whose training files are used.
        translated: Languages whose training rows are machine translations of the English ones (translate-train).
        train, dev, test: Language -> files relative to the index.
        pool: mewslix: what is looked for; "all" -> files that hold it in all languages.
    """

    reader: Reader
    header: bool | None = None
    columns: dict[Annotated[str, AfterValidator(_role)], Column | Annotated[list[Column], Field(min_length=2)]] = Field(
        default_factory=dict
    )
    labels_file: RelativePath | None = None
    label_names: RelativePath | None = None
    column: Literal["upos", "xpos"] | None = None
    extra: list[str] = Field(default_factory=list)
    pivot: dict[str, str] = Field(default_factory=dict)
    note: str = ""
    train_from: str | None = None
    translated: list[LanguageCode] = Field(default_factory=list)
    train: Files = Field(default_factory=dict)
    dev: Files = Field(default_factory=dict)
    test: Files = Field(default_factory=dict)
    pool: Files = Field(default_factory=dict)

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Return split -> languages, without empty splits."""
        found = {"train": self.train, "dev": self.dev, "test": self.test, "pool": self.pool}
        return {split: tuple(files) for split, files in found.items() if files}

    def files(self, split: str, language: str) -> list[str]:
        """Return the files of a split in a language, relative to the index."""
        return {"train": self.train, "dev": self.dev, "test": self.test, "pool": self.pool}[split][language]

    @property
    def has_header(self) -> bool:
        """Say whether the first row of a table names the columns."""
        if self.header is not None:
            return self.header
        return any(isinstance(column, str) for column in self._all_columns())

    def _all_columns(self) -> list[str | int]:
        flat: list[str | int] = []
        for column in self.columns.values():
            flat.extend(column if isinstance(column, list) else [column])
        return flat

    @model_validator(mode="after")
    def _fits_its_reader(self) -> Entry:
        if not self.splits:
            raise ValueError("reader: found no files, expected at least one of train, dev and test")
        for key, readers in (
            ("columns", TABLE_READERS),
            ("header", ("csv", "tsv")),
            ("labels_file", TABLE_READERS),
            ("column", ("conllu",)),
            ("extra", ("squad",)),
            ("pivot", ("jsonl",)),
            ("pool", ("mewslix",)),
        ):
            if getattr(self, key) not in (None, {}, []) and self.reader not in readers:
                raise ValueError(f"{key}: has no meaning for reader {self.reader}; it belongs to {', '.join(readers)}")
        if self.reader in TABLE_READERS:
            self._check_columns()
        if strangers := [language for language in self.translated if language not in self.train]:
            raise ValueError(f"translated: found {strangers[0]}, expected languages of train: {', '.join(self.train)}")
        count = {split: {lang: len(self.files(split, lang)) for lang in langs} for split, langs in self.splits.items()}
        several = {"bitext": ("language", "English"), "bucc": ("language", "English", "gold pairs")}.get(self.reader)
        if several:
            for split, languages in count.items():
                for language, number in languages.items():
                    if number != len(several):
                        names = ", ".join(several)
                        raise ValueError(
                            f"{split}.{language}: found {number} file(s), expected {len(several)} ({names})"
                        )
        if self.reader == "mewslix" and tuple(self.pool) != ("all",):
            raise ValueError("pool: expected the files of candidate entities, as all: [candidate_set_entities.jsonl]")
        if self.labels_file and sum(sum(languages.values()) for languages in count.values()) != 1:
            raise ValueError("labels_file: goes with exactly one data file in the whole entry")
        return self

    def _check_columns(self) -> None:
        if not self.columns:
            raise ValueError(f"columns: missing; reader {self.reader} needs them, such as text: column name")
        for role, column in self.columns.items():
            if isinstance(column, list) and role != "choices":
                raise ValueError(f"columns.{role}: found a list, expected one column")
            if role == "choices" and not isinstance(column, list) and self.reader != "jsonl":
                raise ValueError("columns.choices: expected a list of columns, one a choice")
        texts = [column for column in self._all_columns() if isinstance(column, str)]
        if self.reader == "jsonl" and len(texts) != len(self._all_columns()):
            raise ValueError("columns: expected names for reader jsonl, not numbers")
        if self.reader != "jsonl" and texts and not self.has_header:
            raise ValueError(f"columns: the name '{texts[0]}' needs header: true; without a header give numbers from 0")


class Index(_Strict):
    """A whole index file."""

    format: Literal[1]
    tasks: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], Entry] = Field(min_length=1)
