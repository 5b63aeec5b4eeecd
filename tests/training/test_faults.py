"""What a training does at each fault: it goes on, or stops in one line with its state kept."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import norm_distance

from adapterxl import Bottleneck, DoRA, LoRA, Settings, TaskModule, fuse, load, mix, train
from adapterxl.backbone import Backbone
from adapterxl.cli import main
from adapterxl.errors import TrainingError
from adapterxl.training import loop as loop_module
from adapterxl.training import run_folder
from adapterxl.training import together as together_module
from adapterxl.training.checkpoint import read_checkpoints
from adapterxl.training.log import Log
from adapterxl.training.loop import Loop
from adapterxl.training.randomness import RandomState
from adapterxl.training.together import Together

Fit = Callable[..., Any]
Patch = pytest.MonkeyPatch
SHORT = {"max_steps": 6, "checkpoint_every": 2}


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


# --- a killed run goes on bit-equal, whatever is trained

JOBS: dict[str, dict[str, Any]] = {
    "lora, accumulation": {"settings": SHORT | {"accumulation": 3}},
    "dora, tokens per batch": {
        "method": DoRA(rank=2, dropout=0.1), "settings": SHORT | {"batch_size": None, "tokens_per_batch": 64},
    },
    "seq_bn": {"task": "mnli", "method": Bottleneck(reduction=8)},
    "par_bn": {"task": "tydiqa", "method": Bottleneck(variant="par_bn")},
    "head alone": {"task": "copa", "method": None},
    "mix": {"task": mix("udpos", "copa", sampling="uniform"), "settings": SHORT | {"accumulation": 2}},
    "fusion": {"task": "panx", "method": None, "start": "fusion"},
    "peft": {"engine": "peft"},
    "adapters": {"engine": "adapters", "method": Bottleneck(reduction=8)},
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_run_goes_on_bit_equal_in_the_middle_of_an_epoch(name: str, fit: Fit, tmp_path: Path) -> None:
    job = {"task": "udpos", "settings": SHORT} | JOBS[name]
    if "start" in job:
        for task in ("mnli", "panx"):
            fit(task, method=Bottleneck(reduction=8), settings={"max_steps": 1}, out=tmp_path / task)
        job["start"] = fuse(tmp_path / "mnli", tmp_path / "panx", kind="adapterfusion")
    task, options = job.pop("task"), job
    whole = fit(task, **options, out=tmp_path / "whole", name="one")
    with cut(after=5), pytest.raises(Cut):
        fit(task, **options, out=tmp_path / "cut", name="one")
    assert {path.name for path in (tmp_path / "cut.run/checkpoints").iterdir()} == {"step-2", "step-4"}
    again = fit(task, **options, out=tmp_path / "cut", name="one", resume=True)
    assert again.digest() == whole.digest()
    assert again.training["tokens"] == whole.training["tokens"]
    assert not (tmp_path / "cut.run").exists()


def test_generators_of_pytorch_numpy_and_python_are_put_back_exactly() -> None:
    cpu = torch.device("cpu")

    def draws() -> tuple[Any, ...]:
        return torch.rand(3).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1), random.random()

    before = RandomState.now(cpu)
    try:
        np.random.standard_normal(1)  # leaves a spare draw in numpy's state, and in Python's
        random.gauss(0, 1)
        kept = RandomState.now(cpu).tensors()
        expected = draws()
        RandomState.read(kept).restore(cpu)
        assert draws() == expected
    finally:
        before.restore(cpu)


# --- damaged checkpoints

DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut tensors": lambda path: os.truncate(path / "state.safetensors", 100),
    "bit in tensors": lambda path: flip(path / "state.safetensors"),
    "bit in values": lambda path: flip(path / "state.json"),
    "changed values": lambda path: edit(path / "state.json", '"tokens": ', '"tokens": 1'),
    "no tensors": lambda path: (path / "state.safetensors").unlink(),
    "no values": lambda path: (path / "state.json").unlink(),
    "empty folder": lambda path: [file.unlink() for file in path.iterdir()],
    "not an object": lambda path: (path / "state.json").write_text("[]"),
    "another step's": lambda path: path.rename(path.with_name("step-9")),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, on: Backbone, data: Path) -> tuple[Path, TaskModule, Callable]:
    """The run folder of a training that was killed after five steps, the module of a whole one, and how to go on."""
    folder = tmp_path_factory.mktemp("stopped")

    def go(out: Path | None, **options: Any) -> Any:
        settings = Settings(batch_size=8, lr=0.01, log_every=1, **SHORT)
        given = {"on": on, "method": LoRA(rank=2, dropout=0.1), "data": data, "progress": False, "name": "one"}
        return train("udpos", **given | options, settings=settings, out=out)

    whole = go(None)
    with cut(after=5), pytest.raises(Cut):
        go(folder / "out")
    return folder / "out.run", whole, go


@pytest.fixture
def run(stopped: Any, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(stopped[0], tmp_path / "out.run"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run / "checkpoints"
    DAMAGES[damage](folder / "step-4")
    assert [one.step for one in read_checkpoints(folder)] == [2]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: {folder}: damaged: step-") and line.endswith("The newest whole one is step-2.")


def test_a_run_whose_last_checkpoint_is_damaged_ends_bit_equal(run: Path, stopped: Any, tmp_path: Path) -> None:
    flip(run / "checkpoints/step-4/state.safetensors")
    (run / "checkpoints/step-old").mkdir()  # no name of ours: left alone
    (run / "checkpoints/.tmp-1").mkdir()
    (run / "log.jsonl").open("a").write('{"step": 6, "lo')  # as a crash leaves it
    assert stopped[2](tmp_path / "out", resume=True).digest() == stopped[1].digest()
    steps = [json.loads(line)["step"] for line in (tmp_path / "out/training_log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_another_version_is_refused(run: Path, stopped: Any, tmp_path: Path) -> None:
    edit(run / "checkpoints/step-4/state.json", '"format": 2', '"format": 1')
    with pytest.raises(TrainingError, match="step-4: another version .*.format 1, expected 2.* with --overwrite"):
        stopped[2](tmp_path / "out", resume=True)


def test_a_clock_that_jumps_changes_nothing(run: Path, stopped: Any, tmp_path: Path, monkeypatch: Patch) -> None:
    jumps = iter(range(10**9, -(10**9), -(10**5)))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    for path in (run / "checkpoints").iterdir():
        os.utime(path, (0, 0))
    os.utime(run / "checkpoints/step-2", (2**31, 2**31))
    assert stopped[2](tmp_path / "out", resume=True).digest() == stopped[1].digest()


# --- two trainings, full and read-only disks


def test_two_trainings_do_not_write_one_folder_and_a_dead_one_lets_go(run: Path, stopped: Any, tmp_path: Path) -> None:
    with run_folder.held(run, resume=True):
        with pytest.raises(TrainingError, match=rf"out.run: another training writes there \(process {os.getpid()}\)"):
            stopped[2](tmp_path / "out", resume=True)
        assert len(list((run / "checkpoints").iterdir())) == 2
    (run / "lock").write_text("1\n")  # left by a process that was killed
    assert stopped[2](tmp_path / "out", resume=True).digest() == stopped[1].digest()


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    stopped: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(run_folder.os, "open", refuse)
    monkeypatch.setattr(Together, "run", None)
    with pytest.raises(TrainingError, match="out.run: cannot be written to .Read-only file system.. Give"):
        stopped[2](tmp_path / "out")


def test_a_disk_without_room_for_two_checkpoints_is_refused_before_training(
    stopped: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    size = sum(file.stat().st_size for file in (stopped[0] / "checkpoints/step-4").iterdir())
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: free._replace(free=int(1.9 * size)))
    with pytest.raises(TrainingError, match="out.run: 0.[0-9] MB are free on its disk, but checkpoints need 0.[0-9]"):
        stopped[2](tmp_path / "out")
    assert not (tmp_path / "out.run").exists()


@pytest.mark.parametrize("failures", [1, 2])
def test_a_checkpoint_that_cannot_be_written_is_tried_twice_and_the_training_goes_on(
    failures: int, stopped: Any, tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, calls = loop_module.write_checkpoint, []

    def full(folder: Path, checkpoint: Any) -> None:
        calls.append(checkpoint.step)
        if checkpoint.step == 4 and calls.count(4) <= failures:
            raise TrainingError(f"{folder}: cannot write a checkpoint (No space left on device).")
        write(folder, checkpoint)

    monkeypatch.setattr(loop_module, "write_checkpoint", full)
    with cut(after=5), pytest.raises(Cut):
        stopped[2](tmp_path / "out")
    there = {path.name for path in (tmp_path / "out.run/checkpoints").iterdir()}
    assert there == ({"step-2", "step-4"} if failures == 1 else {"step-2"})
    said = "No space left on device). The training goes on; the last state is that after step 2."
    assert capsys.readouterr().err.count(said) == failures - 1
    assert stopped[2](tmp_path / "out", resume=True).digest() == stopped[1].digest()


def test_log_lines_that_a_full_disk_refuses_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, line = Log(tmp_path / "log.jsonl"), '{"step": 1, "text": "' + "x" * 75 + '"}\n'
    log.path.write_text(line * 10_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(line) * 10_000 + 5, limits[1]))
    try:
        log.write({"step": 2})
        log.write({"step": 3})
        assert log.path.read_text() == line * 10_000  # and no part of a line
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err.count("log.jsonl: cannot be written") == 1
    log.write({"step": 4})
    assert log.path.read_text() == line * 10_000 + '{"step": 2}\n{"step": 3}\n{"step": 4}\n'


# --- signals


@pytest.fixture
def shell(on: Backbone, data: Path, tmp_path: Path) -> Callable[..., int]:
    """`adapterxl train` for six steps; its exit code."""

    def run(*more: str, out: str = "out") -> int:
        words = f"train udpos --max-steps 6 --batch-size 8 --lr 0.01 --rank 2 --dropout 0.1 --out {tmp_path / out}"
        return main([*words.split(), "--base", str(on.folder), "--data", str(data), "--device", "cpu", *more])

    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_signal_lets_the_step_end_and_keeps_its_state(
    number: int, code: int, shell: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    with cut(after=2, how=lambda: signal.raise_signal(number)):
        assert shell() == code
    said = [line for line in capsys.readouterr().err.splitlines() if "Stopped" in line]
    name = signal.Signals(number).name
    assert said == [
        f"note: Stopped by {name} after step 3 of 6; the state is in {tmp_path}/out.run. "
        "Give the same command to go on (adapterxl train: with --resume)."
    ]
    assert [path.name for path in (tmp_path / "out.run/checkpoints").iterdir()] == ["step-3"]
    assert handlers == [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    assert (
        shell("--resume") == 0
        and shell(
            out="whole",
        )
        == 0
    )
    assert tensors_equal(load(tmp_path / "out"), load(tmp_path / "whole"))


def tensors_equal(one: TaskModule, other: TaskModule) -> bool:
    expected = tensors(other)
    return all(torch.equal(tensor, expected[name]) for name, tensor in tensors(one).items())


def test_a_second_signal_ends_the_run_at_once_and_leaves_the_last_checkpoint(stopped: Any, tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with cut(after=3, how=twice), pytest.raises(KeyboardInterrupt):
        stopped[2](tmp_path / "out")
    assert [path.name for path in (tmp_path / "out.run/checkpoints").iterdir()] == ["step-2"]
    assert stopped[2](tmp_path / "out", resume=True).digest() == stopped[1].digest()


def test_a_step_that_outlasts_the_deadline_ends_at_once(stopped: Any, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr("adapterxl.training.signals._DEADLINE", 0.01)

    def slow() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(30)

    with cut(after=3, how=slow), pytest.raises(KeyboardInterrupt):
        stopped[2](tmp_path / "out")
    assert [path.name for path in (tmp_path / "out.run/checkpoints").iterdir()] == ["step-2"]


def test_a_signal_keeps_all_of_several_trainings_at_one_step(
    stopped: Any, on: Backbone, data: Path, tmp_path: Path
) -> None:
    def both(out: Path, **options: Any) -> Any:
        settings = Settings(max_steps=6, batch_size=8, lr=0.01)
        return train(["udpos", "mnli"], on=on, method=LoRA(rank=2, dropout=0.1), settings=settings, data=data,
                     out=out, progress=False, **options)  # fmt: skip

    whole = both(tmp_path / "whole")
    with cut(after=2, how=lambda: signal.raise_signal(signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        both(tmp_path / "out")
    kept = [path.name for path in (tmp_path / "out").glob("*.run/checkpoints/*")]
    assert kept == ["step-3", "step-3"]
    again = both(tmp_path / "out", resume=True)
    assert {name: one.digest() for name, one in again.items()} == {name: one.digest() for name, one in whole.items()}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_signal_in_an_evaluation_leaves_no_half_of_its_scores(
    number: int, code: int, on: Backbone, data: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    from adapterxl.evaluation.scores import Scores

    monkeypatch.setattr(Scores, "model_dump", lambda *_, **__: signal.raise_signal(number))
    words = f"evaluate none --task tatoeba --data {data} --base {on.folder} --device cpu --out {tmp_path}/scores.json"
    assert main(words.split()) == code
    assert not (tmp_path / "scores.json").exists()


# --- numbers that are not finite


@pytest.mark.parametrize("looks", ["every step", "late"])
def test_a_gradient_that_is_not_finite_names_its_step_and_tensor(
    looks: str, stopped: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    if looks == "late":  # as on a GPU
        monkeypatch.setattr(Together, "_looks", lambda self: any(loop.must_look() for loop in self.live))
        monkeypatch.setattr(Loop, "must_look", lambda self: self.step + 1 >= 5)
    judge = Loop.judge

    def broken(self: Loop) -> None:
        if self.step == 2:
            names = list(self.parameters)
            for name in names[:2]:
                gradient = self.parameters[name].grad
                assert gradient is not None
                gradient.view(-1)[0] = float("inf")
            found.append(names[1])
        judge(self)

    found: list[str] = []
    monkeypatch.setattr(Loop, "judge", broken)
    with pytest.raises(TrainingError) as stopped_at:
        stopped[2](tmp_path / "out")
    said = str(stopped_at.value)
    assert said.startswith(f"Step 3: the gradient of {found[0]} is inf (2 of "), said
    assert "at a loss of" in said and "The state before it is kept" in said
    assert "step-2" in [path.name for path in (tmp_path / "out.run/checkpoints").iterdir()]
    assert not (tmp_path / "out").exists()


# --- out of memory


def short_memory(patch: Patch, most: int, error: Exception | None = None) -> list[int]:
    """A device that holds so many rows at once; gives the rows of each try."""
    forward, rows = together_module.hidden_together, list[int]()

    def limited(engines: Any, batches: Any) -> Any:
        rows.append(sum(len(batch.lengths) for batch in batches))
        if rows[-1] > most:
            raise error or torch.OutOfMemoryError("CUDA out of memory.")
        return forward(engines, batches)

    patch.setattr(together_module, "hidden_together", limited)
    return rows


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("[enforce fail] can't allocate memory: 9")]
)
def test_out_of_memory_is_told_with_the_flags_that_need_half(
    error: Exception, stopped: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    with (
        cut(after=3, how=lambda: short_memory(monkeypatch, 4, error) and None),
        pytest.raises(
            TrainingError,
            match=r"Step 4: out of memory for 8 rows of up to [0-9]+ tokens; the peak was [0-9.]+ GB. Give --resume "
            r"--halve-on-oom, .*, or --resume --override --batch-size 4 --accumulation 2\.",
        ),
    ):
        stopped[2](tmp_path / "out")
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "out.run/checkpoints").iterdir()} == {"step-2", "step-3"}
    assert stopped[2](tmp_path / "out", resume=True).digest() == stopped[1].digest()


def test_batches_cut_for_memory_give_the_same_module_from_whichever_step(
    fit: Fit, still: Path, tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"on": Backbone(still, dtype="fp64", device="cpu"), "method": LoRA(rank=2)}
    settings = SHORT | {"halve_on_oom": True, "accumulation": 2}
    plain = fit(**given, settings=settings)
    with monkeypatch.context() as patch:
        rows = short_memory(patch, 3)
        begun_so = fit(**given, settings=settings)
    assert begun_so.training["pieces"] == {"1": 4} and max(rows[3:]) <= 3
    with cut(after=3, how=lambda: short_memory(monkeypatch, 3) and None):
        later = fit(**given, settings=settings, out=tmp_path / "out")
    assert later.training["pieces"] == {"4": 4}
    assert "Step 4: out of memory for 4 rows of up to" in capsys.readouterr().err
    for module in (begun_so, later):
        assert distance(module, plain) <= 1e-8
        for key in ("steps", "tokens", "rows"):
            assert module.training[key] == plain.training[key]
    log = [json.loads(line) for line in (tmp_path / "out/training_log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["pieces"]) for line in log if "pieces" in line] == [(4, 2), (4, 4)]


def test_a_run_with_cut_batches_goes_on_bit_equal(fit: Fit, tmp_path: Path, monkeypatch: Patch) -> None:
    short_memory(monkeypatch, 4)
    settings = SHORT | {"halve_on_oom": True}
    whole = fit(settings=settings)
    with cut(after=5), pytest.raises(Cut):
        fit(settings=settings, out=tmp_path / "out")
    again = fit(settings=settings, out=tmp_path / "out", resume=True)
    assert again.digest() == whole.digest() and again.training["pieces"] == {"1": 2}


def test_a_single_row_that_is_too_much_says_so(fit: Fit, monkeypatch: Patch) -> None:
    short_memory(monkeypatch, 0)
    with pytest.raises(TrainingError, match="A single row was too much: give --checkpointing"):
        fit(settings=SHORT | {"halve_on_oom": True})
