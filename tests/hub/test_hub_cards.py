"""The folders in hub_cards are whole, small, drawn from the results beside them, and their snippets run."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT  # type: ignore[import-not-found]
from huggingface_hub import ModelCard

from adapterxl.artifacts import load
from adapterxl.backbone import fingerprint
from adapterxl.miniature import BACKBONE

CARDS = CHECKOUT / "hub_cards"
MODULES = sorted(path.parent for path in CARDS.glob("*/adapterxl.json"))
IDS = [path.name for path in MODULES]
_ALONE = """
import sys
sys.modules["adapterxl"] = None  # an import of it would raise
import json, torch
for name, block in json.load(open(sys.argv[1])).items():
    space = {}
    exec(compile(block, name, "exec"), space)
    with torch.no_grad():
        out = space["model"](**{key: space["inputs"][key] for key in ("input_ids", "attention_mask")})
    assert torch.isfinite(out[0]).all(), name
"""


def python_blocks(folder: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)


def placed(block: str, folder: Path) -> str:
    """A block with its first lines set: the folder, and the backbone."""
    block = re.sub(r"^folder = .*$", f"folder = {str(folder)!r}", block, count=1, flags=re.MULTILINE)
    return re.sub(r"^base = .*$", f"base = {str(CARDS / BACKBONE.name)!r}", block, count=1, flags=re.MULTILINE)


def test_there_are_six_modules_and_compositions_at_least_and_the_backbone():
    assert len(MODULES) >= 6
    assert {load(folder).operator for folder in MODULES} >= {"train", "merge", "stack"}
    assert fingerprint(CARDS / BACKBONE.name) == fingerprint(BACKBONE)
    for file in BACKBONE.iterdir():
        assert (CARDS / BACKBONE.name / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("folder", MODULES, ids=IDS)
def test_a_folder_is_whole_small_and_of_the_miniature(folder):
    module = load(folder)  # every digest is checked
    assert module.base["fingerprint"] == fingerprint(BACKBONE)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 250_000
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}


def test_the_cards_drawn_again_from_the_results_are_the_same(tmp_path):
    spec = importlib.util.spec_from_file_location("make_hub_cards", CHECKOUT / "recipes" / "make_hub_cards.py")
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    shutil.copytree(CARDS, tmp_path / "hub_cards")
    for card in (tmp_path / "hub_cards").glob("*/README.md"):
        card.unlink()
    maker.draw(tmp_path / "hub_cards")
    for folder in (*MODULES, CARDS / BACKBONE.name):
        again = (tmp_path / "hub_cards" / folder.name / "README.md").read_text("utf-8")
        assert again == (folder / "README.md").read_text("utf-8"), folder.name


@pytest.mark.parametrize("folder", MODULES, ids=IDS)
def test_a_card_names_library_base_languages_and_results_and_no_machine(folder):
    text = (folder / "README.md").read_text("utf-8")
    data = ModelCard(text).data
    assert data.library_name in ("peft", "adapters", "adapterxl", "adapter-transformers")
    assert data.base_model_relation == "adapter" and data.license == "apache-2.0"
    assert "adapterxl" in data.tags and data.language
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
    for file in (CARDS / "results" / folder.name).glob("*.json"):
        assert json.loads(file.read_text("utf-8"))["module"]["path"] is None


def test_the_vanilla_snippets_run_in_a_process_without_adapterxl(tmp_path):
    jobs = {
        folder.name: placed(block, folder)
        for folder in MODULES
        for block in python_blocks(folder)
        if "import adapterxl" not in block
    }
    assert len(jobs) >= 6
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-c", _ALONE, str(tmp_path / "jobs.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("folder", [MODULES[0], MODULES[-1]] if MODULES else [], ids=lambda folder: folder.name)
def test_the_adapterxl_snippet_of_a_card_runs(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = next(block for block in python_blocks(folder) if "import adapterxl" in block)
    exec(compile(placed(block, folder), folder.name, "exec"), {})
