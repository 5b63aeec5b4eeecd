"""Out of memory in a training: told in one line, with the flags that need half of it."""

from __future__ import annotations

import torch

from .settings import Settings


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the GPU, or the CPU, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def advice(settings: Settings, rows: int, resume: bool) -> str:
    """What to give instead, for the same number of rows per optimizer step.

    Args:
        rows: Rows that were held at once.
        resume: Whether there is a state to go on from.
    """
    again = "--resume " if resume else ""
    if rows == 1:
        return "A single row was too much: give --checkpointing, --bits 8, or a lower max_length."
    size, name = settings.batch_size or settings.tokens_per_batch or 1, "batch-size"
    if settings.batch_size is None:
        name = "tokens-per-batch"
    half = ""
    if size % 2 == 0:
        override = f"{again}--override " if resume else ""
        half = f", or {override}--{name} {size // 2} --accumulation {2 * settings.accumulation}"
    return f"Give {again}--halve-on-oom, which cuts its batches and makes the same steps{half}."
