"""Two tiny backbones and one module of every layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import parts_of
from samples import make_module

from adapterxl.backbone import Backbone


@pytest.fixture(scope="session", params=["xlm-roberta", "bert"])
def on(request: pytest.FixtureRequest) -> Backbone:
    """Each of the two architectures."""
    name = "tiny_xlmr" if request.param == "xlm-roberta" else "tiny_bert"
    return Backbone(request.getfixturevalue(name), device="cpu")


@pytest.fixture(scope="session")
def xlmr(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture
def saved(xlmr: Backbone, tmp_path: Path) -> Callable[..., Path]:
    """Save a module of a layout and give its folder."""

    def save(layout: str = "lora-sequence", kind: str = "classify", name: str = "module") -> Path:
        make_module(xlmr, name, parts_of(layout, xlmr), kind).save(tmp_path / name)
        return tmp_path / name

    return save
