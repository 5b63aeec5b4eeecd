"""The corpus of bad folders: all refused, in one line that names file and field, and nothing is changed by it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from corpus import cases, good_modules, write_good

from adapterxl.artifacts import load
from adapterxl.backbone import Backbone
from adapterxl.errors import AdapterXLError

CASES = cases()


@pytest.fixture(scope="module")
def good(xlmr: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(xlmr, tmp_path_factory.mktemp("good"))


def state(on: Backbone) -> str:
    """Hash of a live backbone: every tensor, and every module by name and class."""
    digest = hashlib.sha256()
    for name, tensor in on.model.state_dict().items():
        digest.update(f"{name}\0".encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for name, module in on.model.named_modules():
        digest.update(f"{name}\0{type(module).__name__}\0{len(module._forward_hooks)}".encode())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def before(xlmr: Backbone) -> str:
    return state(xlmr)


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 150


def test_every_good_folder_the_faults_start_from_is_taken(good: Path) -> None:
    for folder in sorted(good.iterdir()):
        load(folder)


def test_good_modules_of_all_kinds_are_taken(xlmr: Backbone, tmp_path: Path) -> None:
    count = 0
    for index, (_, module) in enumerate(good_modules(xlmr)):
        assert load(module.save(tmp_path / str(index)).path).digest() == module.digest()
        count += 1
    assert count >= 30


@pytest.mark.parametrize("name", CASES)
def test_a_bad_folder_is_refused_in_one_line_and_changes_nothing(
    name: str, good: Path, xlmr: Backbone, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = CASES[name].make(good, Path("m"))
    with pytest.raises(AdapterXLError) as caught:
        load(folder)
    assert state(xlmr) == before and not Path("EXECUTED").exists()
    said = str(caught.value)
    assert said.startswith(("m/", "m:")) and "\n" not in said and said.isprintable()
    assert len(said) <= 200, said
