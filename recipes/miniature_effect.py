"""Measure what the miniature was built to show, over fresh seeds, and keep the figures.

    python recipes/miniature_effect.py --out out/effect --json docs/results/miniature.json

Runs miniature_effect.yaml, writes the report beside the modules, and the table of zero-shot means and gains as JSON.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.miniature.data import VERSION
from adapterxl.recipes.execute import RecipeRun
from adapterxl.recipes.schema import load_recipe

RECIPE = Path(__file__).with_suffix(".yaml")
KEPT = ("mean", "low", "high", "std", "gain", "gain_low", "gain_high", "p", "p_holm")


def main(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of modules, scores and report.")],
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="The figures.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As in run.")] = None,
) -> None:
    """Run the recipe (what is there already is kept) and write the figures."""
    recipe = load_recipe(RECIPE, changes or ())
    report = RecipeRun(recipe, out).execute(print)
    assert report is not None
    with report.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["primary"] == "true"]
    tasks: dict[str, dict[str, dict[str, object]]] = {}
    for row in rows:
        wanted = {"zero-shot mean": "zero-shot mean", "score": row["language"]}.get(row["quantity"])
        if wanted is None or row["detail"]:
            continue
        found = {key: round(float(row[key]), 4) for key in KEPT if row[key]} | {"difference": row["difference"]}
        name = row["composition"] or "no intermediate task"
        tasks.setdefault(row["task"], {}).setdefault(name, {})[wanted] = found
    figures = {
        "command": f"python recipes/{Path(__file__).name} " + " ".join(sys.argv[1:]),
        "what": "0 to 1; intervals of 95 %; gain over no intermediate task; p_holm over the languages of a "
        "composition, for the zero-shot mean over the compositions of a task",
        "note": "The world was built to show this effect: it says that the machinery works, not that languages do so.",
        "world": VERSION,
        "base": Backbone(recipe.base).fingerprint,
        "seeds": list(recipe.seeds),
        "versions": versions(),
        "tasks": tasks,
    }
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"figures: {json_file}")


if __name__ == "__main__":
    typer.run(main)
