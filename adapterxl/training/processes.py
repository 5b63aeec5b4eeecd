"""The processes of one run: one, or as many as a launcher started; devices, precision and sums through accelerate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import AdapterXLError, TrainingError

T = TypeVar("T")


def is_main() -> bool:
    """Whether this process is the one that writes and prints; told by what launchers set."""
    return int(os.environ.get("RANK", "0")) == 0


class Processes:
    """What the processes of a run do together.

    Each holds the whole module and its own share of every batch. Their gradients are added up once per optimizer
    step, as one flat tensor: modules are small, so there is nothing to hide behind the backward pass.

    Attributes:
        count: How many there are.
        rank: Which one this is, from 0.
    """

    def __init__(self, device: torch.device, mixed_precision: str = "no") -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        # accelerate keeps one state per process and refuses another precision; runs of both kinds may follow each
        # other.
        AcceleratorState._reset_state(reset_partial_state=True)
        self._accelerator: Any = Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision)
        self.device = device
        self.count: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items of a batch; batches are sorted by length, so every share is alike."""
        return items[self.rank :: self.count]

    def add_up(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums of tensors over all processes, in one exchange."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        total: Tensor = self._accelerator.reduce(flat, reduction="sum")
        pieces = total.split([tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]

    def from_main(self, value: T) -> T:
        """The main process's value, in every process."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        found: T = broadcast_object_list([value])[0]
        return found

    def main_first(self, work: Callable[[], object]) -> None:
        """Do something in the main process only, before any goes on.

        Raises:
            TrainingError: In every process, if it failed in the main one; there the error itself.
        """
        failed: BaseException | None = None
        if self.rank == 0:
            try:
                work()
            except AdapterXLError as error:
                failed = error
        said = self.from_main(None if failed is None else str(failed))
        if said is not None:
            raise failed or TrainingError(said)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """A tensor of every process, by rank."""
        if self.count == 1:
            return [tensor]
        return list(self._accelerator.gather(tensor[None].to(self.device)).to(tensor.device))

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

    def autocast(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._accelerator.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)
