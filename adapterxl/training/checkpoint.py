"""States that a stopped training goes on from: safetensors and JSON, written whole or not at all, no pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .. import durable
from ..artifacts.store import sha256
from ..console import say
from ..errors import TrainingError
from .processes import is_main

_STATE, _TENSORS = "state.json", "state.safetensors"
# Of what a checkpoint holds; another one's is not read.
FORMAT = 2


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
    state = {"format": FORMAT, "step": checkpoint.step, "sha256": sha256(data), "values": dict(checkpoint.values)}
    state["check"] = _digest(state)
    files = {_TENSORS: data, _STATE: json.dumps(state).encode()}
    try:
        durable.make_folders(folder)
        durable.sweep(folder)
        durable.write_folder(folder / f"step-{checkpoint.step}", files, _STATE)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot write a checkpoint ({error.strerror or error}).") from error


def keep_only(folder: Path, steps: Collection[int]) -> None:
    """Remove the checkpoints of all other steps."""
    for step, path in _candidates(folder):
        if step not in steps:
            durable.remove_folder(path)


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """The whole checkpoints below a folder, newest first. Those that are damaged are named in a warning.

    Raises:
        TrainingError: If there are checkpoints but none is whole, or another version of adapterxl wrote them.
    """
    found: list[Checkpoint] = []
    damaged: dict[str, str] = {}
    for step, path in sorted(_candidates(folder), reverse=True):
        try:
            found.append(_read(path, step))
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            why = str(error.strerror if isinstance(error, OSError) else error) or type(error).__name__
            damaged[path.name] = why.splitlines()[0]
    listed = ", ".join(f"{name} ({why})" for name, why in damaged.items())
    if damaged and not found:
        raise TrainingError(f"{folder}: no checkpoint there is whole: {listed}. Train again with --overwrite.")
    if damaged and is_main():
        say([f"{folder}: damaged: {listed}. The newest whole one is step-{found[0].step}."])
    return found


def _candidates(folder: Path) -> list[tuple[int, Path]]:
    """What was published as a checkpoint, whole or not: folders by the name of a step."""
    named = ((re.fullmatch("step-([0-9]{1,15})", path.name), path) for path in folder.glob("step-*"))
    return [(int(name[1]), path) for name, path in named if name and path.is_dir() and not path.is_symlink()]


def _digest(state: Mapping[str, Any]) -> str:
    """Of everything that is said beside the tensors, but itself."""
    return sha256(json.dumps({key: value for key, value in state.items() if key != "check"}, sort_keys=True).encode())


def _read(path: Path, step: int) -> Checkpoint:
    state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    if not isinstance(state, dict):
        raise ValueError(f"{_STATE} is not what was written")
    if (version := state.get("format")) != FORMAT:
        raise TrainingError(
            f"{path}: another version of adapterxl wrote it (format {version}, expected {FORMAT}). Go on with that "
            "version, or train again with --overwrite."
        )
    data = (path / _TENSORS).read_bytes()
    for name, found, written in ((_STATE, _digest(state), "check"), (_TENSORS, sha256(data), "sha256")):
        if found != state[written]:
            raise ValueError(f"{name} is not what was written")
    if state["step"] != step:
        raise ValueError(f"holds step {state['step']}")
    return Checkpoint(step, load(data), state["values"])
