"""The scores file: what one module reached in one task, language by language; typed and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from adapterxl.durable import write_file
from adapterxl.errors import DataError, UsageError, did_you_mean

FORMAT: Literal[1] = 1

Option = str | int | float | bool | None


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Record(_Model):
    """One number: a metric in one language.

    Attributes:
        language: Language of the text; of the question where `context_language` is given.
        context_language: Language of the context in cross-lingual question answering (MLQA).
        direction: Which side is the query in retrieval, such as "de->en".
        value: 0 to 1.
        n: Examples behind the number.
        primary: Whether the task is judged by this metric.
    """

    language: str = Field(min_length=1)
    split: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    value: float = Field(ge=0, le=1)
    n: int = Field(ge=1)
    primary: bool
    context_language: str | None = None
    direction: str | None = None

    @property
    def crossed(self) -> bool:
        """Question and context are in two languages, so that it is no score of either."""
        return self.context_language is not None and self.context_language != self.language


class BaseInfo(_Model):
    """The backbone: a hub id with its revision, or a local one that has its fingerprint only."""

    name: str = Field(min_length=1)
    fingerprint: str = Field(min_length=1)
    id: str | None = None
    revision: str | None = None


class ModuleInfo(_Model):
    """What was scored.

    Attributes:
        name: Short name.
        digest: Digest of the artifact; None for the backbone alone and what was never saved.
        path: Folder it was read from.
        task: What it was trained for; None for the backbone alone and for a composition scored as it is.
        method: "lora", "bottleneck", ..., "none".
        composition: Text of the composition it was started from, or that is scored as it is;
            None = no intermediate task.
        parts: Names of the modules in it.
        parameters: Trained parameters.
        bytes: Size on disk.
        train_seconds: Time its training took.
    """

    name: str = Field(min_length=1)
    method: str = Field(min_length=1)
    digest: str | None = None
    path: str | None = None
    task: str | None = None
    composition: str | None = Field(default=None, min_length=1)
    parts: list[str] = Field(default_factory=list)
    parameters: int = Field(default=0, ge=0)
    bytes: int | None = Field(default=None, ge=0)
    train_seconds: float | None = Field(default=None, ge=0)


class Attention(_Model):
    """How much a fusion listened to each of its members at one place, on average over the tokens of one language.

    Attributes:
        fusion: Name of the fusion.
        site: A Linear ("query"), or a place after a block ("attention", "ffn").
        members: Names of the members that act there.
        weights: Their mean shares; they sum to 1.
        tokens: How many tokens.
    """

    language: str = Field(min_length=1)
    fusion: str = Field(min_length=1)
    layer: int = Field(ge=0)
    site: str = Field(min_length=1)
    members: list[str] = Field(min_length=2)
    weights: list[Annotated[float, Field(ge=0, le=1)]]
    tokens: int = Field(ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.weights) != len(self.members):
            raise ValueError(f"weights: has {len(self.weights)} for {len(self.members)} members")
        if abs(sum(self.weights) - 1) > 1e-4:
            raise ValueError(f"weights: sum to {sum(self.weights):.4f}, expected 1")
        return self


def language_values(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Return metric -> language -> value (0 to 1), directions of retrieval averaged within a language.

    Records whose question and context are in two languages belong to no single language and stay out.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if not record.crossed:
            found.setdefault(record.metric, {}).setdefault(record.language, []).append(record.value)
    return {
        metric: {language: fmean(values) for language, values in languages.items()}
        for metric, languages in found.items()
    }


def zero_shot_mean(records: Iterable[Record], source_language: str) -> dict[str, float]:
    """Return metric -> unweighted mean over the languages other than the source language (0 to 1).

    A metric that was measured in no other language has no entry.
    """
    means = {}
    for metric, languages in language_values(records).items():
        # The source language is not a transfer result, so it stays out of the mean.
        targets = [value for language, value in languages.items() if language != source_language]
        if targets:
            means[metric] = fmean(targets)
    return means


class Scores(_Model):
    """All scores of one module in one task with one seed: the content of a `scores.json`.

    `attention` is there only for a module with a fusion.
    """

    format: Literal[1] = FORMAT
    task: str = Field(min_length=1)
    base: BaseInfo
    module: ModuleInfo
    seed: int
    engine: str = Field(min_length=1)
    source_language: str = "en"
    train_from: str | None = None
    options: dict[str, Option] = Field(default_factory=dict)
    records: list[Record] = Field(min_length=1)
    expected_languages: list[str] = Field(min_length=1)
    partial: bool
    zero_shot_mean: dict[str, float]
    versions: dict[str, str] = Field(default_factory=dict)
    seconds: float = Field(ge=0)
    peak_memory_bytes: int | None = Field(default=None, ge=0)
    attention: list[Attention] | None = None
    _origin: str | None = PrivateAttr(default=None)

    @property
    def origin(self) -> str:
        """The file these scores were read from, or the module they are of: for messages."""
        return self._origin or f"the scores of module '{self.module.name}'"

    def __eq__(self, other: object) -> bool:
        # Where scores were read from is no part of what they say.
        return isinstance(other, Scores) and self.model_dump() == other.model_dump()

    @classmethod
    def build(
        cls,
        *,
        task: str,
        base: BaseInfo,
        module: ModuleInfo,
        seed: int,
        engine: str,
        records: Sequence[Record],
        expected_languages: Sequence[str],
        versions: Mapping[str, str],
        seconds: float,
        peak_memory_bytes: int | None = None,
        source_language: str = "en",
        train_from: str | None = None,
        options: Mapping[str, Option] | None = None,
        attention: Sequence[Attention] | None = None,
    ) -> Self:
        """Return scores with `partial` and `zero_shot_mean` computed from the records."""
        return cls(
            task=task,
            base=base,
            module=module,
            seed=seed,
            engine=engine,
            source_language=source_language,
            train_from=train_from,
            options=dict(options or {}),
            records=list(records),
            expected_languages=list(expected_languages),
            partial=bool(_missing(expected_languages, records)),
            zero_shot_mean=zero_shot_mean(records, source_language),
            versions=dict(versions),
            seconds=seconds,
            peak_memory_bytes=peak_memory_bytes,
            attention=list(attention) if attention else None,
        )

    @property
    def missing_languages(self) -> list[str]:
        """Expected languages without a record, in the expected order."""
        return _missing(self.expected_languages, self.records)

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: set[tuple[str, str, str | None, str | None]] = set()
        primary: dict[str, bool] = {}
        for position, record in enumerate(self.records):
            key = (record.metric, record.language, record.context_language, record.direction)
            if key in seen:
                raise ValueError(f"records[{position}]: a second '{record.metric}' for '{record.language}'")
            seen.add(key)
            if primary.setdefault(record.metric, record.primary) != record.primary:
                raise ValueError(f"records[{position}].primary: '{record.metric}' is primary in some only")
        if not any(primary.values()):
            raise ValueError("records: none is marked as primary")
        if self.partial != bool(self.missing_languages):
            missing = ", ".join(self.missing_languages) or "none"
            raise ValueError(f"partial: is {self.partial}, but the missing languages are: {missing}")
        means = zero_shot_mean(self.records, self.source_language)
        if means.keys() != self.zero_shot_mean.keys() or any(
            abs(means[metric] - self.zero_shot_mean[metric]) > 1e-9 for metric in means
        ):
            raise ValueError(f"zero_shot_mean: is {self.zero_shot_mean}, but the records give {means}")
        return self

    def save(self, path: str | Path, predictions: Iterable[Mapping[str, Any]] | None = None) -> Path:
        """Write the scores to `path` and the predictions to ``<stem>.predictions.jsonl`` beside it.

        Each file is written whole or not at all. Without `predictions`, a predictions file that is
        left from an earlier run is removed, as it would not belong to these scores.

        Args:
            path: A name that ends in ``.json``; folders are made.
            predictions: Per example: language, id, prediction, gold. Read once, never held in memory.

        Raises:
            UsageError: If the name does not end in ``.json`` or nothing can be written there.
        """
        path = Path(path)
        if path.suffix != ".json":
            raise UsageError(f"{path}: found no .json name, expected one for scores, such as scores.json")
        beside = path.with_name(f"{path.stem}.predictions.jsonl")
        if predictions is not None:
            write_whole(beside, (_dumps(row) + "\n" for row in predictions))
        content = self.model_dump(mode="json", exclude={"attention"} if self.attention is None else None)
        write_whole(path, [_dumps(content, indent=2) + "\n"])
        if predictions is None:
            beside.unlink(missing_ok=True)
        self._origin = str(path)  # a report finds the predictions beside it
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a scores file.

        Raises:
            DataError: One line with the file, the line or field, what was found and what was expected.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: byte {error.start} is not UTF-8, as a scores file is.") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}). Expected a scores file.") from None
        try:
            data = json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{error.lineno}: not valid JSON at column {error.colno} ({error.msg}). "
                "Was the file cut off? Write it again with: adapterxl evaluate"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not a scores file ({error}).") from None
        if not isinstance(data, dict):
            raise DataError(f"{path}: found a JSON {type(data).__name__}, expected a scores object.")
        found = data.get("format")
        if type(found) is not int or found != FORMAT:
            raise DataError(
                f"{path}: field 'format' is {found!r}, expected {FORMAT}. "
                "It is not a scores file, or another version of adapterxl wrote it."
            )
        try:
            scores = cls.model_validate_json(text, strict=True)
        except ValidationError as error:
            raise DataError(f"{path}: {_describe(error)}") from None
        scores._origin = str(path)
        return scores


def write_whole(path: Path, parts: Iterable[str]) -> None:
    """Write a UTF-8 text file in one step: a reader sees the old content or the new one, never a part.

    Raises:
        UsageError: If the file or its folder cannot be written.
    """
    try:
        write_file(path, (part.encode() for part in parts))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}).") from error


def _missing(expected: Iterable[str], records: Iterable[Record]) -> list[str]:
    present = {record.language for record in records}
    return [language for language in dict.fromkeys(expected) if language not in present]


def _dumps(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate, which some JSON data sets hold, has no UTF-8 form; its escape is exact.
        return json.dumps(value, allow_nan=False, indent=indent)
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that a score can have")


def _describe(error: ValidationError) -> str:
    """Return the first problem as one sentence that starts with the field."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ""
    for step in first["loc"]:
        field += f"[{step}]" if isinstance(step, int) else f".{step}" if field else str(step)
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = {name for model in (Scores, Record, BaseInfo, ModuleInfo, Attention) for name in model.model_fields}
        return f"field '{field}' is not known.{did_you_mean(str(first['loc'][-1]), known)}{more}"
    if first["type"] == "missing":
        return f"field '{field}' is missing.{more}"
    message = first["msg"].removeprefix("Value error, ")
    if not field:
        return f"field {message}.{more}"
    return f"field '{field}' is {str(first['input'])[:80]!r}: {message[0].lower()}{message[1:]}.{more}"
