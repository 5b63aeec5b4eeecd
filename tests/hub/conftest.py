"""Modules as folders, and scores of them with values that a reader can check by head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hub_server import TOKEN, Hub, serve
from huggingface_hub import constants
from huggingface_hub.utils import reset_sessions
from layouts import parts_of
from samples import LABELS, make_module

from adapterxl.artifacts import load
from adapterxl.backbone import Backbone
from adapterxl.evaluation.scores import BaseInfo, ModuleInfo, Record, Scores


@pytest.fixture(scope="session")
def xlmr(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of this test alone, and no token but the test's."""
    monkeypatch.setenv("ADAPTERXL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Our conformance server in the place of the hub; nothing else is reached."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    reset_sessions()
    with serve(Hub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        yield served
    reset_sessions()


@pytest.fixture
def saved(xlmr: Backbone, tmp_path: Path) -> Callable[..., Path]:
    """Save a module of a layout and give its folder."""

    def save(layout: str = "lora", kind: str = "tag", name: str = "pos", **changes: Any) -> Path:
        labels: Sequence[str] = changes.pop("labels", LABELS)
        module = make_module(xlmr, name, parts_of(layout, xlmr), kind, labels=labels)
        for field, value in changes.items():
            object.__setattr__(module, field, value)
        module.save(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def score() -> Callable[..., Scores]:
    """Scores of the module in a folder; `changes` go to the scores, `module` to what they say of the module."""

    def build(
        folder: Path,
        values: Mapping[str, float] | None = None,
        *,
        metric: str = "token_accuracy",
        records: Sequence[Record] | None = None,
        module: Mapping[str, Any] | None = None,
        base: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Scores:
        found = load(folder)
        values = {"en": 0.9, "de": 0.6, "zh": 0.3} if values is None else values
        records = records or [
            Record(language=language, split="test", metric=metric, value=value, n=500, primary=True)
            for language, value in values.items()
        ]
        facts = {"name": found.name, "method": "lora", "digest": found.digest(), "task": found.task or None,
                 "path": str(folder), "composition": found.composition or None, "parts": [p.name for p in found.parts],
                 "parameters": 1000}  # fmt: skip
        where = {"name": found.base["name"], "fingerprint": found.base["fingerprint"]}
        arguments: dict[str, Any] = {
            "task": "udpos", "seed": 1, "engine": "packed", "versions": {}, "seconds": 1.0,
            "expected_languages": list(dict.fromkeys(record.language for record in records)),
        }  # fmt: skip
        return Scores.build(
            **arguments | changes,
            records=records,
            module=ModuleInfo(**facts | dict(module or {})),
            base=BaseInfo(**where | dict(base or {})),
        )

    return build
