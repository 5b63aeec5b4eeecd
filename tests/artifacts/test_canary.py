"""An audit hook hears nothing while every bad folder is opened: no import, no code, no process, no connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_no_bad_folder_makes_an_import_run_code_or_open_a_connection(
    step: int, tiny_xlmr: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"HF_TOKEN": "hf_planted0secret", "PYTHONPATH": os.pathsep.join((str(TESTS), *sys.path))}
    command = [sys.executable, str(TESTS / "canary.py"), str(tiny_xlmr), str(tmp_path), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["controls"], "the hook is deaf"
    assert not told["heard"] and not told["escaped"] and not told["executed"], told
    assert told["refused"] == told["folders"] >= 400 // step
    assert "hf_planted0secret" not in done.stdout + done.stderr
