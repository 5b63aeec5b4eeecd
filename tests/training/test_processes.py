"""Several processes for one run give what one process gives with the same batches, and only the first one writes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import several
import torch
from tiny import norm_distance

from adapterxl import Bottleneck, Settings, TaskModule, load, train
from adapterxl.backbone import Backbone

SCRIPT = Path(__file__).resolve().parents[1] / "several.py"
# Softmax is blind to them: their gradients are zero but for rounding, of which Adam makes steps.
BLIND = ("key.bias",)


def two_processes(*arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run the jobs in two processes, as a launcher starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1]), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    done = []
    for process in started:
        out, error = process.communicate(timeout=300)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, error))
    return done


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, still: Path, data: Path) -> tuple[str, str, str]:
    """Backbone, data, and the folder of two modules to fuse."""
    below, on = tmp_path_factory.mktemp("below"), Backbone(still, dtype="fp64", device="cpu")
    for task in ("mnli", "panx"):
        train(task, on=on, method=Bottleneck(reduction=8), settings=Settings(max_steps=2, batch_size=8, lr=0.05),
              data=data, out=below / task, progress=False)  # fmt: skip
    return str(still), str(data), str(below)


def tensors(module: TaskModule) -> dict[str, torch.Tensor]:
    assert module.head is not None
    heads = module.heads or {"": module.head}
    found = {f"{i}.{name}": t for i, part in enumerate(module.parts) for name, t in part.tensors().items()}
    found |= {f"{task}.{name}": t for task, head in heads.items() for name, t in head.tensors.items()}
    return {name: tensor for name, tensor in found.items() if not name.endswith(BLIND)}


def test_two_processes_give_what_one_gives(given: tuple[str, str, str], tmp_path: Path) -> None:
    alone = several.run(*given, str(tmp_path / "one"))
    done = two_processes(*given, str(tmp_path / "two"))
    assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
    assert [one.stdout.split() for one in done] == [list(alone)] * 2
    assert "note:" in done[0].stderr and "note:" not in done[1].stderr
    for name, one in alone.items():
        two = load(tmp_path / "two" / name)
        expected, found = tensors(one), tensors(two)
        worst = max((norm_distance(found[key], expected[key]), key) for key in expected)
        assert worst[0] <= 1e-8, (name, worst)
        assert two.training["processes"] == 2 and "processes" not in one.training
        for key in ("steps", "tokens", "dev_score", "stopped_early"):
            assert one.training[key] == two.training[key], key
        logs = [(tmp_path / run / name / "training_log.jsonl").read_text().splitlines() for run in ("one", "two")]
        assert len(logs[0]) == len(logs[1])  # one process writes
        for line, other in zip(*(map(json.loads, log) for log in logs), strict=True):
            assert other["step"] == line["step"]
            for key in {"loss", "grad_norm", "dev_score"} & line.keys():
                assert other[key] == pytest.approx(line[key], rel=1e-6), key


@pytest.fixture(scope="module")
def whole(given: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules of two processes that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert [one.returncode for one in two_processes(*given, str(folder))] == [0, 0]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("stop", 3), ("signal", -signal.SIGTERM)])
def test_two_processes_that_were_stopped_go_on(
    how: str, code: int, given: tuple[str, str, str], whole: Path, tmp_path: Path
) -> None:
    cut = str(tmp_path / "cut")
    done = two_processes(*given, cut, how)
    assert [one.returncode for one in done] == [code, code], done[0].stderr + done[1].stderr
    if how == "signal":  # that only the second one got
        assert "Stopped by SIGTERM after step 4 of 6" in done[0].stderr and "Stopped" not in done[1].stderr
    assert (tmp_path / "cut/udpos.run/checkpoints/step-4").is_dir() and not (tmp_path / "cut/udpos").exists()
    again = two_processes(*given, cut, "resume")
    assert [one.returncode for one in again] == [0, 0], again[0].stderr + again[1].stderr
    for name in ("udpos", "mixed", "fused"):
        assert load(tmp_path / "cut" / name).digest() == load(whole / name).digest()


@pytest.mark.slow
def test_where_one_process_is_out_of_memory_all_cut_their_batches(
    given: tuple[str, str, str], whole: Path, tmp_path: Path
) -> None:
    done = two_processes(*given, str(tmp_path / "short"), "short")
    assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
    assert "Step 1: another process ran out of memory. From here on every batch is cut into 2" in done[0].stderr
    for name in ("udpos", "mixed", "fused"):
        module, expected = load(tmp_path / "short" / name), tensors(load(whole / name))
        assert module.training["pieces"] == {"1": 2}
        assert max(norm_distance(tensor, expected[key]) for key, tensor in tensors(module).items()) <= 1e-8
