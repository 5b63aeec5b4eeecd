"""What an evaluation in many languages costs: languages together and one by one, and the vanilla libraries.

    python benchmarks/evaluation.py --base DIR --data DIR --out benchmarks/results/evaluation.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from measures import count, machine
from reporting import finish, spread, synchronize
from rich.console import Console
from tqdm import tqdm
from train_step import METHODS, VANILLA

from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.data.prepare import Item, prepare
from adapterxl.data.resolve import resolve_task
from adapterxl.engines import get_engine
from adapterxl.engines.packed import PackedEngine, finished
from adapterxl.errors import EngineError, TaskError
from adapterxl.evaluation.predict import Reader, Request, answer, head_reader
from adapterxl.modules import Part, make_head

Languages = dict[str, tuple[Item, ...]]
Pass = Callable[[Languages], list[list[Any]]]
AGREEMENT = 0.999  # share of equal predictions: scores of two labels may differ by rounding alone


def make_part(method: str, on: Backbone, seed: int) -> Part:
    """A part as training leaves it: every weight does something."""
    generator = torch.Generator().manual_seed(seed)
    part = METHODS[method].build("benchmark", on, generator, torch.float32)
    with torch.no_grad():
        for tensor in part.parameters():
            if not tensor.any():
                tensor.normal_(0.0, 0.02, generator=generator)
    return finished(part)


def passes(method: str, on: Backbone, labels: Sequence[str], kind: str, tokens: int, seed: int) -> dict[str, Pass]:
    """Ways to answer all languages: name -> what runs them."""
    head = make_head(kind, on, labels).initialise(0.5, torch.Generator().manual_seed(seed)).to(on.device)

    def together(reader: Reader) -> Pass:
        def run(languages: Languages) -> list[list[Any]]:
            requests = [Request(items, reader) for items in languages.values()]
            answer(requests, on, tokens_per_batch=tokens)
            return [request.results for request in requests]

        return run

    def one_by_one(reader: Reader) -> Pass:
        return lambda languages: [together(reader)({name: items})[0] for name, items in languages.items()]

    part = make_part(method, on, seed)
    plain, merged = PackedEngine(on, [part], None), PackedEngine(on, [part], None)
    merged.merge()
    found = {"packed, together": together(head_reader(plain, head))}
    if method == "lora":
        found["packed, together, merged"] = together(head_reader(merged, head))
    found["packed, one by one"] = one_by_one(head_reader(plain, head))
    vanilla = get_engine(VANILLA[method])(on, [part], None, padded=True)  # type: ignore[call-arg]
    found[f"{VANILLA[method]}, padded, one by one"] = one_by_one(head_reader(vanilla, head))
    return found


def compare(on: Backbone, languages: Languages, ways: dict[str, Pass], repeats: int) -> list[dict[str, Any]]:
    """Seconds of each way; all take turns, and the first results of all must agree."""
    expected = [result for results in next(iter(ways.values()))(languages) for result in results]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in tqdm(ways.items(), desc=f"repeat {repeat}", disable=None):
            synchronize(on.device)
            wall, cpu = time.perf_counter(), time.process_time()
            found = [result for results in way(languages) for result in results]
            synchronize(on.device)
            taken = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            if repeat:  # the first one warms up
                figures[name].append(taken)
            same = sum(a == b for a, b in zip(found, expected, strict=True)) / len(expected)
            if same < AGREEMENT:
                raise EngineError(f"{name}: {same:.2%} of its predictions are those of packed; nothing is compared.")
    first = figures[next(iter(ways))]
    tokens = sum(item.tokens for items in languages.values() for item in items)
    return [
        {
            "way": name,
            "runs": runs,
            "tokens_per_second": spread([tokens / run["seconds"] for run in runs]),
            "tokens_per_cpu_second": spread([tokens / run["cpu_seconds"] for run in runs]),
            "over_first": {
                what: spread([a[what] / b[what] for a, b in zip(runs, first, strict=True)])
                for what in ("seconds", "cpu_seconds")
            },
        }
        for name, runs in figures.items()
    ]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON that is written."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    on = Backbone(arguments.base, device=arguments.device)
    task, source = resolve_task(arguments.task, arguments.data)
    if task.kind != "classify":
        raise TaskError(f"{task.name} is of kind {task.kind}; this benchmark takes classify, as xnli.")
    split = task.eval_split if task.eval_split in source.splits(task) else "dev"
    languages: Languages = {}
    for language in source.languages(task, split):
        examples = source.load(task, split, language).examples[: arguments.limit]
        languages[language] = prepare(task.kind, examples, on.tokenizer, min(task.max_length, on.max_length)).items
    results = []
    for method in METHODS:
        ways = passes(method, on, task.labels, task.kind, arguments.tokens_per_batch, arguments.seed)
        results += [{"method": method} | result for result in compare(on, languages, ways, arguments.repeats)]
    keys = ("task", "limit", "tokens_per_batch", "repeats", "threads", "seed", "device")
    return {
        "format": 1,
        "benchmark": "evaluation",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(arguments, key) for key in keys},
        "machine": machine(on.device),
        "versions": versions(),
        "base": on.describe() | {"dtype": on.dtype_name},
        "languages": list(languages),
        "tokens": sum(item.tokens for items in languages.values() for item in items),
        "results": results,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """A line for each result."""
    for result in report["results"]:
        over = result["over_first"]["seconds"]
        console.print(
            f"{result['method']}, {result['way']}: {result['tokens_per_second']['median']:,.0f} tokens/s, "
            f"{over['median']:.2f}x the time of together ({over['min']:.2f}..{over['max']:.2f})"
        )


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    parser = argparse.ArgumentParser(description="Evaluation in many languages: together, one by one, vanilla.")
    parser.add_argument("--base", required=True, help="hub id or folder of the backbone")
    parser.add_argument("--data", required=True, help="folder with adapterxl-data.yaml")
    parser.add_argument("--task", default="xnli", help="classify task with several languages")
    parser.add_argument("--limit", type=count, default=200, help="examples of each language")
    parser.add_argument("--tokens-per-batch", type=count, default=8192)
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--threads", type=count, help="threads of PyTorch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    return finish(arguments.out, lambda: run(arguments), show)


if __name__ == "__main__":
    sys.exit(main())
