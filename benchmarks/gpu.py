"""All figures of a GPU in one run: steps and evaluation of the packed engine, peft and adapters. See gpu.sh."""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from measures import count, machine, peak_bytes, step_flops
from random_backbone import SIZES, write_backbone
from reporting import finish, spread, synchronize
from rich.console import Console
from torch import Tensor, nn
from train_step import METHODS, VANILLA

from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.data.collate import epoch_batches
from adapterxl.engines import get_engine
from adapterxl.engines.packed import PackedEngine
from adapterxl.engines.trunk import TrunkCache
from adapterxl.errors import EngineError, UsageError
from adapterxl.modules import make_head
from adapterxl.ragged import pack

LENGTHS = Path(__file__).with_name("lengths.json")
TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}  # of loss and gradient norm without dropout, relative
LABELS = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Rows:
    """One batch: token rows, and the same padded and on the device, which costs the vanilla libraries nothing here."""

    rows: list[list[int]]
    ids: Tensor
    mask: Tensor
    targets: Tensor

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.rows]


class Runner:
    """A module in an engine: ours from token rows, as the training loop has them, or a library's own model."""

    def __init__(self, on: Backbone, method: str, engine: str, *, top: bool = False, compiled: bool = False) -> None:
        on = copy.copy(on)  # the weights are shared
        on.compile = compiled
        self.on, self.method, self.engine_name, self.top, self.cached = on, method, engine, top, False
        third = tuple(range(on.layers - max(1, on.layers // 3), on.layers))
        settings = replace(METHODS[method], layers=third) if top else METHODS[method]
        generator = torch.Generator().manual_seed(1)
        self.part = settings.build("benchmark", on, generator, torch.float32)
        with torch.no_grad():
            for tensor in self.part.parameters():
                if not tensor.any():
                    tensor.normal_(0.0, 0.02, generator=generator)
        self.engine: Any = get_engine(engine)(on, [], self.part)
        self.head = make_head("classify", on, LABELS).initialise(0.02, generator).to(on.device)
        self.parameters = [*self.engine.parameters().values(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, fused=True)

    def __str__(self) -> str:
        where = (" top third" if self.top else "") + (", trunk cached" if self.cached else "")
        where += ", compiled" if self.on.compile else ""
        return f"{self.engine_name} {self.method}{where}"

    def loss(self, rows: Rows, *, training: bool = True) -> Tensor:
        self.head.train(training)
        with self.on.autocast():
            if self.engine_name == "packed":
                batch = pack(rows.rows, first_only=True).to(self.on.device)
                scores = self.head(self.engine.hidden(batch, training=training), batch)
            else:
                model = self.engine.model.train(training)
                hidden = model(input_ids=rows.ids, attention_mask=rows.mask).last_hidden_state.flatten(0, 1)
                first = torch.arange(len(rows.ids), device=hidden.device) * rows.ids.shape[1]
                scores = self.head(hidden, SimpleNamespace(first_tokens=first))
            return nn.functional.cross_entropy(scores.float(), rows.targets)

    def step(self, rows: Rows) -> None:
        self.loss(rows).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def evaluate(self, rows: Rows) -> None:
        with torch.no_grad():
            self.loss(rows, training=False)

    def loss_and_norm(self, rows: Rows) -> tuple[float, float]:
        loss = self.loss(rows, training=False)
        loss.backward()
        norm = float(nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]))
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), norm


def make_batches(on: Backbone, lengths: Sequence[int], size: int) -> list[Rows]:
    """Random tokens in rows of these lengths, grouped by length as in training."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for chosen in epoch_batches(lengths, batch_size=size, tokens_per_batch=None, seed=1, epoch=0):
        rows = [torch.randint(5, on.config.vocab_size, (lengths[i],), generator=generator) for i in chosen]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=on.config.pad_token_id).to(on.device)
        targets = torch.randint(0, len(LABELS), (len(rows),), generator=generator).to(on.device)
        found.append(Rows([row.tolist() for row in rows], ids, (ids != on.config.pad_token_id).long(), targets))
    return found


def matmul_peak(on: Backbone, size: int) -> float:
    """Most FLOPs a second of a square matrix product in the backbone's precision."""
    a, b = (torch.randn(size, size, device=on.device, dtype=on.dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        synchronize(on.device)
        start = time.perf_counter()
        a @ b
        synchronize(on.device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def seconds(run: Callable[[Rows], None], batches: Sequence[Rows], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    for rows in batches:
        run(rows)
    synchronize(device)
    return time.perf_counter() - start


def check(runners: Sequence[Runner], rows: Rows) -> None:
    """Without dropout all engines give one method's loss and gradient norm; else times would compare nothing."""
    expected: dict[tuple[str, bool], tuple[float, float]] = {}
    for runner in runners:
        found = runner.loss_and_norm(rows)
        wanted = expected.setdefault((runner.method, runner.top), found)
        tolerance = TOLERANCE[runner.on.dtype_name]
        if any(abs(a - b) > tolerance * abs(b) for a, b in zip(found, wanted, strict=True)):
            raise EngineError(f"{runner}: loss and gradient norm are {found}, those of packed {wanted}.")


@contextmanager
def fitting(result: dict[str, Any]) -> Iterator[None]:
    """A variant that needs more memory than there is says so, and the others go on."""
    try:
        yield
    except torch.OutOfMemoryError:
        result["out_of_memory"] = True
        torch.cuda.empty_cache()


def measure(on: Backbone, lengths: Sequence[int], size: int, until: float, folder: Path) -> list[dict[str, Any]]:
    """Figures of every variant on the same batches, which take turns until the time is over, and at least twice."""
    batches = make_batches(on, lengths, size)
    largest = max(batches, key=lambda rows: sum(rows.lengths))
    runners = [Runner(on, method, engine) for method in METHODS for engine in ("packed", VANILLA[method])]
    runners += [Runner(on, "lora", "packed", top=True), cached := Runner(on, "lora", "packed", top=True)]
    if on.device.type == "cuda":  # what --compile is for; elsewhere it would take longer than all the rest
        runners.append(Runner(on, "lora", "packed", compiled=True))
    assert isinstance(cached.engine, PackedEngine)
    cached.engine.trunk = TrunkCache(on, [], cached.part.layers[0], dtype="bf16", limit=1e12, folder=folder)
    cached.engine.trunk.add((row, [0] * len(row)) for rows in batches for row in rows.rows)
    cached.cached = True
    check([runner for runner in runners if not runner.cached], batches[0])
    results: list[dict[str, Any]] = []
    for runner in runners:
        result: dict[str, Any] = {"variant": str(runner), "engine": runner.engine_name, "method": runner.method}
        result |= {"top_third": runner.top, "trunk_cached": runner.cached, "train": [], "evaluate": []}
        with fitting(result):
            runner.step(largest)
            result["step_bytes"] = peak_bytes(lambda r=runner: r.step(largest), on.device)  # type: ignore[misc]
            runner.evaluate(largest)
        results.append(result)
    if on.device.type == "cuda":
        held = sum(p.nbytes for p in on.model.parameters())
        for result in results:
            result["with_weights_bytes"] = result.get("step_bytes", 0) + held
    number, share = 0, max(1, min(8, len(batches)))
    while number < 2 or time.perf_counter() < until:
        part = [batches[(number * share + i) % len(batches)] for i in range(share)]
        tokens = sum(sum(rows.lengths) for rows in part)
        for runner, result in zip(runners, results, strict=True):
            if "out_of_memory" in result:
                continue
            with fitting(result):
                for what, run in (("train", runner.step), ("evaluate", runner.evaluate)):
                    result[what].append({"tokens": tokens, "seconds": seconds(run, part, on.device)})
        for result in results:  # of a step's matrix products, without padding
            lengths_of = [length for rows in part for length in rows.lengths]
            if not result["top_third"] and result["train"]:
                runner = runners[results.index(result)]
                squares = sum(length * length for length in lengths_of)
                count_of = len(lengths_of)
                rows_of = count_of if runner.engine_name == "packed" else None  # its last layer computes less
                flops = step_flops(on, runner.part, runner.head, tokens, squares, count_of, rows_of)
                result["train"][-1]["flops"] = flops
        number += 1
    return results


def summarise(results: Sequence[dict[str, Any]], peak: float) -> None:
    """Tokens a second, share of the peak, and speed over the vanilla library of the same method."""
    by_variant = {result["variant"]: result for result in results}
    for result in results:
        for what in ("train", "evaluate"):
            runs = result[what]
            if not runs:
                continue
            speeds = [run["tokens"] / run["seconds"] for run in runs]
            result[f"{what}_tokens_per_second"] = spread(speeds)
            vanilla = by_variant[f"{VANILLA[result['method']]} {result['method']}"][what]
            if vanilla:
                pairs = zip(speeds, vanilla, strict=False)
                result[f"{what}_over_vanilla"] = spread([own * run["seconds"] / run["tokens"] for own, run in pairs])
        shares = [run["flops"] / run["seconds"] / peak for run in result["train"] if "flops" in run]
        if shares:
            result["share_of_peak"] = spread(shares)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON that is written."""
    started = time.perf_counter()
    sizes, kinds = arguments.sizes.split(","), arguments.lengths.split(",")
    distribution = json.loads(LENGTHS.read_text(encoding="utf-8"))
    for option, given, known in (("--sizes", sizes, SIZES), ("--lengths", kinds, ("nli", "qa"))):
        for name in given:
            if name not in known:
                raise UsageError(f"{option}: '{name}' is not one of {', '.join(known)}.")
    groups: list[dict[str, Any]] = []
    peak = 0.0
    for number, size in enumerate(sizes):
        with tempfile.TemporaryDirectory() as folder:
            cuda = torch.cuda.is_available() and arguments.device != "cpu"
            device, dtype = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
            write_backbone(Path(folder) / "base", size, dtype, torch.device(device))
            on = Backbone(Path(folder) / "base", dtype="bf16" if cuda else "fp32", device=device)
            peak = peak or matmul_peak(on, 8192 if cuda else 256)
            for kind_number, kind in enumerate(kinds):
                left = arguments.seconds - (time.perf_counter() - started)
                share = left / ((len(sizes) - number) * len(kinds) - kind_number)
                lengths = distribution[kind][:: max(1, 1024 // arguments.rows)][: arguments.rows]
                results = measure(
                    on, lengths, arguments.batch_size, time.perf_counter() + 0.6 * share, Path(folder) / kind
                )
                summarise(results, peak)
                groups.append({"size": size, "lengths": kind, "dtype": on.dtype_name, "results": results})
    return {
        "format": 1,
        "benchmark": "gpu",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(arguments, key) for key in ("sizes", "lengths", "batch_size", "rows", "seconds")},
        "machine": machine(on.device),
        "versions": versions(),
        "row_lengths": distribution["source"],
        "matmul_peak_flops": peak,
        "seconds": round(time.perf_counter() - started, 1),
        "groups": groups,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """A line for each result."""
    for group in report["groups"]:
        for result in group["results"]:
            figures = "out of memory"
            if "train_tokens_per_second" in result and "evaluate_tokens_per_second" in result:
                figures = (
                    f"train {result['train_tokens_per_second']['median']:,.0f} tokens/s "
                    f"({result.get('train_over_vanilla', {}).get('median', 0):.2f}x), "
                    f"evaluate {result['evaluate_tokens_per_second']['median']:,.0f} tokens/s "
                    f"({result.get('evaluate_over_vanilla', {}).get('median', 0):.2f}x), "
                    f"{result['step_bytes'] / 2**20:,.0f} MiB a step, "
                    f"{result.get('share_of_peak', {}).get('median', 0):.1%} of the peak"
                )
            console.print(f"{group['size']}, {group['lengths']}, {result['variant']}: {figures}")


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    parser = argparse.ArgumentParser(description="Packed engine, peft and adapters on a GPU, with random weights.")
    parser.add_argument("--sizes", default="base,large", help="of base, large (and tiny, to try the script)")
    parser.add_argument("--lengths", default="nli,qa", help="row lengths: of nli, qa")
    parser.add_argument("--batch-size", type=count, default=32)
    parser.add_argument("--rows", type=count, default=1024, help="rows that batches are made of, at most 1024")
    parser.add_argument("--seconds", type=count, default=400, help="time for all of it, about")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    return finish(arguments.out, lambda: run(arguments), show)


if __name__ == "__main__":
    sys.exit(main())
