"""What tests of interrupted trainings share: a run that is cut off, and how far two modules are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny import norm_distance

from adapterxl import TaskModule
from adapterxl.training.together import Together


class Cut(BaseException):
    """The end of a process, as far as one process can play it: nothing gets to write."""


@contextmanager
def cut(after: int, how: Callable[[], None] | None = None) -> Iterator[None]:
    """End the run at the beginning of the step that follows so many; or do `how` there, and go on."""
    step = Together._one_step

    def one_step(self: Together) -> None:
        if max(loop.step for loop in self.live) == after:
            if how is None:
                raise Cut
            how()
        step(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Together, "_one_step", one_step)
        yield


def tensors(module: TaskModule) -> dict[str, torch.Tensor]:
    assert module.head is not None
    found = {f"{i}.{name}": t for i, part in enumerate(module.parts) for name, t in part.tensors().items()}
    return found | {f"head.{name}": t for name, t in module.head.tensors.items()}


def distance(one: TaskModule, other: TaskModule) -> float:
    expected = tensors(other)
    return max(norm_distance(tensor, expected[name]) for name, tensor in tensors(one).items())
