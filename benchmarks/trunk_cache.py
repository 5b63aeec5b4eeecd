"""What the trunk cache saves: epochs with modules in the top third of the layers, with the cache and without.

    python benchmarks/trunk_cache.py --base DIR --data DIR --out benchmarks/results/trunk_cache.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measures import count, machine
from reporting import finish, spread, synchronize
from rich.console import Console
from train_step import METHODS, Runner, Variant

from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.data.collate import epoch_batches
from adapterxl.data.prepare import Item, prepare
from adapterxl.data.resolve import resolve_task
from adapterxl.engines.packed import PackedEngine
from adapterxl.engines.trunk import TrunkCache
from adapterxl.errors import UsageError
from adapterxl.modules import make_head


def make_runner(
    on: Backbone, kind: str, labels: Sequence[str], method: str, layers: tuple[int, ...], seed: int
) -> Runner:
    """The packed engine with a new module in these layers."""
    generator = torch.Generator().manual_seed(seed)
    part = replace(METHODS[method], layers=layers).build("benchmark", on, generator, torch.float32)
    head = make_head(kind, on, labels).initialise(0.02, generator).to(on.device)
    return Runner(Variant(method, "packed", False, "grouped"), on, part, head, [])


def epoch(runner: Runner, batches: Sequence[Sequence[Item]]) -> dict[str, float]:
    """Seconds of one pass."""
    synchronize(runner.on.device)
    wall, cpu = time.perf_counter(), time.process_time()
    for items in batches:
        runner.step(items)
    synchronize(runner.on.device)
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def compare(
    on: Backbone, kind: str, labels: Sequence[str], items: Sequence[Item], arguments: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Figures of each method. Epochs with and without the cache take turns, on the very same batches."""
    lengths, results = [item.tokens for item in items], []
    layers = tuple(range(on.layers - max(1, on.layers // 3), on.layers))
    for method in METHODS:
        runners = [make_runner(on, kind, labels, method, layers, arguments.seed) for _ in range(2)]
        plain, cached = runners
        engine = cached.engine
        assert isinstance(engine, PackedEngine)
        epochs: dict[str, list[dict[str, float]]] = {"plain": [], "cached": []}
        start = time.perf_counter(), time.process_time()
        trunk = TrunkCache(on, [], layers[0], dtype=arguments.store, limit=1e12, folder=folder / method)
        trunk.add(row for item in items for row in zip(item.rows, item.types, strict=True))
        filling = {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}
        engine.trunk = trunk
        for number in range(arguments.epochs):
            chosen = epoch_batches(
                lengths, batch_size=arguments.batch_size, tokens_per_batch=None, seed=1, epoch=number
            )
            batches = [[items[i] for i in batch] for batch in chosen]
            turns = [("plain", plain), ("cached", cached)]
            for name, runner in turns if number % 2 else turns[::-1]:
                epochs[name].append(epoch(runner, batches))
        result: dict[str, Any] = {"method": method, "layers": layers, "filling": filling, "epochs": epochs}
        result["bytes"] = sum(file.stat().st_size for file in (folder / method).iterdir())
        for what in ("seconds", "cpu_seconds"):
            ratios = [a[what] / b[what] for a, b in zip(epochs["plain"], epochs["cached"], strict=True)]
            first = epochs["plain"][0][what] / (epochs["cached"][0][what] + filling[what])
            result[f"speedup_{what}"] = {"epoch_1": first, "later_epochs": spread(ratios[1:])}
        results.append(result)
    return results


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON that is written."""
    if arguments.epochs < 2:
        raise UsageError(f"--epochs {arguments.epochs}: expected at least 2; the first one fills the cache.")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    on = Backbone(arguments.base, device=arguments.device)
    task, source = resolve_task(arguments.task, arguments.data)
    loaded = source.load(task, "train", task.source_language)
    if len(loaded.examples) < arguments.rows:
        raise UsageError(
            f"--rows {arguments.rows}: {task.name} has {len(loaded.examples):,} training rows. Give fewer."
        )
    chosen = np.random.default_rng(arguments.seed).permutation(len(loaded.examples))[: arguments.rows].tolist()
    examples = [loaded.examples[i] for i in chosen]
    items = prepare(task.kind, examples, on.tokenizer, min(task.max_length, on.max_length)).items
    torch.manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        results = compare(on, task.kind, task.labels, items, arguments, Path(folder))
    keys = ("task", "rows", "batch_size", "epochs", "store", "threads", "seed", "device")
    return {
        "format": 1,
        "benchmark": "trunk_cache",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(arguments, key) for key in keys},
        "machine": machine(on.device),
        "versions": versions(),
        "base": on.describe() | {"dtype": on.dtype_name},
        "tokens": sum(item.tokens for item in items),
        "row_tokens": spread([item.tokens for item in items]),
        "results": results,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """A line for each result."""
    for result in report["results"]:
        later = result["speedup_seconds"]["later_epochs"]
        console.print(
            f"{result['method']} in layers {result['layers'][0]} to {result['layers'][-1]}: "
            f"epoch 1 {result['speedup_seconds']['epoch_1']:.2f}x, later epochs {later['median']:.2f}x "
            f"({later['min']:.2f}..{later['max']:.2f}), {result['bytes'] / 1e6:.1f} MB"
        )


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    parser = argparse.ArgumentParser(description="Epochs with and without the trunk cache.")
    parser.add_argument("--base", required=True, help="hub id or folder of the backbone")
    parser.add_argument("--data", required=True, help="folder with adapterxl-data.yaml")
    parser.add_argument("--task", default="mnli", help="task with English training rows")
    parser.add_argument("--rows", type=count, default=1000)
    parser.add_argument("--batch-size", type=count, default=32)
    parser.add_argument("--epochs", type=count, default=4)
    parser.add_argument("--store", choices=("bf16", "fp32"), default="bf16", help="how states are stored")
    parser.add_argument("--threads", type=count, help="threads of PyTorch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    return finish(arguments.out, lambda: run(arguments), show)


if __name__ == "__main__":
    sys.exit(main())
