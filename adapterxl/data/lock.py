"""The lock of hub data: what each source gave when it was first used; other rows later are refused until accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from adapterxl.durable import write_file
from adapterxl.errors import DataError
from adapterxl.folders import alone, cache_folder

NAME = "hub-data.lock.json"
Entry = TypeVar("Entry", bound=BaseModel)


class Locked(BaseModel):
    """What a source gave: the commit of its repository (None for a folder), digest and number of its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    revision: str | None
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int = Field(ge=0)

    def __str__(self) -> str:
        at = f" at revision {self.revision[:12]}" if self.revision else ""
        return f"{self.rows:,} rows with digest {self.sha256[:12]}{at}"


def default_lock() -> Path:
    """Return the lock file that is used unless another is named: in the cache, which ADAPTERXL_CACHE names."""
    return cache_folder() / NAME


class LockFile(Generic[Entry]):
    """A JSON file with what was found at first use, by source.

    Attributes:
        path: Where it is; made at first use.
    """

    def __init__(self, path: Path, entry: type[Entry]) -> None:
        self.path = path
        self._content = create_model(
            "LockContent",
            __config__=ConfigDict(extra="forbid", strict=True),
            format=(Literal[1], 1),
            sources=(dict[str, entry], {}),  # type: ignore[valid-type]
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out: each reads what the one before wrote."""
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(self.path.with_name(f".{self.path.name}.held")))
            except OSError as error:
                raise DataError(
                    f"{self.path}: cannot be written ({error.strerror}). Name another with --lock."
                ) from error
            yield

    def read(self) -> dict[str, Entry]:
        """Every entry by its source; none where there is no file yet."""
        try:
            return dict(self._content.model_validate_json(self.path.read_bytes()).sources)  # type: ignore[attr-defined]
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise DataError(
                f"{self.path}: no lock file that can be read: {reason}. Restore it or delete it."
            ) from error

    def write(self, sources: Mapping[str, Entry]) -> None:
        """Replace the file, in one step."""
        text = json.dumps(self._content(sources=sources).model_dump(), indent=1, sort_keys=True, ensure_ascii=False)
        try:
            write_file(self.path, f"{text}\n".encode())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}). Name another with --lock.") from error


class Lock:
    """What sources gave at first use.

    Attributes:
        file: The file itself, made at first use.
        accept: Take rows that differ for the right ones, and record them.
    """

    def __init__(self, path: str | Path | None = None, *, accept: bool = False) -> None:
        self.file, self.accept = LockFile(Path(path) if path is not None else default_lock(), Locked), accept

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    def check(self, source: str, found: Locked) -> str | None:
        """Record a source at first use, or compare it with what was recorded.

        Another revision with the same rows is no difference.

        Returns:
            A line for the user where a difference was accepted.

        Raises:
            DataError: If the rows differ, or the lock file cannot be read or written.
        """
        with self.file.held():
            sources = self.file.read()
            known = sources.get(source)
            if known is not None and known.sha256 == found.sha256:
                return None
            if known is not None and not self.accept:
                raise DataError(
                    f"{source}: found {found}, expected {known}, as at first use ({self.path}). The data has changed: "
                    "results would not compare with earlier ones. If that is meant, say --accept-data."
                )
            self.file.write(sources | {source: found})
        return None if known is None else f"{source}: {found} taken in place of {known}."
