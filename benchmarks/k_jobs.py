"""What several small trainings cost together, over one backbone, against one after another.

    python benchmarks/k_jobs.py --base DIR --data DIR --out benchmarks/results/k_jobs.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from measures import count, machine
from reporting import counts, finish, ranged, spread, synchronize
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from adapterxl import Bottleneck, LoRA, Settings
from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.errors import EngineError
from adapterxl.training.job import Job, prepare_job
from adapterxl.training.loop import Loop
from adapterxl.training.processes import Processes
from adapterxl.training.together import Together

make_loop = import_module("adapterxl.training.train").make_loop  # `training.train` is the function
METHODS: tuple[LoRA | Bottleneck, ...] = (LoRA(rank=8), Bottleneck(reduction=16), LoRA(rank=16))
WAYS = ("together", "in turn")
TOLERANCE = 1e-3  # of a job's weights after two steps at dropout 0, relative, in the backbone's precision
CHECKED = 2


def prepare_jobs(on: Backbone, arguments: argparse.Namespace) -> list[Job]:
    """As many jobs as the largest K: tasks, methods and seeds go round."""
    tasks = islice(zip(cycle(arguments.tasks), cycle(METHODS), strict=False), max(arguments.jobs))
    jobs = []
    for index, (task, method) in enumerate(tasks):
        settings = Settings(max_steps=arguments.steps, batch_size=arguments.batch_size, seed=arguments.seed + index)
        jobs.append(
            prepare_job(
                task, on=on, method=method, settings=settings, start=None, engine="packed", data=arguments.data,
                train_from=None, train_languages=None, limit=4 * arguments.steps * arguments.batch_size,
                name=f"job{index}", progress=False,
            )
        )  # fmt: skip
    return jobs


def fit(jobs: Sequence[Job], way: str, processes: Processes) -> tuple[list[Loop], float, float]:
    """Train fresh modules; wall and CPU seconds of the training alone."""
    loops = [make_loop(job) for job in jobs]
    for loop in loops:
        loop.dev_score = loop.dev_every = None
    device = loops[0].device
    torch.manual_seed(1)
    synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for together in [loops] if way == "together" else [[loop] for loop in loops]:
        Together(together, processes, lambda loop: None, progress=False).run()
    synchronize(device)
    return loops, time.perf_counter() - wall, time.process_time() - cpu


def check_agreement(jobs: Sequence[Job], processes: Processes) -> float:
    """Largest relative difference of a job's weights after two steps at dropout 0, together against alone.

    Raises:
        EngineError: If it is more than rounding: times would compare nothing.
    """
    worst = 0.0
    with _without_dropout(jobs[0].on):
        short = [_shortened(job) for job in jobs]
        found = [fit(short, way, processes)[0] for way in WAYS]
    for one, other in zip(*found, strict=True):
        ours, theirs = (torch.cat([p.detach().flatten() for p in loop.parameters.values()]) for loop in (one, other))
        worst = max(worst, float((ours - theirs).norm() / theirs.norm()))
    if not worst <= TOLERANCE:
        raise EngineError(
            f"{len(jobs)} jobs together differ from each alone by {worst:.3g} (allowed: {TOLERANCE:g}). They do not "
            "compute the same thing, so nothing is timed."
        )
    return worst


def measure(jobs: Sequence[Job], repeats: int, processes: Processes) -> dict[str, Any]:
    """Figures of both ways for some jobs; the ways alternate, and so does which one begins."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    cpu_seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    peaks: dict[str, int] = {}
    device = jobs[0].on.device
    for way in WAYS:
        fit([_shortened(job) for job in jobs], way, processes)  # warms up
    for repeat in tqdm(range(repeats), desc=f"{len(jobs)} jobs", unit="repeat", disable=None):
        for way in WAYS if repeat % 2 == 0 else WAYS[::-1]:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            loops, wall, cpu = fit(jobs, way, processes)
            seconds[way].append(wall)
            cpu_seconds[way].append(cpu)
            tokens = sum(loop.tokens for loop in loops)
            if device.type == "cuda":
                peaks[way] = torch.cuda.max_memory_allocated(device)
    by_way = {
        way: {
            "seconds": seconds[way],
            "cpu_seconds": cpu_seconds[way],
            "tokens_per_second": spread([tokens / one for one in seconds[way]]),
            **({"peak_bytes": peaks[way]} if peaks else {}),
        }
        for way in WAYS
    }
    ratios = {
        key: spread([b / a for a, b in zip(times["together"], times["in turn"], strict=True)])
        for key, times in (("seconds", seconds), ("cpu_seconds", cpu_seconds))
    }
    return {"jobs": len(jobs), "tokens": tokens, **by_way, "in_turn_over_together": ratios}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON that is written."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    on = Backbone(arguments.base, device=arguments.device, dtype=arguments.dtype)
    processes = Processes(on.device, "bf16" if on.device.type == "cuda" and on.dtype == torch.bfloat16 else "no")
    jobs = prepare_jobs(on, arguments)
    results = []
    for number in arguments.jobs:
        worst = check_agreement(jobs[:number], processes)
        results.append(measure(jobs[:number], arguments.repeats, processes) | {"difference_at_dropout_0": worst})
    keys = ("tasks", "jobs", "batch_size", "steps", "repeats", "threads", "seed", "device", "dtype")
    return {
        "format": 1,
        "benchmark": "k_jobs",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(arguments, key) for key in keys},
        "machine": machine(on.device),
        "versions": versions(),
        "base": on.describe() | {"dtype": on.dtype_name},
        "methods": [job.trains for job in jobs],
        "row_tokens": spread([item.tokens for job in jobs for item in job.rows.items]),
        "results": results,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """A line for each number of jobs."""
    table = Table(title=f"{', '.join(report['arguments']['tasks'])}, {report['base']['name']}", title_justify="left")
    for name in ("jobs", "tokens/s together", "tokens/s in turn", "time in turn / together", "CPU time, likewise"):
        table.add_column(name, justify="right")
    for result in report["results"]:
        ratios = result["in_turn_over_together"]
        table.add_row(
            str(result["jobs"]),
            *(ranged(result[way]["tokens_per_second"], ",.0f") for way in WAYS),
            *(ranged(ratios[key], ".2f") for key in ("seconds", "cpu_seconds")),
        )
    console.print(table)
    console.print("Median and min..max over the repeats.")


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    parser = argparse.ArgumentParser(description="Cost of several trainings together against one after another.")
    parser.add_argument("--base", required=True, help="hub id or folder of the backbone")
    parser.add_argument("--data", required=True, help="folder with adapterxl-data.yaml")
    parser.add_argument("--tasks", type=_names, default=["mnli", "udpos", "panx"], help="tasks of the jobs, in turn")
    parser.add_argument("--jobs", type=counts, default=[3, 9], help="numbers of jobs, such as 3,9")
    parser.add_argument("--batch-size", type=count, default=8)
    parser.add_argument("--steps", type=count, default=10, help="optimizer steps of each job in a repeat")
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--threads", type=count, help="threads of PyTorch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    return finish(arguments.out, lambda: run(arguments), show)


@contextmanager
def _without_dropout(on: Backbone) -> Iterator[None]:
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    before = {name: getattr(on.config, name) for name in names}
    try:
        for name in names:
            setattr(on.config, name, 0.0)
        yield
    finally:
        for name, rate in before.items():
            setattr(on.config, name, rate)


def _shortened(job: Job) -> Job:
    values = job.settings.model_dump(exclude={"epochs", "tokens_per_batch"}) | {"max_steps": CHECKED}
    return Job(**vars(job) | {"settings": Settings(**values)})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
