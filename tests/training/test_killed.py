"""Trainings that are killed at random moments, again and again, end with the very module of one that was not."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterxl import Bottleneck, LoRA, Settings, fuse, load, train
from adapterxl.backbone import Backbone

JOBS: dict[str, dict[str, Any]] = {
    "lora": {"task": "udpos", "method": LoRA(rank=2, dropout=0.1)},
    "bottleneck": {"task": "mnli", "method": Bottleneck(reduction=8)},
    "fusion": {"task": "panx", "method": None},
}
SETTINGS = Settings(max_steps=12, batch_size=8, lr=0.01, accumulation=2, checkpoint_every=2, log_every=1, eval_every=4,
                    patience=9)  # fmt: skip


def in_a_child(work: Callable[[], object], kill_after: float | None = None) -> bool:
    """Do something in a copy of this process, which is killed after so many seconds; whether it ended before."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # the pool of threads is not copied
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert status == 0, "the training failed; see the traceback above"
    return True


@pytest.mark.parametrize("kills", [7, pytest.param(67, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", JOBS)
def test_random_kills_change_no_bit_of_the_module(
    name: str, kills: int, on: Backbone, data: Path, tmp_path: Path
) -> None:
    job: dict[str, Any] = {"on": on, "data": data, "settings": SETTINGS, "name": "one", "progress": False} | JOBS[name]
    if name == "fusion":
        for task in ("mnli", "udpos"):
            train(task, **{**job, "task": task, "method": Bottleneck(reduction=8), "settings": Settings(max_steps=1),
                           "out": tmp_path / task})  # fmt: skip
        job["start"] = fuse(tmp_path / "mnli", tmp_path / "udpos", kind="adapterfusion")
    begun = time.monotonic()
    in_a_child(lambda: train(**job, out=tmp_path / "whole"))
    seconds = time.monotonic() - begun
    whole, log = load(tmp_path / "whole"), (tmp_path / "whole/training_log.jsonl")
    moments, killed, runs, states = random.Random(kills), 0, 0, 0
    while killed < kills:
        runs, out = runs + 1, tmp_path / f"run{runs}"
        while not in_a_child(lambda out=out: train(**job, out=out, resume=True), moments.uniform(0.1, 1.3) * seconds):
            killed += 1
            states += (tmp_path / f"{out.name}.run/checkpoints").is_dir()
        assert load(out).digest() == whole.digest()
        assert len((out / "training_log.jsonl").read_text().splitlines()) == len(log.read_text().splitlines())
        in_a_child(lambda out=out: train(**job, out=out, resume=True))  # clears away what a last kill may have left
        assert not (tmp_path / f"{out.name}.run").exists()
    print(f"{name}: {killed} kills in {runs} runs, {states} of them with a state to go on from")
