"""Preparing pairs of sentences: examples a second, ours beside `datasets.Dataset.map` as transformers' examples use it.

    python benchmarks/preparing.py --base DIR --data DIR --out benchmarks/results/preparing.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measures import count, machine, peak_rss
from reporting import finish, ranged, spread
from rich.console import Console
from rich.table import Table

from adapterxl.artifacts.module import versions
from adapterxl.data.examples import ClassifyExample
from adapterxl.data.items import MappedItems
from adapterxl.data.prepare import prepare
from adapterxl.data.resolve import resolve_task
from adapterxl.data.row_cache import LIMIT
from adapterxl.errors import UsageError

# Each is run twice in a row's turn: first with an empty cache, then with what the first left.
VARIANTS = ("adapterxl", "adapterxl, nothing kept", "datasets.map")
MIB = 2**20

Settings = argparse.Namespace
Taken = tuple[Callable[[], Any], Callable[[Any], list[np.ndarray]]]
"""What is timed, and the token ids of its result: all of them, and the length of each row."""


def write_pairs(settings: Settings, path: Path) -> None:
    """Pairs of a first and a second sentence of rows drawn by seed: the lengths of the task, and few texts alike."""
    task, source = resolve_task(settings.task, settings.data)
    if task.kind != "classify":
        raise UsageError(f"--task {task.name}: is a {task.kind} task; name one that classifies pairs, such as mnli.")
    rows = source.load(task, "train", task.source_language).examples
    firsts, seconds = ([getattr(row, name) for row in rows] for name in ("text", "text_pair"))
    if None in seconds:
        raise UsageError(f"--task {task.name}: classifies single texts; name a task of pairs, such as mnli.")
    drawn = np.random.default_rng(settings.seed).integers(len(rows), size=(2, settings.pairs)).tolist()
    pairs = {"premise": [firsts[i] for i in drawn[0]], "hypothesis": [seconds[i] for i in drawn[1]]}
    pq.write_table(pa.table(pairs | {"label": [rows[i].label for i in drawn[0]]}), path)


def ours(settings: Settings, pairs: Path) -> Taken:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(settings.base)
    columns = pq.read_table(pairs).to_pydict()
    examples = [
        ClassifyExample(str(n), "en", *row) for n, row in enumerate(zip(*columns.values(), strict=True))
    ]  # fmt: skip

    def ids(prepared: Any) -> list[np.ndarray]:
        rows = [item.rows[0] for item in prepared.items]
        return [np.array([token for row in rows for token in row]), np.array([len(row) for row in rows])]

    return lambda: prepare("classify", examples, tokenizer, settings.max_length), ids


def theirs(settings: Settings, pairs: Path) -> Taken:
    """As run_glue.py and run_xnli.py of transformers have it, with the number of processes that they advise."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(settings.base)
    rows = load_dataset("parquet", data_files=str(pairs), split="train", cache_dir=str(pairs.parent / "datasets"))

    def tokenize(batch: dict[str, list[str]]) -> Any:
        return tokenizer(batch["premise"], batch["hypothesis"], truncation=True, max_length=settings.max_length)

    def ids(mapped: Any) -> list[np.ndarray]:
        column = mapped.data.column("input_ids").combine_chunks()
        return [column.flatten().to_numpy(), column.value_lengths().to_numpy()]

    return lambda: rows.map(tokenize, batched=True, num_proc=settings.processes), ids


def measure(settings: Settings, variant: str, folder: Path) -> dict[str, Any]:
    """One variant in this process."""
    run, ids = (theirs if variant == "datasets.map" else ours)(settings, folder / "pairs.parquet")
    before, started, cpu = _anonymous(), time.perf_counter(), _cpu_seconds()
    result = run()
    seconds = time.perf_counter() - started
    figures = {
        "variant": variant, "seconds": seconds, "per_second": settings.pairs / seconds,
        "cpu_seconds": _cpu_seconds() - cpu, "held_bytes": _anonymous() - before, "peak_bytes": peak_rss(),
        "mapped": isinstance(getattr(result, "items", None), MappedItems),
    }  # fmt: skip
    digest = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in ids(result))).hexdigest()
    return figures | {"digest": digest}


