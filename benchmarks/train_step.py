"""What a training step costs: the packed engine against peft and adapters, on padded and on packed batches.

    python benchmarks/train_step.py --base DIR --data DIR --out benchmarks/results/train_step.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measures import count, machine, peak_bytes, saved_bytes, step_flops
from reporting import finish, ranged, spread, synchronize
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from tqdm import tqdm

from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.data.collate import Batch, collate, cut_batches, epoch_batches
from adapterxl.data.prepare import Item, prepare
from adapterxl.data.resolve import resolve_task
from adapterxl.engines import get_engine
from adapterxl.errors import EngineError, TaskError, UsageError
from adapterxl.evaluation.predict import head_scores
from adapterxl.modules import Bottleneck, Head, LoRA, Part, make_head
from adapterxl.modules.heads import row_losses

METHODS: dict[str, LoRA | Bottleneck] = {"lora": LoRA(), "bottleneck": Bottleneck()}
# The adapters library has no LoRA at attention.output.dense, and peft has no bottleneck.
VANILLA = {"lora": "peft", "bottleneck": "adapters"}
KINDS = ("classify", "tag", "span")
BATCHINGS = ("random", "grouped")
TOLERANCE = 1e-4  # of loss and gradient norm at dropout 0, relative
LEARNING_RATE = 1e-4
MIB = 2**20


@dataclass(frozen=True)
class Variant:
    """One way of running the step; `padded` is stock Hugging Face batching, else no padding is computed."""

    method: str
    engine: str
    padded: bool
    batching: str

    def __str__(self) -> str:
        rows = "padded" if self.padded else "packed"
        return f"{self.method}, {self.engine} engine, {rows} rows, {self.batching} batches"


class Runner:
    """A variant with its own module, head, optimizer and batches; the frozen weights are shared by all."""

    def __init__(self, variant: Variant, on: Backbone, part: Part, head: Head, batches: list[list[Item]]) -> None:
        self.variant, self.on, self.part, self.head, self.batches = variant, on, part, head, batches
        options = {"padded": True} if variant.padded else {}
        self.engine = get_engine(variant.engine)(on, [], part, **options)
        self.parameters = [*self.engine.parameters().values(), *head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, fused=True)

    def loss(self, items: Sequence[Item], *, training: bool = True) -> Tensor:
        batch: Batch = collate(self.head.kind, items, self.on.device)
        scores = head_scores(self.engine, self.head, batch, training=training)
        return row_losses(self.head.kind, scores, batch.ragged, batch.targets)

    def step(self, items: Sequence[Item]) -> None:
        """What the training loop does for a batch."""
        self.loss(items).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def loss_and_norm(self, items: Sequence[Item]) -> tuple[float, float]:
        """Loss and gradient norm without dropout; nothing is changed."""
        loss = self.loss(items, training=False)
        loss.backward()
        norm = float(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), norm

    def positions(self, items: Sequence[Item]) -> tuple[int, int]:
        """Token positions that the encoder computes for a batch, and the sum of the squared row lengths."""
        lengths = [len(row) for item in items for row in item.rows]
        if self.variant.padded:
            lengths = [max(lengths)] * len(lengths)
        return sum(lengths), sum(length * length for length in lengths)

    def flops(self, items: Sequence[Item]) -> int:
        each = {"span": lambda item: item.tokens, "tag": lambda item: len(item.positions or ())}
        outputs = sum(each.get(self.head.kind, lambda item: 1)(item) for item in items)
        first_only = self.variant.engine == "packed" and self.head.kind == "classify"
        rows = len(items) if first_only else None
        return step_flops(self.on, self.part, self.head, *self.positions(items), outputs, rows)

    def weights(self) -> Iterable[Tensor]:
        return chain(self.on.model.parameters(), self.parameters)


def draw(items: Sequence[Item], *, size: int, repeats: int, seed: int) -> dict[str, list[list[Item]]]:
    """All items in batches, random and length-grouped as in training, the batches of each repeat together.

    Grouped batches are dealt to the repeats by length, so that every repeat has short and long ones.
    """
    lengths = [item.tokens for item in items]
    order = np.random.default_rng([seed, 3]).permutation(len(items)).tolist()
    grouped = epoch_batches(lengths, batch_size=size, tokens_per_batch=None, seed=seed, epoch=0)
    grouped.sort(key=lambda batch: sum(lengths[i] for i in batch))
    dealt = [batch for repeat in range(repeats) for batch in grouped[repeat::repeats]]
    batchings = {"random": cut_batches(order, lengths, size, None), "grouped": dealt}
    return {name: [[items[i] for i in batch] for batch in batches] for name, batches in batchings.items()}


def make_runners(
    on: Backbone,
    kind: str,
    labels: Sequence[str],
    items: Sequence[Item],
    methods: Sequence[str],
    *,
    size: int,
    repeats: int,
    seed: int,
) -> list[Runner]:
    """Every variant over the same items; those of one batching have the same batches, those of one method the
    same initial weights."""
    drawn = draw(items, size=size, repeats=repeats, seed=seed)
    runners = []
    for method in methods:
        for engine, padded in (("packed", False), (VANILLA[method], True), (VANILLA[method], False)):
            for batching in BATCHINGS:
                generator = torch.Generator().manual_seed(seed)
                part = METHODS[method].build("benchmark", on, generator, torch.float32)
                with torch.no_grad():
                    for tensor in part.parameters():
                        if not tensor.any():  # LoRA's B: as zeros they would hide a module that does not act
                            tensor.normal_(0.0, 0.02, generator=generator)
                head = make_head(kind, on, labels).initialise(0.02, generator).to(on.device)
                runners.append(Runner(Variant(method, engine, padded, batching), on, part, head, drawn[batching]))
    return runners


def check_agreement(runners: Sequence[Runner]) -> dict[str, float]:
    """Loss at dropout 0 of each variant's first batch.

    Raises:
        EngineError: If loss or gradient norm differs from the packed engine's: times would compare nothing.
    """
    expected: dict[tuple[str, str], tuple[float, float]] = {}
    losses = {}
    for runner in runners:
        variant = runner.variant
        found = runner.loss_and_norm(runner.batches[0])
        wanted = expected.setdefault((variant.method, variant.batching), found)  # packed is the first of its method
        for what, ours, theirs in zip(("loss", "gradient norm"), wanted, found, strict=True):
            if not abs(theirs - ours) <= TOLERANCE * abs(ours):
                raise EngineError(
                    f"{variant}: at dropout 0 the {what} is {theirs:.6g}, but {ours:.6g} with the packed engine "
                    f"(allowed: {TOLERANCE:g} relative). They do not compute the same thing, so nothing is timed."
                )
        losses[str(variant)] = found[0]
    return losses


def measure(runners: Sequence[Runner], repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Figures of each variant. For the times all variants take turns batch by batch, so that whatever else the
    machine does falls on all of them alike; each repeat has its own share of the batches."""
    results = []
    for runner in tqdm(runners, desc="memory", unit="variant", disable=None):
        saved = [saved_bytes(lambda r=runner, i=i: r.loss(i), runner.weights()) for i in runner.batches]  # type: ignore[misc]
        largest = max(runner.batches, key=runner.positions)
        runner.step(largest)  # warms up, and the optimizer has its state
        tokens = [sum(item.tokens for item in items) for items in runner.batches]
        computed = sum(runner.positions(items)[0] for items in runner.batches)
        share = len(tokens) // repeats
        results.append(
            {
                **vars(runner.variant),
                "trained_weights": sum(p.numel() for p in runner.parameters),
                "tokens": [sum(tokens[start : start + share]) for start in range(0, len(tokens), share)],
                "positions": computed,
                "fill": sum(tokens) / computed,
                "flops": sum(runner.flops(items) for items in runner.batches),
                "saved_bytes": {"mean": statistics.mean(saved), "max": max(saved), "by_batch": saved},
                "peak_bytes": peak_bytes(lambda r=runner, i=largest: r.step(i), device),  # type: ignore[misc]
                "seconds": [0.0] * repeats,
                "cpu_seconds": [0.0] * repeats,
            }
        )
    count = len(runners[0].batches)
    with tqdm(total=count * len(runners), desc="timing", unit="step", disable=None) as bar:
        for index in range(count):
            repeat = index * repeats // count
            for runner, result in zip(runners, results, strict=True):
                synchronize(device)
                wall, cpu = time.perf_counter(), time.process_time()
                runner.step(runner.batches[index])
                synchronize(device)
                result["seconds"][repeat] += time.perf_counter() - wall
                result["cpu_seconds"][repeat] += time.process_time() - cpu
                bar.update(1)
    return results


