"""Exact ratio-margin mining of translations: time, memory and agreement, ours beside faiss.

    python benchmarks/mining.py --out benchmarks/results/mining.json
What it measures: benchmarks/README.md. Needs `pip install faiss-cpu` for its second half.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measures import count, machine, peak_rss
from reporting import finish
from rich.console import Console
from rich.table import Table
from torch import Tensor

from adapterxl.artifacts.module import versions
from adapterxl.errors import UsageError
from adapterxl.evaluation.mining import Neighbours, best_pairs, neighbours
from adapterxl.evaluation.retrieval import unit_rows

VARIANTS = ("adapterxl", "faiss")
MIB = 2**20

Settings = argparse.Namespace


def sentences(settings: Settings) -> tuple[Tensor, Tensor]:
    """Random unit rows with a common direction; the first half of both sides are translations of each other."""
    draw = torch.Generator().manual_seed(settings.seed)
    x = torch.randn(settings.sources, settings.hidden, generator=draw).add_(0.3)
    y = torch.randn(settings.targets, settings.hidden, generator=draw).add_(0.3)
    both = min(len(x), len(y)) // 2
    y[:both].mul_(settings.noise).add_(x[:both])
    return unit_rows("sources", x, False), unit_rows("targets", y, False)


def search_faiss(x: Tensor, y: Tensor, k: int) -> tuple[Neighbours, Neighbours]:
    """The usual way: an exact index of each side (XTREME, LASER)."""
    import faiss

    found = []
    for queries, base in ((x, y), (y, x)):
        index = faiss.IndexFlatIP(base.shape[1])
        index.add(base.numpy())
        cosines, rows = index.search(queries.numpy(), min(k, len(base)))
        found.append(Neighbours(torch.from_numpy(cosines), torch.from_numpy(rows)))
    return found[0], found[1]


def measure(settings: Settings, variant: str, arrays: Path) -> dict[str, Any]:
    """One variant in this process; its neighbours and pairs go to a file."""
    x, y = sentences(settings)
    if variant == "faiss":
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
    input_peak, started, cpu = peak_rss(), time.perf_counter(), time.process_time()
    found = (search_faiss if variant == "faiss" else neighbours)(x, y, settings.neighbours)
    searched = time.perf_counter()
    pairs, scores = best_pairs(*found)
    ended = time.perf_counter()
    numbers = {"pairs": pairs, "scores": scores}
    for name, side in zip(("forward", "backward"), found, strict=True):
        numbers |= {f"{name}_rows": side.rows, f"{name}_cosines": side.cosines}
    np.savez(arrays, allow_pickle=False, **{name: value.numpy() for name, value in numbers.items()})
    return {
        "variant": variant, "seconds": ended - started, "search_seconds": searched - started,
        "cpu_seconds": time.process_time() - cpu, "peak_bytes": peak_rss(), "input_peak_bytes": input_peak,
        "pairs": len(pairs),
    }  # fmt: skip


def agreement(first: Path, second: Path) -> dict[str, float]:
    """How much two results are the same. A neighbour counts as the same where both lists have it."""
    with np.load(first) as a, np.load(second) as b:
        shares = {}
        for side in ("forward", "backward"):
            equal = (a[f"{side}_rows"][:, :, None] == b[f"{side}_rows"][:, None, :]).any(axis=2)
            shares[f"same_{side}_neighbours"] = float(equal.mean())
            shares[f"largest_{side}_cosine_difference"] = float(
                np.abs(a[f"{side}_cosines"] - b[f"{side}_cosines"]).max()
            )
        pairs = [dict(zip(map(tuple, one["pairs"].tolist()), one["scores"].tolist(), strict=True)) for one in (a, b)]
    common = pairs[0].keys() & pairs[1].keys()
    return shares | {
        "same_pairs": len(common) / max(1, len(pairs[0].keys() | pairs[1].keys())),
        "largest_score_difference": max((abs(pairs[0][pair] - pairs[1][pair]) for pair in common), default=0.0),
    }


def run(settings: Settings, given: Sequence[str]) -> dict[str, Any]:
    """Each variant in a fresh process, in turns."""
    usable = [name for name in VARIANTS if name != "faiss" or importlib.util.find_spec("faiss")]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(settings.repeats):
            for variant in usable:
                out = Path(folder) / f"{variant}.json"
                command = [sys.executable, __file__, *given, "--out", str(out), "--child", variant]
                print(f"{variant}, run {repeat + 1} of {settings.repeats} ...", file=sys.stderr, flush=True)
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                    raise UsageError(f"{variant}: its process ended with {done.returncode}: {last}")
                results.append(json.loads(out.read_text(encoding="utf-8")))
        files = [Path(folder) / f"{variant}.npz" for variant in usable]
        agree = agreement(files[0], files[1]) if len(files) == 2 else None
    known = versions() | ({"faiss-cpu": importlib.metadata.version("faiss-cpu")} if len(usable) == 2 else {})
    keys = ("sources", "targets", "hidden", "neighbours", "noise", "repeats", "threads", "seed")
    return {
        "format": 1,
        "benchmark": "mining",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(settings, key) for key in keys},
        "machine": machine(torch.device("cpu")),
        "versions": known,
        "not_run": [name for name in VARIANTS if name not in usable],
        "summary": {name: summary([each for each in results if each["variant"] == name]) for name in usable},
        "agreement": agree,
        "results": results,
    }


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seconds = [each["seconds"] for each in results]
    return {
        "median_seconds": median(seconds), "fastest": min(seconds), "slowest": max(seconds),
        "median_cpu_seconds": median(each["cpu_seconds"] for each in results),
        "peak_bytes": max(each["peak_bytes"] for each in results),
    }  # fmt: skip


def show(report: dict[str, Any], console: Console) -> None:
    arguments = report["arguments"]
    table = Table(title=f"{arguments['sources']:,} x {arguments['targets']:,} rows of {arguments['hidden']}")
    for number, name in enumerate(("library", "seconds (range)", "CPU seconds", "peak MiB")):
        table.add_column(name, justify="left" if number == 0 else "right")
    for name, found in report["summary"].items():
        table.add_row(
            name, f"{found['median_seconds']:,.2f} ({found['fastest']:,.2f} to {found['slowest']:,.2f})",
            f"{found['median_cpu_seconds']:,.2f}", f"{found['peak_bytes'] / MIB:,.0f}",
        )  # fmt: skip
    console.print(table)
    for name, value in (report["agreement"] or {}).items():
        console.print(f"{name.replace('_', ' ')}: {value:.9g}")
    if report["not_run"]:
        console.print("faiss is not installed, so nothing was compared: pip install faiss-cpu")


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    given = list(sys.argv[1:] if given is None else given)
    parser = argparse.ArgumentParser(description="Exact mining of translations: adapterxl and faiss.")
    parser.add_argument("--sources", type=count, default=100_000)
    parser.add_argument("--targets", type=count, default=100_000)
    parser.add_argument("--hidden", type=count, default=256)
    parser.add_argument("--neighbours", type=count, default=4)
    parser.add_argument("--noise", type=float, default=0.5, help="how far translations are apart")
    parser.add_argument("--repeats", type=count, default=3, help="runs of each library, in turns")
    parser.add_argument("--threads", type=count, help="threads of both libraries")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    settings = parser.parse_args(given)

    def make() -> dict[str, Any]:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        if settings.child:
            return measure(settings, settings.child, settings.out.with_suffix(".npz"))
        return run(settings, given)

    return finish(settings.out, make, None if settings.child else show)


if __name__ == "__main__":
    sys.exit(main())
