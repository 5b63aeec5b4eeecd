"""Trainings that tests run in one process and, as a script, in several; see tests/training/test_processes.py."""

from __future__ import annotations

import sys

from adapterxl import Backbone, Bottleneck, LoRA, Settings, TaskModule, fuse, mix, train


def run(base: str, data: str, below: str, out: str, *options: str) -> dict[str, TaskModule]:
    """Batches of 5 do not divide by two, shares hold different numbers of words, and a fusion has a penalty.

    Args:
        below: Folder of two bottlenecks, mnli and panx.
        options: "stop": exit after five steps; "resume": go on.
    """
    settings = Settings(
        max_steps=6, batch_size=5, lr=0.01, accumulation=2, checkpoint_every=2, log_every=1, eval_every=3, patience=2
    )
    jobs = {
        "udpos": {"method": LoRA(rank=2)},
        "mixed": {"task": mix("udpos", "tydiqa", "copa", sampling="uniform"), "method": Bottleneck(reduction=8)},
        "fused": {"task": "panx", "start": fuse(f"{below}/mnli", f"{below}/panx", kind="adapterfusion")},
    }
    if "stop" in options:
        from adapterxl.training.together import Together

        step = Together._one_step

        def stopped(self: Together) -> None:
            if self.live[0].step == 5:
                sys.exit(3)
            step(self)

        Together._one_step = stopped  # type: ignore[method-assign]
    on = Backbone(base, dtype="fp64", device="cpu")
    found = train(jobs, on=on, settings=settings, data=data, out=out, resume="resume" in options, progress=False)
    assert isinstance(found, dict)
    return found


if __name__ == "__main__":
    print(*run(*sys.argv[1:]), flush=True)
