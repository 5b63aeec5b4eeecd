"""A run that was interrupted and goes on gives the very module of a run that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterxl import LoRA, TaskModule
from adapterxl.backbone import Backbone
from adapterxl.errors import TrainingError, UsageError
from adapterxl.training import together as together_module
from adapterxl.training.loop import Loop
from adapterxl.training.together import Together

Fit = Callable[..., TaskModule]
SETTINGS = {"max_steps": 9, "eval_every": 2, "patience": 3, "checkpoint_every": 4}


@contextmanager
def interrupted(owner: Any, name: str, at: int, *, after: bool = False) -> Iterator[None]:
    """Let the `at`-th call (from 1) raise KeyboardInterrupt, before or after its work."""
    original, count = getattr(owner, name), 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and not after:
            raise KeyboardInterrupt
        result = original(*arguments, **options)
        if count == at:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        with pytest.raises(KeyboardInterrupt):
            yield


def log_of(folder: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [(line["step"], line.get("loss"), line.get("dev_score"), line.get("lr")) for line in lines]


@pytest.mark.parametrize(
    ("owner", "name", "at", "after", "accumulation"),
    [
        (Together, "_one_step", 1, False, 1),
        (Together, "_one_step", 6, False, 1),
        (Together, "_one_step", 6, False, 3),
        (together_module, "hidden_together", 7, True, 1),  # its dropout masks are drawn, its step is not done
        (together_module, "hidden_together", 14, True, 3),
        (Loop, "score_dev", 2, False, 1),  # the step is done, its dev score not looked at
        (Loop, "score_dev", 2, True, 1),
        (Loop, "_log", 5, True, 1),
    ],
    ids=["at once", "between steps", "between steps-3", "inside a step", "inside a step-3", "before the dev score",
         "after it", "after a log line"],
)  # fmt: skip
def test_an_interrupted_run_ends_bit_equal(
    owner: Any, name: str, at: int, after: bool, accumulation: int, fit: Fit, tmp_path: Path
) -> None:
    settings = SETTINGS | {"accumulation": accumulation}
    whole = fit(settings=settings, out=tmp_path / "whole")
    with interrupted(owner, name, at, after=after):
        fit(settings=settings, out=tmp_path / "cut")
    assert not (tmp_path / "cut").exists() and (tmp_path / "cut.run").is_dir()
    again = fit(settings=settings, out=tmp_path / "cut", resume=True)
    assert again.digest() == whole.digest()
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    assert not (tmp_path / "cut.run").exists()
    for key in ("steps", "tokens", "dev_score", "stopped_early", "best_step"):
        assert again.training[key] == whole.training[key], key


def test_an_interruption_while_weights_change_goes_back_to_the_last_checkpoint(fit: Fit, tmp_path: Path) -> None:
    whole = fit(settings=SETTINGS, out=tmp_path / "whole")
    with interrupted(import_module("torch").optim.AdamW, "step", 7, after=True):
        fit(settings=SETTINGS, out=tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut.run/checkpoints").iterdir()] == ["step-4"]
    assert fit(settings=SETTINGS, out=tmp_path / "cut", resume=True).digest() == whole.digest()


_KILLED = """
import os, signal, sys
from adapterxl import Backbone, LoRA, Settings, train
from adapterxl.training.together import Together
step = Together._one_step
def killed(self):
    if self.live[0].step == 6:
        with open(sys.argv[3] + ".run/log.jsonl", "a") as stream:
            stream.write('{"step": 6, "lo')  # as a crash inside a write leaves it
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self)
Together._one_step = killed
train("udpos", on=Backbone(sys.argv[1], device="cpu"), method=LoRA(rank=2, dropout=0.1), data=sys.argv[2],
      settings=Settings(max_steps=9, eval_every=2, patience=3, checkpoint_every=4, batch_size=8, lr=0.01, log_every=1),
      out=sys.argv[3], progress=False)
"""


def test_a_killed_run_ends_bit_equal(fit: Fit, on: Backbone, data: Path, tmp_path: Path) -> None:
    whole = fit(settings=SETTINGS, out=tmp_path / "whole")
    command = [sys.executable, "-c", _KILLED, str(on.folder), str(data), str(tmp_path / "cut")]
    checkout = str(Path(__file__).resolve().parents[2])
    # Sums are split among threads, so only runs with as many threads are equal bit for bit.
    environment = os.environ | {"PYTHONPATH": checkout, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "cut").exists()
    with pytest.raises(UsageError, match="Go on with --resume, or start anew with --overwrite"):
        fit(settings=SETTINGS, out=tmp_path / "cut")
    assert fit(settings=SETTINGS, out=tmp_path / "cut", resume=True).digest() == whole.digest()
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


def test_a_resumed_run_without_any_checkpoint_starts_anew(fit: Fit, tmp_path: Path) -> None:
    whole = fit(settings=SETTINGS, out=tmp_path / "whole")
    (tmp_path / "cut.run").mkdir()
    (tmp_path / "cut.run" / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    assert fit(settings=SETTINGS, out=tmp_path / "cut", resume=True).digest() == whole.digest()
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


@pytest.fixture
def cut(fit: Fit, tmp_path: Path) -> Path:
    with interrupted(Together, "_one_step", 6):
        fit(settings=SETTINGS, out=tmp_path / "cut")
    return tmp_path / "cut"


@pytest.mark.parametrize(
    "other",
    [
        {"settings": SETTINGS | {"lr": 0.02}},
        {"settings": SETTINGS | {"seed": 2}},
        {"method": LoRA(rank=3)},
        {"task": "panx"},
        {"limit": 20},
        {"engine": "peft"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_run_of_other_settings_or_data_is_not_gone_on_with(other: dict[str, Any], cut: Path, fit: Fit) -> None:
    with pytest.raises(TrainingError, match="other data, settings or base.*--overwrite"):
        fit(**{"settings": SETTINGS} | other, out=cut, resume=True)
    assert not cut.exists()


def test_changed_training_rows_are_noticed(fit: Fit, tmp_path: Path, on: Backbone) -> None:
    from samples import write_data

    mine = write_data(tmp_path / "data")
    with interrupted(Together, "_one_step", 3):
        fit(settings=SETTINGS, out=tmp_path / "cut", data=mine)
    path = mine / "udpos/train-en.conllu"
    path.write_text(path.read_text().replace("fox", "ox"))
    with pytest.raises(TrainingError, match="other data"):
        fit(settings=SETTINGS, out=tmp_path / "cut", data=mine, resume=True)


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
def test_a_cut_checkpoint_is_refused(file: str, cut: Path, fit: Fit) -> None:
    path = cut.with_name("cut.run") / "checkpoints/step-5" / file
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TrainingError, match="no checkpoint there is whole"):
        fit(settings=SETTINGS, out=cut, resume=True)


def test_overwrite_forgets_an_unfinished_run(cut: Path, fit: Fit, tmp_path: Path) -> None:
    whole = fit(settings=SETTINGS, out=tmp_path / "whole")
    assert fit(settings=SETTINGS, out=cut, overwrite=True).digest() == whole.digest()
