"""Measure what the miniature backbone knows before any module: masked words, linear probes, retrieval.

    python recipes/miniature_backbone.py --json docs/results/miniature_backbone.json

A probe is the task's head alone on the frozen backbone, trained in English. Its chance is the most frequent tag of the
language's own test rows. Retrieval compares mean vectors of a layer, centred by language, among 300 sentences.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from pretrain_miniature import restored

from adapterxl import Backbone, Settings, evaluate, train
from adapterxl.artifacts.module import versions
from adapterxl.data.resolve import resolve_task
from adapterxl.evaluation.scores import language_values
from adapterxl.miniature.languages import LANGUAGES


def measure(backbone: Backbone, seed: int = 1) -> list[dict[str, object]]:
    """One row a language; shares from 0 to 1."""
    words = restored(backbone.folder)
    columns: dict[str, dict[str, float]] = {
        "masked words restored": {code: share["restored"] for code, share in words.items()},
        "guesses in the right language": {code: share["right language"] for code, share in words.items()},
        "quizzes answered": {code: share["verdicts"] for code, share in words.items()},
    }
    settings = Settings(epochs=10, batch_size=32, seed=seed)
    for task, metric in (("mini_xpos", "token_accuracy"), ("mini_xner", "span_f1")):
        probe = train(task, on=backbone, settings=settings)
        scores = evaluate(probe, on=backbone, task=task)  # type: ignore[arg-type]
        columns[f"{task} probe"] = language_values(scores.records)[metric]
    columns["mini_xpos chance"] = {code: most_frequent("mini_xpos", code) for code in LANGUAGES}
    found = evaluate(None, on=backbone, task="mini_bitext", center=True)
    columns["retrieval"] = language_values(found.records)["retrieval_accuracy"]
    return [
        {"language": code}
        | {name: round(values[code], 4) if code in values else "" for name, values in columns.items()}
        for code in LANGUAGES
    ]


def most_frequent(name: str, language: str) -> float:
    """Share of the most frequent tag: what a tagger without any knowledge reaches."""
    task, source = resolve_task(name, None)
    tags = Counter(tag for example in source.load(task, "test", language).examples for tag in example.tags)
    return max(tags.values()) / tags.total()


def main(
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="The figures.")],
    base: Annotated[str | None, typer.Option(metavar="DIR", show_default="the one that ships")] = None,
) -> None:
    """Print the table and write it."""
    backbone = Backbone(base)
    rows = measure(backbone)
    for row in rows:
        print("  ".join(f"{name}: {value}" for name, value in row.items()))
    figures = {
        "command": " ".join(["python", f"recipes/{Path(__file__).name}", *sys.argv[1:]]),
        "base": backbone.fingerprint,
        "versions": versions(),
        "rows": rows,
    }
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
