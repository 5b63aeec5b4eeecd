"""What an augmentation is: an operator on training rows with a text, options, and facts for the lineage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from adapterxl.data.examples import Example
from adapterxl.data.resolve import DataLike
from adapterxl.errors import UsageError, did_you_mean
from adapterxl.tasks.base import Task


@dataclass(frozen=True)
class Augmented:
    """Training rows after an augmentation.

    Attributes:
        facts: What the lineage records: `operator` (its text) and what it did, as JSON values. With `rows_changed`, a
            training of which it is 0 for all tasks is refused.
        notes: Lines that a person should see.
        files: Path -> sha256 of what was read for it.
    """

    rows: tuple[Example, ...]
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


# (training rows of a task, the task, seed) -> the rows to train on.
Ready = Callable[[Sequence[Example], Task, int], Augmented]


class Augmentation(BaseModel):
    """A data operator with its options; a value with a text, such as ``codeswitch(ratio=0.5, lexicon=muse)``.

    Class attributes: `name`, `summary` (one line for `adapterxl list augmentations`), `source` (paper).

    Raises:
        UsageError: For an option that it does not have, or a value that does not fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            first = error.errors()[0]
            place, known = str(first["loc"][0]) if first["loc"] else "", list(type(self).model_fields)
            if first["type"] == "extra_forbidden":
                raise UsageError(
                    f"{self.name} has no option '{place}'.{did_you_mean(place, known)} Its options: {', '.join(known)}."
                ) from None
            found = f", {place}: found {first['input']!r}" if place else ""
            raise UsageError(f"{self.name}{found}: {first['msg'].removeprefix('Value error, ')}.") from None

    def __str__(self) -> str:
        given = {name: value for name, value in self if value != type(self).model_fields[name].default}
        return f"{self.name}({', '.join(f'{name}={_shown(value)}' for name, value in given.items())})"

    @property
    def adds(self) -> tuple[str, ...]:
        """Languages whose training rows, machine translated, are added before anything is applied."""
        return ()

    def content(self, data: DataLike) -> dict[str, str]:
        """Digests of the files that it reads, without reading them as what they are: what else decides its result."""
        return {}

    @abstractmethod
    def begin(self, data: DataLike) -> Ready | None:
        """Read what it needs, once for all tasks of a training; None where it only adds languages.

        Raises:
            AdapterXLError: If that is not there or cannot be read.
        """


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if not set(text) & set(" ,[]()\"'") else f'"{text}"'
