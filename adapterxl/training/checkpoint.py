"""States that a stopped training goes on from: safetensors and JSON, written whole or not at all, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .. import durable
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
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()})
    state = {"step": checkpoint.step, "sha256": sha256(data), "values": dict(checkpoint.values)}
    files = {_TENSORS: data, _STATE: json.dumps(state).encode()}
    try:
        durable.make_folders(folder)
        durable.sweep(folder)
        durable.write_folder(folder / f"step-{checkpoint.step}", files, _STATE)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot write a checkpoint ({error.strerror or error}).") from error


def keep_only(folder: Path, step: int) -> None:
    """Remove the checkpoints of all other steps."""
    for old in folder.glob("step-*"):
        if old.name != f"step-{step}":
            durable.remove_folder(old)


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