def _cpu_seconds() -> float:
    """Of this process and those that it started and that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _anonymous() -> int:
    """Memory that this process holds and that is in no file, in bytes; 0 where the system doesn't tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def run(settings: Settings, given: Sequence[str]) -> dict[str, Any]:
    """Each variant in fresh processes, in turns."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        for repeat in range(settings.repeats):
            folder = Path(root, str(repeat))
            folder.mkdir()
            write_pairs(settings, folder / "pairs.parquet")
            for time_of in ("first", "second"):
                for variant in VARIANTS[repeat % 2 :] + VARIANTS[: repeat % 2]:
                    print(f"{variant}, {time_of} time, {repeat + 1} of {settings.repeats}", file=sys.stderr, flush=True)
                    results.append(_child(settings, given, variant, folder) | {"time": time_of})
    if len({each["digest"] for each in results}) > 1:
        raise UsageError("The token ids differ between the variants, so their times say nothing.")
    keys = ("task", "pairs", "max_length", "processes", "threads", "repeats", "seed")
    return {
        "format": 1,
        "benchmark": "preparing",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(settings, key) for key in keys},
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
        "summary": summary(results),
        "results": results,
    }


def _child(settings: Settings, given: Sequence[str], variant: str, folder: Path) -> dict[str, Any]:
    out = folder / "figures.json"
    env = {name: value for name, value in os.environ.items() if name not in ("TOKENIZERS_PARALLELISM", LIMIT)}
    env |= {"ADAPTERXL_CACHE": str(folder / "adapterxl"), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    env |= {LIMIT: "0"} if variant == "adapterxl, nothing kept" else {}
    env |= {"RAYON_NUM_THREADS": str(settings.threads)} if settings.threads else {}
    command = [sys.executable, __file__, *given, "--out", str(out), "--child", variant]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"{variant}: its process ended with {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Spreads of each variant, the first time and the second."""
    found: dict[str, Any] = {}
    for variant in VARIANTS:
        for time_of in ("first", "second"):
            own = [each for each in results if (each["variant"], each["time"]) == (variant, time_of)]
            keys = ("per_second", "seconds", "cpu_seconds", "held_bytes", "peak_bytes")
            found.setdefault(variant, {})[time_of] = {key: spread([each[key] for each in own]) for key in keys}
    return found


def show(report: dict[str, Any], console: Console) -> None:
    arguments = report["arguments"]
    table = Table(title=f"{arguments['pairs']:,} pairs, at most {arguments['max_length']} tokens; median, range")
    for number, name in enumerate(("", "time", "examples/s", "seconds", "CPU seconds", "held MiB", "peak MiB")):
        table.add_column(name, justify="left" if number < 2 else "right")
    for variant, times in report["summary"].items():
        for time_of, found in times.items():
            memory = [
                ranged({key: value / MIB for key, value in found[name].items()}, ",.0f")
                for name in ("held_bytes", "peak_bytes")
            ]
            cells = [
                ranged(found["per_second"], ",.0f"),
                *(ranged(found[n], ",.2f") for n in ("seconds", "cpu_seconds")),
            ]
            table.add_row(variant, time_of, *cells, *memory)
    console.print(table)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    given = list(sys.argv[1:] if given is None else given)
    parser = argparse.ArgumentParser(description="Preparing pairs: adapterxl beside datasets.Dataset.map.")
    parser.add_argument("--base", required=True, help="folder or hub id of the tokenizer")
    parser.add_argument("--data", type=Path, required=True, help="folder with an index of task files")
    parser.add_argument("--task", default="mnli", help="whose sentences are paired")
    parser.add_argument("--pairs", type=count, default=200_000)
    parser.add_argument("--max-length", type=count, default=128)
    parser.add_argument("--processes", type=count, default=2, help="num_proc of datasets.map")
    parser.add_argument("--threads", type=count, help="threads of the Rust tokenizer, in each process; all cores")
    parser.add_argument("--repeats", type=count, default=3, help="runs of each, in turns, each from empty caches")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    settings = parser.parse_args(given)

    def make() -> dict[str, Any]:
        if settings.child:
            return measure(settings, settings.child, settings.out.parent)
        return run(settings, given)

    return finish(settings.out, make, None if settings.child else show)


if __name__ == "__main__":
    sys.exit(main())
