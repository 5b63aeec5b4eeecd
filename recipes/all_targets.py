"""One table of every target with files in a data folder: a small module for each training source, then every language.

In the checkout: python recipes/all_targets.py [--base DIR] [--data DIR] [--steps N] [--rows N] [--out DIR]
It shows that every road runs on real files. What it trains takes seconds and scores the first rows of each language, so
its numbers say nothing of a method. The report is for a reader, table.md for a page.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import adapterxl as axl
from adapterxl.data import LocalIndex
from adapterxl.evaluation.scores import Scores, language_values
from adapterxl.tasks import get_task

# Training source -> the targets that its module is scored on. "none": the backbone alone, as retrieval trains nothing.
TARGETS = {
    "mnli": ("xnli",),
    "paws": ("pawsx",),
    "udpos": ("udpos",),
    "panx": ("panx",),
    "tydiqa": ("xquad", "mlqa", "tydiqa", "afriqa"),
    "copa": ("xcopa",),
    "nusax": ("nusax",),
    "none": ("tatoeba", "lareqa"),
}
HELD = (
    1000  # rows of PAWS-X's dev files that are scored at most; where there is no PAWS, the English rest is trained on
)


def rest_of_pawsx(data: Path, out: Path) -> str:
    """A task of its own: PAWS-X's English dev rows after the first `HELD`; all languages have one order of rows."""
    rows = (data / "pawsx/dev-en.tsv").read_text(encoding="utf-8").splitlines()[HELD:]
    out.mkdir(parents=True, exist_ok=True)
    (out / "rest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (out / "pawsx_rest.yaml").write_text(
        "name: pawsx_rest\nkind: classify\nlabels: [different, paraphrase]\nreader: tsv\nheader: false\n"
        "columns: {text: 0, text_pair: 1, label: 2}\ntrain: {en: [rest.tsv]}\n"
    )
    return str(out / "pawsx_rest.yaml")


def line(scores: Scores, trained: str) -> str:
    """One row of the table: means over the languages other than English, of every metric in the scores."""
    values = language_values(scores.records)
    first = next(record.metric for record in scores.records if record.primary)
    targets = {language: value for language, value in values[first].items() if language != scores.source_language}
    worst = min(targets, key=lambda language: targets[language])
    means = "; ".join(f"{metric} {100 * scores.zero_shot_mean[metric]:.1f}" for metric in values)
    english = f"{100 * values[first]['en']:.1f}" if "en" in values[first] else "–"
    spread = f"{worst} {100 * targets[worst]:.1f} to {100 * max(targets.values()):.1f}"
    split = ", ".join(sorted({record.split for record in scores.records}))
    asked = f"{len(targets)} of {len(set(scores.expected_languages) - {'en'})}"
    count = sum(record.n for record in scores.records if record.metric == first)
    return f"| {scores.task} | {trained} | {split} | {asked} | {count:,} | {english} | {means} | {spread} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score, write the table and the report."""
    shared = Path(os.environ.get("ADAPTERXL_SHARED", "../shared"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=str(shared / "models/xlmr-mini"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--steps", type=int, default=20, help="steps of 16 rows of each training")
    parser.add_argument("--rows", type=int, default=50, help=f"first rows of each language, at most {HELD}")
    parser.add_argument("--out", type=Path, default=Path("out/all_targets"))
    given = parser.parse_args(arguments)
    if not 0 < given.rows <= HELD:
        parser.error(f"--rows {given.rows}: expected 1 to {HELD}")
    backbone, index = axl.Backbone(given.base), LocalIndex.open(given.data)
    common = {"on": backbone, "data": given.data, "on_bad_row": "drop"}
    settings = axl.Settings(max_steps=given.steps, batch_size=16, dev_limit=20, seed=1)
    lines, files = [], []
    for source, targets in TARGETS.items():
        there = [target for target in targets if target in index.entries]
        if not there:
            continue
        module, trained = None, "nothing"
        if source != "none":
            own = source in index.entries
            task = source if own else rest_of_pawsx(given.data, given.out)
            trained = source if own else "pawsx_rest"
            limit = {"limit": given.steps * 16} if own else {}
            plain = {key: value for key, value in common.items() if own or key != "data"}
            module = axl.train(task, method=axl.LoRA(rank=8), settings=settings, **plain, **limit)
        for target in there:
            usual = {target, get_task(target).train_from}
            said = {} if module is None or trained in usual else {"train_from": trained}
            layer = {"layer": 5, "center": True} if module is None and backbone.layers >= 5 else {}
            path = given.out / f"{target}.json"
            scores = axl.evaluate(
                module, task=target, limit=given.rows, out=path, overwrite=True, **common, **said, **layer
            )
            files.append(path)
            lines.append(line(scores, trained))
    head = "| target | trained on | split | languages | n | en | zero-shot mean, % | lowest to highest |"
    table = "\n".join([head, "|---|---|---|---|---|---|---|---|", *lines]) + "\n"
    (given.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    print("report:", axl.report(files, out=given.out / "report.html"))


if __name__ == "__main__":
    main()
