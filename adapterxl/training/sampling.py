"""`mix`: several tasks in one training, and how often each gives a batch. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.resolve import TaskLike
from ..errors import UsageError, did_you_mean
from ..tasks.base import Task

SAMPLINGS = ("proportional", "uniform", "temperature", "capped", "weights")


@dataclass(frozen=True)
class Mix:
    """Tasks that one module is trained for, with a head each; tasks of one kind with the same labels share theirs.

    Every batch is of one task, drawn at random with probability r / sum of all r, where of a task with n rows r is

    - proportional: n;
    - uniform: 1;
    - temperature=T: n ** (1 / T); 1 is proportional, and uniform is far away (Devlin et al. 2018's multilingual
      BERT; Arivazhagan et al. 2019, https://arxiv.org/abs/1907.05019);
    - capped=N: min(n, N) (examples-proportional mixing of T5, Raffel et al. 2020, https://arxiv.org/abs/1910.10683);
    - weights=4:1: as said, one for each task, whatever n: every fifth batch of the second.

    An epoch of a mix is as many batches as the rows of all its tasks fill.
    """

    tasks: tuple[TaskLike, ...]
    sampling: str = "proportional"

    def __post_init__(self) -> None:
        names = [short_name(task) for task in self.tasks]
        if len(names) < 2 or len(set(names)) < len(names):
            raise UsageError(f"mix({', '.join(names)}): expected at least two tasks, each named once.")
        object.__setattr__(self, "sampling", re.sub(r"\s", "", self.sampling))
        self._rule()

    def __str__(self) -> str:
        return f"mix({', '.join(str(short_name(task)) for task in self.tasks)}, sampling={self.sampling})"

    @property
    def name(self) -> str:
        """The name of the module, unless another is given."""
        return "-".join(short_name(task) for task in self.tasks).lower()[:64]

    def _rule(self) -> tuple[str, Any]:
        kind, _, text = self.sampling.partition("=")
        if kind == "weights":
            return kind, self._weights(text)
        if kind not in SAMPLINGS:
            raise UsageError(
                f"sampling: found '{self.sampling}'.{did_you_mean(kind, SAMPLINGS)} Expected proportional, uniform, "
                "temperature=T, capped=N or weights=A:B, such as temperature=2, capped=50000 or weights=4:1."
            )
        try:
            value = float(text) if text else 0.0
        except ValueError:
            value = -1.0
        if (value > 0 and np.isfinite(value)) != (kind in ("temperature", "capped")) or (text and value <= 0):
            wanted = f"{kind} with a number above 0, such as {kind}={2 if kind == 'temperature' else 50000}"
            raise UsageError(
                f"sampling: found '{self.sampling}', expected "
                f"{wanted if kind in ('temperature', 'capped') else f'{kind} without a number'}."
            )
        return kind, value

    def _weights(self, text: str) -> list[float]:
        try:
            weights = [float(weight) for weight in text.split(":")]
        except ValueError:
            weights = []
        if len(weights) != len(self.tasks) or not all(weight > 0 and np.isfinite(weight) for weight in weights):
            wanted = ":".join("4" if n == 0 else "1" for n in range(len(self.tasks)))
            raise UsageError(
                f"sampling: found '{self.sampling}', expected a weight above 0 for each of {len(self.tasks)} tasks, "
                f"such as weights={wanted}."
            )
        return weights

    def shares(self, rows: Sequence[int]) -> list[float]:
        """The probability of each task, for its number of training rows."""
        kind, value = self._rule()
        sizes = np.asarray(rows, dtype=float)
        rates = {
            "proportional": lambda: sizes,
            "uniform": lambda: np.ones_like(sizes),
            "weights": lambda: np.asarray(value),
            "temperature": lambda: (sizes / sizes.max()) ** (1 / value),
            "capped": lambda: np.minimum(sizes, value),
        }[kind]()
        found: list[float] = (rates / rates.sum()).tolist()
        return found

    def sampler(self, rows: Sequence[int], seed: int) -> Callable[[int], int]:
        """The task of each batch by the batch's number: a draw knows seed and number, and nothing of others."""
        shares = self.shares(rows)
        return lambda number: int(np.random.default_rng([seed, 4, number]).choice(len(shares), p=shares))


def mix(*tasks: TaskLike, sampling: str = "proportional") -> Mix:
    """Several tasks for one module; see `Mix`.

    Args:
        tasks: Task names, Tasks, or paths of a user's own `my_task.yaml`.
        sampling: "proportional", "uniform", "temperature=T", "capped=N" or "weights=A:B".

    Raises:
        UsageError: If there are fewer than two tasks, one is named twice, or the sampling is not one of these.
    """
    return Mix(tasks, sampling)


def read_mix(text: str, sampling: str | None = None) -> Mix:
    """A mix from its text: ``mix(squad, mnli)``, or with its sampling as `str` writes it."""
    inside = re.fullmatch(r"\s*mix\s*\((.*)\)\s*", text, re.DOTALL)
    words = [word.strip().strip("'\"") for word in inside[1].split(",")] if inside else []
    own = [word.partition("=")[2] for word in words if re.match(r"sampling\s*=", word)]
    tasks = [word for word in words if not re.match(r"sampling\s*=", word)]
    if not inside or not all(tasks) or len(own) > 1:
        raise UsageError(f"'{text}': cannot be read; write a mix as mix(squad, mnli).")
    if own and sampling is not None:
        raise UsageError(f"'{text}' says its sampling itself; leave out --sampling.")
    return mix(*tasks, sampling=sampling or (own[0] if own else "proportional"))


def is_mix(text: object) -> bool:
    """Whether a text is meant as a mix."""
    return isinstance(text, str) and re.match(r"\s*mix\s*\(", text) is not None


def short_name(task: TaskLike) -> str:
    """A task's name; of a user's own task file, the file's."""
    if isinstance(task, Task):
        return task.name
    return Path(task).stem if str(task).endswith((".yaml", ".yml")) else str(task)
