"""States that a stopped training goes on from: safetensors and JSON, written whole or not at all, no pickle."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..artifacts.store import sha256
from ..errors import TrainingError

_STATE, _TENSORS = "state.json", "state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run depends on after a number of optimizer steps.

    Attributes:
        step: Optimizer steps done.
        tensors: Parameters, optimizer moments, random states, best parameters so far.
        values: Numbers and texts that go with them, as JSON values; `request` tells what run it is of.
    """

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``folder/step-N``; older ones stay, until `keep_only`."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".tmp-{uuid.uuid4().hex}"
    staged.mkdir()
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()})
    state = {"step": checkpoint.step, "sha256": sha256(data), "values": dict(checkpoint.values)}
    try:
        for name, content in ((_TENSORS, data), (_STATE, json.dumps(state).encode())):
            with (staged / name).open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        target = folder / f"step-{checkpoint.step}"
        if target.exists():
            shutil.rmtree(target)
        staged.rename(target)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot write a checkpoint ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def keep_only(folder: Path, step: int) -> None:
    """Remove the checkpoints of all other steps."""
    for old in folder.glob("step-*"):
        if old.name != f"step-{step}":
            shutil.rmtree(old)


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """The whole checkpoints below a folder, newest first.

    Raises:
        TrainingError: If there are checkpoints but none is whole.
    """
    candidates = sorted(folder.glob("step-*"), key=lambda path: -int(path.name.partition("-")[2]))
    found = []
    for path in candidates:
        try:
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
            data = (path / _TENSORS).read_bytes()
            if sha256(data) == state["sha256"]:
                found.append(Checkpoint(int(state["step"]), load(data), state["values"]))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            continue  # cut by a crash: an older one may be whole, and if none is, that is said below
    if candidates and not found:
        raise TrainingError(f"{folder}: no checkpoint there is whole. Train again with --overwrite.")
    return found
