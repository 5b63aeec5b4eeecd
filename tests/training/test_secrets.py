"""A token of the hub in the environment is in nothing that a training writes or says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cutting import Cut, cut

PLANTED = "hf_planted0secret"


def test_no_log_checkpoint_or_manifest_of_a_training_holds_the_token(
    fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, PLANTED)
    with cut(after=2), pytest.raises(Cut):
        fit(settings={"checkpoint_every": 1}, out=tmp_path / "cut", progress=True)
    fit(out=tmp_path / "m", progress=True)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    names = {path.relative_to(tmp_path).parts[0] for path in kept}
    assert {"cut.run", "m"} <= names and tmp_path / "m/adapterxl.json" in kept
    assert not [path for path, content in kept.items() if PLANTED.encode() in content]
    said = capfd.readouterr()
    assert PLANTED not in said.out + said.err
