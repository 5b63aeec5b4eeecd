"""The batches of a run by their number, and how many optimizer steps they make."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..data.collate import epoch_batches
from .settings import Settings


class Batches:
    """All batches of a run, by their number from 0. Epochs may differ in their number of batches."""

    def __init__(self, lengths: Sequence[int], settings: Settings) -> None:
        self.lengths, self.settings = lengths, settings
        self._ends: list[int] = []  # batches up to the end of each epoch
        self._epoch, self._order = -1, list[list[int]]()

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of one epoch, as indices of items."""
        if number != self._epoch:
            self._order = epoch_batches(
                self.lengths,
                batch_size=self.settings.batch_size,
                tokens_per_batch=self.settings.tokens_per_batch,
                seed=self.settings.seed,
                epoch=number,
            )
            self._epoch = number
        return self._order

    def end(self, epoch: int) -> int:
        """Batches from the start of the run to the end of an epoch; 0 for epoch -1."""
        while len(self._ends) <= epoch:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + len(self.epoch(len(self._ends))))
        return self._ends[epoch] if epoch >= 0 else 0

    def __getitem__(self, number: int) -> list[int]:
        epoch = self._epoch_of(number)
        return self.epoch(epoch)[number - self.end(epoch - 1)]

    def epochs_before(self, number: int) -> float:
        """How many epochs, as a fraction, the first `number` batches are."""
        epoch = self._epoch_of(number)
        begin = self.end(epoch - 1)
        return epoch + (number - begin) / (self.end(epoch) - begin)

    def _epoch_of(self, number: int) -> int:
        epoch = 0
        while self.end(epoch) <= number:
            epoch += 1
        return epoch


def count_steps(batches: Batches, settings: Settings) -> int:
    """Optimizer steps of a run; the last may have taken batches beyond the last epoch's end to be whole."""
    if settings.max_steps is not None:
        return settings.max_steps
    whole, part = divmod(settings.epochs or 0.0, 1)
    count = float(batches.end(int(whole) - 1))
    if part:
        count += part * (batches.end(int(whole)) - batches.end(int(whole) - 1))
    return max(1, math.ceil(count / settings.accumulation))
