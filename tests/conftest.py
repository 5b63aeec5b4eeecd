"""Shared fixtures: no network, one thread a worker, and where the shared models and data are."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

# Before any test imports transformers, datasets or huggingface_hub: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.append(str(CHECKOUT / "tests"))  # for the helper module `tiny`, whatever the import mode
NEEDED = ("models/xlmr-mini/config.json", "data/adapterxl-data.yaml")


def shared_folder() -> Path:
    """The folder with the shared models and data, whether or not it is there."""
    return Path(os.environ.get("ADAPTERXL_SHARED") or CHECKOUT.parent / "shared").absolute()


def pytest_configure(config: pytest.Config) -> None:
    if "ADAPTERXL_CACHE" not in os.environ:  # workers inherit it: the miniature's files are written once a run
        os.environ["ADAPTERXL_CACHE"] = tempfile.mkdtemp(prefix="adapterxl-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop("ADAPTERXL_CACHE"), ignore_errors=True))
    if os.environ.get("PYTEST_XDIST_WORKER"):
        import torch

        torch.set_num_threads(1)  # workers share the cores; more threads only wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = shared_folder()
    absent = [name for name in NEEDED if not (folder / name).is_file()]
    if absent:
        skip = pytest.mark.skip(reason=f"ADAPTERXL_SHARED: {folder} has no {absent[0]}")
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with `models/xlmr-mini` and `data`; tests that use it carry the mark `shared`."""
    folder = shared_folder()
    if not all((folder / name).is_file() for name in NEEDED):
        pytest.skip(f"ADAPTERXL_SHARED: {folder} is not there; does this test lack the mark 'shared'?")
    return folder


@pytest.fixture(scope="session")
def tiny_xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random XLM-R: 3 layers, hidden size 32, 512 tokens at most, and a fast tokenizer."""
    from tiny import make_tiny_xlmr

    return make_tiny_xlmr(tmp_path_factory.mktemp("backbones") / "tiny-xlmr")


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for BERT, with two token types."""
    from tiny import make_tiny_bert

    return make_tiny_bert(tmp_path_factory.mktemp("backbones") / "tiny-bert")
