"""A tiny backbone, one of it without dropout, and a small data folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cutting import Cut, cut
from samples import write_data

from adapterxl import LoRA, Settings, TaskModule, train
from adapterxl.backbone import Backbone


@pytest.fixture(scope="session")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="session")
def still(tiny_xlmr: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same backbone with dropout 0 in its config."""
    folder = tmp_path_factory.mktemp("backbones") / "still"
    shutil.copytree(tiny_xlmr, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fit(on: Backbone, data: Path) -> Callable[..., TaskModule]:
    """Train udpos for three small steps; keywords change what and how."""

    def run(task: Any = "udpos", settings: dict[str, Any] | None = None, **options: Any) -> TaskModule:
        values = {"max_steps": 3, "batch_size": 8, "lr": 0.01, "log_every": 1} | (settings or {})
        given: dict[str, Any] = {"on": on, "method": LoRA(rank=2, dropout=0.1), "data": data, "progress": False}
        module = train(task, **given | options, settings=Settings(**values))
        return module  # type: ignore[return-value]

    return run


@pytest.fixture(scope="session")
def stopped(
    tmp_path_factory: pytest.TempPathFactory, on: Backbone, data: Path
) -> tuple[Path, TaskModule, Callable[..., Any]]:
    """The run folder of a training that was killed after five steps, the module of a whole one, and how to go on."""
    folder = tmp_path_factory.mktemp("stopped")

    def go(out: Path | None, **options: Any) -> Any:
        settings = Settings(batch_size=8, lr=0.01, log_every=1, max_steps=6, checkpoint_every=2)
        given = {"on": on, "method": LoRA(rank=2, dropout=0.1), "data": data, "progress": False, "name": "one"}
        return train("udpos", **given | options, settings=settings, out=out)

    whole = go(None)
    with cut(after=5), pytest.raises(Cut):
        go(folder / "out")
    return folder / "out.run", whole, go
