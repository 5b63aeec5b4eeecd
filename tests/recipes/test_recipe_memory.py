"""Memory options of a recipe reach its backbone, and those that change numbers its requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterxl.errors import AdapterXLError
from adapterxl.recipes.execute import RecipeRun
from adapterxl.recipes.schema import load_recipe

RECIPE = "base: {base}\ndevice: cpu\n{more}\nmodules: {{pos: {{task: udpos}}}}\n"


def run(folder: Path, base: Path, more: str) -> RecipeRun:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(base=base, more=more), encoding="utf-8")
    return RecipeRun(load_recipe(path), folder / "out")


def test_memory_options_reach_the_backbone_and_bits_the_request(tiny_xlmr: Path, tmp_path: Path) -> None:
    plain, lean = (run(tmp_path, tiny_xlmr, more) for more in ("", "embeddings: cpu\ncheckpointing: true"))
    four = run(tmp_path, tiny_xlmr, "bits: 4\ndtype: bf16")
    assert lean.backbone.options() == {"embeddings": "cpu", "checkpointing": True}
    assert four.backbone.options() == {"bits": 4}
    assert plain.steps[0].digest == lean.steps[0].digest != four.steps[0].digest


@pytest.mark.parametrize("more", ["bits: 3", "embeddings: disk", "checkpointing: often"])
def test_memory_options_that_are_not_there_are_refused(more: str, tiny_xlmr: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterXLError, match=more.partition(":")[0]):
        run(tmp_path, tiny_xlmr, more)
