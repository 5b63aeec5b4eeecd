"""The lock of hub data: what each source gave when it was first used; other rows later are refused until accepted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterxl.durable import write_file
from adapterxl.errors import DataError
from adapterxl.folders import alone, cache_folder

NAME = "hub-data.lock.json"


class Locked(BaseModel):
    """What a source gave: the commit of its repository (None for a folder), digest and number of its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    revision: str | None
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int = Field(ge=0)

    def __str__(self) -> str:
        at = f" at revision {self.revision[:12]}" if self.revision else ""
        return f"{self.rows:,} rows with digest {self.sha256[:12]}{at}"


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    format: int = Field(default=1, ge=1, le=1)
    sources: dict[str, Locked] = Field(default_factory=dict)


def default_lock() -> Path:
    """Return the lock file that is used unless another is named: in the cache, which ADAPTERXL_CACHE names."""
    return cache_folder() / NAME


class Lock:
    """A lock file.

    Attributes:
        path: Where it is; made at first use.
        accept: Take rows that differ for the right ones, and record them.
    """

    def __init__(self, path: str | Path | None = None, *, accept: bool = False) -> None:
        self.path, self.accept = Path(path) if path is not None else default_lock(), accept

    def check(self, source: str, found: Locked) -> str | None:
        """Record a source at first use, or compare it with what was recorded.

        Another revision with the same rows is no difference.

        Returns:
            A line for the user where a difference was accepted.

        Raises:
            DataError: If the rows differ, or the lock file cannot be read or written.
        """
        with self._held():
            content = self._read()
            known = content.sources.get(source)
            if known is not None and known.sha256 == found.sha256:
                return None
            if known is not None and not self.accept:
                raise DataError(
                    f"{source}: found {found}, expected {known}, as at first use ({self.path}). The data has changed: "
                    "results would not compare with earlier ones. If that is meant, say --accept-data."
                )
            content.sources[source] = found
            self._write(content)
        return None if known is None else f"{source}: {found} taken in place of {known}."

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other processes out: each reads what the one before wrote."""
        try:
            with alone(self.path.with_name(f".{self.path.name}.held")):
                yield
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}). Name another with --lock.") from error

    def _read(self) -> _Content:
        try:
            return _Content.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return _Content()
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.errors()[0]["msg"]
            raise DataError(
                f"{self.path}: no lock file that can be read: {reason}. Restore it or delete it."
            ) from error

    def _write(self, content: _Content) -> None:
        text = json.dumps(content.model_dump(), indent=1, sort_keys=True, ensure_ascii=False)
        try:
            write_file(self.path, f"{text}\n".encode())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}). Name another with --lock.") from error
