"""How a training runs: one value object with every knob, its default and its reason. Imports no torch."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UsageError

# Of a head alone on the frozen backbone, at hidden size 768.
HEAD_LR = 1e-3
# Settings that change no result.
NO_RESULT = {"trunk_cache_limit", "checkpoint_every", "log_every", "halve_on_oom"}


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def memory_bytes(text: str) -> int:
    """A size such as 4GB or 3.5GiB as bytes; 0 for what is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]i?)?B", text)
    return 0 if found is None else int(float(found[1]) * _UNITS[f"{found[2] or ''}B"])


class Settings(BaseModel):
    """Settings of a training.

    Attributes:
        epochs: Passes over the rows (may be a fraction); or else
        max_steps: Optimizer steps.
        batch_size: Rows per batch (32, as Liu et al. 2019 and jiant); or else
        tokens_per_batch: Most tokens per batch.
        lr: Highest learning rate. By default the method's, times 768 / hidden size: with Adam, the rate that
            suits hidden matrices falls with their width (Yang et al. 2022, https://arxiv.org/abs/2203.03466).
        weight_decay: Of AdamW, on matrices only.
        warmup: Share of the steps in which the rate rises (0.1 as in jiant); it then falls linearly to 0.
        max_grad_norm: Clipping of the whole gradient's norm.
        accumulation: Batches per optimizer step.
        seed: Of initial values, order of rows, dropout, and samples of rows.
        eval_every: Score the English dev rows every so many steps; only with patience by default.
        patience: Stop after this many scorings without a better one, and keep the best state.
        dev_limit: Dev rows that are scored (500, as jiant's early stopping).
        checkpoint_every: Steps between states that --resume can go on from.
        max_length: Tokens per row; the task's by default.
        log_every: Steps between lines of the log.
        trunk_cache: Keep what the layers below everything that learns give for each row in a file, in bf16 or in fp32,
            and compute them no more. Needs modules in upper layers only. They then run without dropout.
        trunk_cache_limit: Most that these files may take in the user's cache, in GB (10^9 bytes).
        memory: What a step may take, such as "4GB": options of the backbone and smaller batches (more of them a step)
            are chosen so that it fits, those that change no number first. Of a backbone whose weights are loaded the
            precision stays; one with ``load=False`` may also get bf16, 8 or 4 bits.
        halve_on_oom: Where memory is too short for a step, cut its batches and all later ones into two pieces, or four
            and so on, and make the step anew: the same rows per step, with the same gradient within rounding.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    tokens_per_batch: int | None = Field(None, ge=16)
    lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0)
    accumulation: int = Field(1, ge=1)
    seed: int = Field(1, ge=0)
    eval_every: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    dev_limit: int = Field(500, ge=1)
    checkpoint_every: int = Field(200, ge=1)
    max_length: int | None = Field(None, ge=16)
    log_every: int = Field(10, ge=1)
    trunk_cache: Literal["bf16", "fp32", "fp64"] | None = None  # fp64 for checks
    trunk_cache_limit: float = Field(20.0, gt=0)
    memory: str | None = None
    halve_on_oom: bool = False

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(step) for step in first["loc"]) or "settings"
            raise UsageError(f"{field}: found {first['input']!r}: {first['msg']}.") from error

    @model_validator(mode="after")
    def _fill(self) -> Self:
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError("give epochs or max_steps, not both")
        if self.batch_size is not None and self.tokens_per_batch is not None:
            raise ValueError("give batch_size or tokens_per_batch, not both")
        if self.memory is not None and memory_bytes(self.memory) < 1:
            raise ValueError("expected a size such as 4GB, 800MB or 3.5GiB")
        if self.epochs is None and self.max_steps is None:
            object.__setattr__(self, "epochs", 3.0)
        if self.batch_size is None and self.tokens_per_batch is None:
            object.__setattr__(self, "batch_size", 32)
        return self

    def rate(self, base_lr: float, hidden: int) -> float:
        """The highest learning rate for a method on a backbone of this width."""
        return self.lr if self.lr is not None else base_lr * 768 / hidden

    def rate_at(self, step: int, steps: int, highest: float) -> float:
        """Learning rate of a step (from 0): linear warm-up, linear decay to 0 just after the last step."""
        rising = max(1, round(self.warmup * steps)) if self.warmup else 0
        if step < rising:
            return highest * (step + 1) / rising
        return highest * (steps - step) / max(1, steps - rising)
