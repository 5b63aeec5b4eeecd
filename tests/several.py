"""Trainings that tests run in one process and, as a script, in several; see tests/training/test_processes.py."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch

from adapterxl import Backbone, Bottleneck, LoRA, Settings, TaskModule, fuse, mix, train


def run(base: str, data: str, below: str, out: str, *options: str) -> dict[str, TaskModule]:
    """Batches of 5 do not divide by two, shares hold different numbers of words, and a fusion has a penalty.

    Args:
        below: Folder of two bottlenecks, mnli and panx.
        options: "stop": exit after five steps; "signal": SIGTERM in the second process in step 4; "resume": go on;
            "short": out of memory in the second process in step 1, so that batches are cut.
    """
    settings = Settings(
        max_steps=6, batch_size=5, lr=0.01, accumulation=2, checkpoint_every=2, log_every=1, eval_every=3, patience=2,
        halve_on_oom="short" in options,
    )  # fmt: skip
    jobs = {
        "udpos": {"method": LoRA(rank=2)},
        "mixed": {"task": mix("udpos", "tydiqa", "copa", sampling="uniform"), "method": Bottleneck(reduction=8)},
        "fused": {"task": "panx", "start": fuse(f"{below}/mnli", f"{below}/panx", kind="adapterfusion")},
    }
    if set(options) & {"stop", "signal", "short"}:
        from adapterxl.training import together

        step, forward, second = together.Together._one_step, together.hidden_together, os.environ["RANK"] == "1"

        def stopped(self: together.Together) -> None:
            if self.live[0].step == 5 and "stop" in options:
                sys.exit(3)
            if self.live[0].step == 3 and "signal" in options and second:
                signal.raise_signal(signal.SIGTERM)
            together.hidden_together = short if self.live[0].step == 0 and "short" in options and second else forward
            step(self)

        def short(*batches: Any) -> Any:
            together.hidden_together = forward
            raise torch.OutOfMemoryError("CUDA out of memory.")

        together.Together._one_step = stopped  # type: ignore[method-assign]
    on = Backbone(base, dtype="fp64", device="cpu")
    found = train(jobs, on=on, settings=settings, data=data, out=out, resume="resume" in options, progress=False)
    assert isinstance(found, dict)
    return found


if __name__ == "__main__":
    print(*run(*sys.argv[1:]), flush=True)
