"""Copies of PEFT and AdapterHub folders with safetensors in place of pickles, which another process opens."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import ArtifactError
from . import store

# What the libraries call their weights as pickles, and as safetensors.
_WEIGHTS = {
    "adapter_model.bin": "adapter_model.safetensors",
    "pytorch_adapter.bin": "adapter.safetensors",
    "pytorch_model_head.bin": "model_head.safetensors",
    "pytorch_model_adapter_fusion.bin": "model_adapter_fusion.safetensors",
}
_CONFIGS = ("adapter_config.json", "head_config.json", "adapter_setup.json", "adapter_fusion_config.json")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "OMP_NUM_THREADS")
_SECONDS = 600


def convert(folder: str | Path, out: str | Path) -> list[str]:
    """Write a copy of a folder of `peft` or `adapters` with its pickled weights as safetensors.

    The pickles are opened by a separate process that makes nothing but tensors of them (torch's `weights_only`); this
    process never reads them. Configurations and weights are copied, everything else is left behind.

    Returns:
        Names of the files that were converted.

    Raises:
        ArtifactError: If there is nothing to convert, a file holds more than tensors, or `out` is in the way.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise ArtifactError(f"No folder '{folder}'.")
    store.check_target(out, overwrite=False)
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in (
            *folder.iterdir(),
            *(below for each in folder.iterdir() if each.is_dir() for below in each.iterdir()),
        )
        if path.name in (*_WEIGHTS, *_WEIGHTS.values(), *_CONFIGS)
    )
    pickled = {name: _renamed(name) for name in names if Path(name).name in _WEIGHTS}
    if not pickled:
        raise ArtifactError(f"{folder}: nothing to convert; no {', '.join(_WEIGHTS)} in it.")
    twice = next((name for name, new in pickled.items() if new in names), None)
    if twice is not None:
        raise ArtifactError(f"{folder / twice}: {pickled[twice]} is there too; which of them counts? Remove one.")
    for name in names:
        path = folder / name
        if path.resolve() != folder.resolve() / name or not path.is_file():
            raise ArtifactError(f"{path}: not a regular file.")
    files = {name: store.read(folder, name) for name in names if name not in pickled}
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, new) in enumerate(pickled.items()):
            target = Path(temporary) / f"{number}.safetensors"
            _run(folder / name, target)
            files[new] = target.read_bytes()
    store.publish(out, files)
    return list(pickled)


def _run(source: Path, target: Path) -> None:
    """Convert one file in a process that has neither our environment nor our modules."""
    script = Path(__file__).with_name("convert_bin.py")
    command = [sys.executable, "-I", str(script), str(source.resolve()), str(target)]
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{source}: not converted in {_SECONDS} seconds.") from error
    if done.returncode != 0 or not target.is_file():
        lines = done.stderr.strip().splitlines()
        reason = lines[-1][:200] if lines else f"the converter ended with {done.returncode}"
        raise ArtifactError(f"{source}: cannot be converted: {reason}. Nothing of it was run.")


def _renamed(name: str) -> str:
    path = Path(name)
    return path.with_name(_WEIGHTS[path.name]).as_posix()