def add_ratios(results: Sequence[dict[str, Any]]) -> None:
    """Speeds, and each variant's cost over that of the packed engine, on both batchings: times per token, paired
    within a repeat, and over all repeats (`whole`), where both have done the very same rows."""
    for result in results:
        for name, seconds in (("tokens_per_second", "seconds"), ("tokens_per_cpu_second", "cpu_seconds")):
            result[name] = spread([t / s for t, s in zip(result["tokens"], result[seconds], strict=True)])
        result["over_packed"] = {}
        for packed in results:
            if packed["method"] == result["method"] and packed["engine"] == "packed":
                over: dict[str, Any] = {"flops": result["flops"] / packed["flops"]}
                over["saved_bytes"] = result["saved_bytes"]["mean"] / packed["saved_bytes"]["mean"]
                over["peak_bytes"] = result["peak_bytes"] / packed["peak_bytes"]
                for key in ("seconds", "cpu_seconds"):
                    per_token = [[s / t for s, t in zip(of[key], of["tokens"], strict=True)] for of in (result, packed)]
                    over[key] = spread([a / b for a, b in zip(*per_token, strict=True)])
                    over[key]["whole"] = sum(result[key]) / sum(packed[key])
                result["over_packed"][packed["batching"]] = over


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON that is written."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    on = Backbone(arguments.base, device=arguments.device)
    task, source = resolve_task(arguments.task, arguments.data)
    if task.kind not in KINDS:
        raise TaskError(
            f"{task.name} is of kind {task.kind}; this benchmark takes {', '.join(KINDS)}, as mnli or tydiqa."
        )
    loaded = source.load(task, "train", task.source_language)
    wanted = arguments.batch_size * arguments.batches * arguments.repeats
    if len(loaded.examples) < wanted:
        raise UsageError(
            f"--repeats {arguments.repeats} x --batches {arguments.batches} x --batch-size {arguments.batch_size} need "
            f"{wanted:,} rows; {task.name} has {len(loaded.examples):,} training rows. Give smaller numbers."
        )
    chosen = np.random.default_rng(arguments.seed).permutation(len(loaded.examples))[:wanted].tolist()
    items = prepare(
        task.kind, [loaded.examples[i] for i in chosen], on.tokenizer, min(task.max_length, on.max_length)
    ).items[:wanted]
    methods = tuple(METHODS) if arguments.method == "both" else (arguments.method,)
    torch.manual_seed(arguments.seed)
    runners = make_runners(
        on, task.kind, task.labels, items, methods,
        size=arguments.batch_size, repeats=arguments.repeats, seed=arguments.seed,
    )  # fmt: skip
    losses = check_agreement(runners)
    results = measure(runners, arguments.repeats, on.device)
    add_ratios(results)
    keys = ("task", "batch_size", "batches", "repeats", "threads", "method", "seed", "device")
    return {
        "format": 1,
        "benchmark": "train_step",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(arguments, key) for key in keys},
        "machine": machine(on.device),
        "versions": versions(),
        "base": on.describe() | {"dtype": on.dtype_name},
        "data": [{"file": file.path, "sha256": file.sha256} for file in loaded.files],
        "rows": len(items),
        "row_tokens": spread([item.tokens for item in items]),
        "loss_at_dropout_0": losses,
        "results": results,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """One table a method; the two last columns say how many times the packed engine's time a variant takes."""
    for method in dict.fromkeys(result["method"] for result in report["results"]):
        heads = ("engine, rows", "batches", "fill", "tokens/s", "tokens/CPU s", "GFLOP", "saved MiB", "peak MiB",
                 "time / packed random", "time / packed grouped")  # fmt: skip
        table = Table(title=f"{report['arguments']['task']}, {method}, {report['base']['name']}", title_justify="left")
        for number, name in enumerate(heads):
            table.add_column(name, justify="left" if number < 2 else "right")
        for result in (result for result in report["results"] if result["method"] == method):
            steps, rows = len(result["saved_bytes"]["by_batch"]), "padded" if result["padded"] else "packed"
            table.add_row(
                f"{result['engine']}, {rows}", result["batching"], f"{result['fill']:.2f}",
                *(ranged(result[key], ",.0f") for key in ("tokens_per_second", "tokens_per_cpu_second")),
                f"{result['flops'] / steps / 1e9:,.1f}", f"{result['saved_bytes']['mean'] / MIB:,.1f}",
                f"{result['peak_bytes'] / MIB:,.1f}",
                *(ranged(result["over_packed"][batching]["seconds"], ".2f") for batching in BATCHINGS),
            )  # fmt: skip
        console.print(table)
    console.print("Median and min..max over the repeats. GFLOP, saved MiB: mean of a step. Peak MiB: largest batch.")


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    parser = argparse.ArgumentParser(description="Cost of a training step: packed, peft and adapters engines.")
    parser.add_argument("--base", required=True, help="hub id or folder of the backbone")
    parser.add_argument("--data", required=True, help="folder with adapterxl-data.yaml")
    parser.add_argument("--task", default="mnli", help="classify, tag or span task with English training rows")
    parser.add_argument("--batch-size", type=count, default=32)
    parser.add_argument("--batches", type=count, default=12, help="steps of one repeat")
    parser.add_argument("--repeats", type=count, default=5)
    parser.add_argument("--threads", type=count, help="threads of PyTorch")
    parser.add_argument("--method", choices=(*METHODS, "both"), default="both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    return finish(arguments.out, lambda: run(arguments), show)


if __name__ == "__main__":
    sys.exit(main())
