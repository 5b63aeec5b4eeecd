"""All generators that a training may draw from, its own or a library's: seeded, kept as tensors, and put back."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """The generators of PyTorch (CPU and GPU), numpy and Python at one moment; cheap to take after every step."""

    native: Mapping[str, Tensor]
    numpy: Any
    python: Any

    @classmethod
    def now(cls, device: torch.device) -> RandomState:
        states = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(device)
        return cls(states, np.random.get_state(), random.getstate())

    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint holds them: words of 32 bits as float64, which is exact; NaN for no spare normal draw."""
        _, words, position, has_spare, spare = self.numpy
        _, numbers, other = self.python
        kept = {
            "numpy": [*words.tolist(), position, has_spare, spare],
            "python": [*numbers, math.nan if other is None else other],
        }
        return {**self.native, **{name: torch.tensor(values, dtype=torch.float64) for name, values in kept.items()}}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> RandomState:
        """The inverse of `tensors`."""
        *words, position, has_spare, spare = tensors["numpy"].tolist()
        *numbers, other = tensors["python"].tolist()
        numpy = ("MT19937", np.array(words, dtype=np.uint32), int(position), int(has_spare), spare)
        python = (3, tuple(int(number) for number in numbers), None if math.isnan(other) else other)
        return cls({name: tensors[name] for name in ("cpu", "cuda") if name in tensors}, numpy, python)

    def restore(self, device: torch.device) -> None:
        torch.set_rng_state(self.native["cpu"])
        if device.type == "cuda" and "cuda" in self.native:
            torch.cuda.set_rng_state(self.native["cuda"], device)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


@contextmanager
def seeded(seed: int, rank: int, device: torch.device) -> Iterator[None]:
    """All generators start from the seed, apart in each process, and are put back afterwards."""
    before = RandomState.now(device)
    torch.manual_seed(seed + (rank << 32))
    np.random.seed(np.random.SeedSequence([seed, rank]).generate_state(4))
    random.seed(f"{seed}.{rank}")
    try:
        yield
    finally:
        before.restore(device)
