"""What composing nine LoRA modules costs at the sizes of XLM-R large: ours against peft's add_weighted_adapter.

    python benchmarks/merge_scale.py --out benchmarks/results/merge_scale.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from measures import count, machine, peak_rss
from reporting import counts, finish
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from adapterxl.artifacts.module import TaskModule, versions
from adapterxl.errors import CompositionError, UsageError
from adapterxl.modules import SITES, LoRAPart
from adapterxl.modules.lora import concatenate, site_shape
from adapterxl.operators import Expression, average, compose, dare, merge, prune, svd, ties
from adapterxl.operators.dare import chances, dropped

MIB = 2**20
SCALE = 2.0  # alpha / rank of every module; a power of two, so folding it in is exact
DARE_SEED = 0
Key = tuple[int, str]
Settings = argparse.Namespace
# Kept share of the entries: those of the published methods.
TIES_DENSITY, DARE_DENSITY = 0.2, 0.5


# The modules: factors of a member at a place, the same in every process


def factors(settings: Settings, member: int, key: Key) -> tuple[Tensor, Tensor]:
    """A and B, float32, random by seed, member and place."""
    layer, site = key
    number = ((settings.seed * 64 + member) * 512 + layer) * 8 + list(SITES).index(site)
    generator = torch.Generator().manual_seed(number)
    outputs, inputs = site_shape(site, space(settings))
    rank = settings.ranks[member]
    a = torch.randn(rank, inputs, generator=generator) / inputs**0.5
    return a, torch.randn(outputs, rank, generator=generator) * 0.05


def space(settings: Settings) -> Any:
    return SimpleNamespace(hidden=settings.hidden, intermediate=settings.ffn, layers=settings.layers)


def places(settings: Settings) -> list[Key]:
    return [(layer, site) for layer in range(settings.layers) for site in SITES]


def our_modules(settings: Settings) -> list[TaskModule]:
    base = {"name": "none", "id": None, "revision": None, "fingerprint": "0" * 64, "model_type": "xlm-roberta",
            "hidden_size": settings.hidden, "layers": settings.layers}  # fmt: skip
    modules = []
    for member in range(len(settings.ranks)):
        found = {key: factors(settings, member, key) for key in places(settings)}
        held = {key: (a, b * SCALE) for key, (a, b) in found.items()}
        part = LoRAPart(f"m{member}", held).requires_grad_(False)
        modules.append(TaskModule(f"m{member}", "", "", (part,), None, base))
    return modules


def peft_model(settings: Settings) -> Any:
    """The same in a peft model. The backbone's own weights are one number each, so they take no memory."""
    import peft

    root = nn.Module()
    for layer, site in places(settings):
        outputs, inputs = site_shape(site, space(settings))
        linear = nn.Linear(1, 1, bias=False)
        linear.in_features, linear.out_features = inputs, outputs
        linear.weight = nn.Parameter(torch.zeros(1, 1).expand(outputs, inputs), requires_grad=False)
        at, *path = root, *f"encoder.layer.{layer}.{SITES[site]}".split(".")
        for name in path[:-1]:
            if not hasattr(at, name):
                at.add_module(name, nn.Module())
            at = getattr(at, name)
        at.add_module(path[-1], linear)
    wrapped = None
    for member, rank in enumerate(settings.ranks):
        config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=["query", "key", "value", "dense"])
        if wrapped is None:
            wrapped = peft.get_peft_model(root, config, adapter_name="a0")
        else:
            wrapped.add_adapter(f"a{member}", config)
        for key in places(settings):
            module = root.get_submodule(f"encoder.layer.{key[0]}.{SITES[key[1]]}")
            a, b = factors(settings, member, key)
            module.lora_A[f"a{member}"].weight.data, module.lora_B[f"a{member}"].weight.data = a, b
    return wrapped


# The references: dense matrices in float64, by numpy


def dense(settings: Settings, key: Key) -> list[np.ndarray]:
    every = (factors(settings, member, key) for member in range(len(settings.ranks)))
    return [SCALE * b.double().numpy() @ a.double().numpy() for a, b in every]


def total(settings: Settings, key: Key) -> np.ndarray:
    return np.sum(dense(settings, key), axis=0)


def mean(settings: Settings, key: Key) -> np.ndarray:
    return np.mean(dense(settings, key), axis=0)


Whole = Callable[[float], int]


def largest(matrix: np.ndarray, density: float, whole: Whole = round) -> np.ndarray:
    """The largest entries by magnitude; a share that is no whole number is rounded, by peft cut."""
    order = np.argsort(-np.abs(matrix), axis=None)[: whole(density * matrix.size)]
    kept = np.zeros(matrix.size)
    kept[order] = matrix.ravel()[order]
    return kept.reshape(matrix.shape)


def elected(settings: Settings, key: Key, whole: Whole = round) -> np.ndarray:
    each = [largest(matrix, TIES_DENSITY, whole) for matrix in dense(settings, key)]
    sign = np.sign(np.sum(each, axis=0))
    count = np.sum([np.sign(matrix) == sign for matrix in each], axis=0) * (sign != 0)
    return np.sum([np.where(np.sign(matrix) == sign, matrix, 0) for matrix in each], axis=0) / np.maximum(count, 1)


def dropped_mean(settings: Settings, key: Key) -> np.ndarray:
    """What our dare keeps, from the masks that it draws."""
    kept = []
    for member, matrix in enumerate(dense(settings, key)):
        ones = dropped(torch.ones(matrix.shape), DARE_DENSITY, chances(DARE_SEED, member, key))
        kept.append(matrix * (ones.numpy() > 0) / DARE_DENSITY)
    return np.mean(kept, axis=0)


def pruned_total(settings: Settings, key: Key) -> np.ndarray:
    return largest(total(settings, key), TIES_DENSITY)


def total_pruned(settings: Settings, key: Key) -> np.ndarray:
    """peft prunes each module and adds them up; ours prunes what it is given, here the sum."""
    return np.sum([largest(matrix, TIES_DENSITY, int) for matrix in dense(settings, key)], axis=0)


def best(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, values, vh = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * values[:rank]) @ vh[:rank]


# The variants: (library, operation) -> what runs, the dense reference, whether it is truncated to --rank

Ours = Callable[[list[TaskModule], int], Expression]
Reference = Callable[[Settings, Key], np.ndarray]
OURS: dict[str, tuple[Ours, Reference, bool]] = {
    "merge": (lambda modules, rank: merge(*modules), total, False),
    "average": (lambda modules, rank: average(*modules), mean, False),
    "svd": (lambda modules, rank: svd(merge(*modules), rank=rank), total, True),
    "ties": (lambda modules, rank: ties(*modules, density=TIES_DENSITY, rank=rank), elected, True),
    "dare": (lambda modules, rank: dare(*modules, density=DARE_DENSITY, seed=DARE_SEED, rank=rank), dropped_mean, True),
    "prune": (lambda modules, rank: prune(merge(*modules), density=TIES_DENSITY, rank=rank), pruned_total, True),
}
# Operation of peft -> the weight of each module (None: 1 / modules), density, reference (None: its masks are unknown).
PEFT: dict[str, tuple[float | None, float | None, Reference | None, bool]] = {
    "cat": (1.0, None, total, False),
    "linear": (None, None, mean, False),
    "svd": (1.0, None, total, True),
    "ties_svd": (1.0, TIES_DENSITY, partial(elected, whole=int), True),
    "dare_linear_svd": (None, DARE_DENSITY, None, True),
    "magnitude_prune_svd": (1.0, TIES_DENSITY, total_pruned, True),
}
VARIANTS = tuple([f"adapterxl {name}" for name in OURS] + [f"peft {name}" for name in PEFT])


def measure(settings: Settings, variant: str) -> dict[str, Any]:
    """One variant in this process: seconds, memory, and the error at a sample of places."""
    library, operation = variant.split(" ")
    given = our_modules(settings) if library == "adapterxl" else peft_model(settings)
    before, cpu, wall = peak_rss(), time.process_time(), time.perf_counter()
    try:
        found = run_ours(given, operation, settings) if library == "adapterxl" else run_peft(given, operation, settings)
    except ValueError as error:  # peft refuses some inputs
        return {"variant": variant, "refused": str(error)}
    result: dict[str, Any] = {
        "variant": variant,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "input_peak_bytes": before,
        "peak_bytes": peak_rss(),
    }
    reference, cut = OURS[operation][1:] if library == "adapterxl" else PEFT[operation][2:]
    if reference is not None:
        result["relative_error"] = {}
        for key in sample(settings):
            expected = reference(settings, key)
            expected = best(expected, settings.rank) if cut else expected
            error = np.linalg.norm(found(key) - expected) / np.linalg.norm(expected)
            result["relative_error"][f"{key[0]}.{key[1]}"] = float(error)
    return result


def run_ours(modules: list[TaskModule], operation: str, settings: Settings) -> Callable[[Key], np.ndarray]:
    made = compose(OURS[operation][0](modules, settings.rank))
    parts = [part for part in made.parts if isinstance(part, LoRAPart)]
    whole = parts[0] if len(parts) == 1 else concatenate(parts, "made")  # a merge is one LoRA when it runs or is saved

    def delta(key: Key) -> np.ndarray:
        found = whole.factors(*key)
        if found is None:
            raise CompositionError(f"{operation}: the result has nothing at {key}.")
        return found[1].detach().double().numpy() @ found[0].detach().double().numpy()

    return delta


def run_peft(wrapped: Any, operation: str, settings: Settings) -> Callable[[Key], np.ndarray]:
    weight, density, _, _ = PEFT[operation]
    count = len(settings.ranks)
    torch.manual_seed(settings.seed)
    wrapped.add_weighted_adapter(
        [f"a{member}" for member in range(count)], [1 / count if weight is None else weight] * count, "made", operation,
        svd_rank=settings.rank, density=density,
    )  # fmt: skip

    def delta(key: Key) -> np.ndarray:
        module = wrapped.base_model.model.get_submodule(f"encoder.layer.{key[0]}.{SITES[key[1]]}")
        a, b = (pair["made"].weight.detach().double().numpy() for pair in (module.lora_A, module.lora_B))
        return float(module.scaling["made"]) * b @ a

    return delta


def sample(settings: Settings) -> list[Key]:
    """A square and a tall matrix, of the first and the last layer."""
    return list(dict.fromkeys([(0, "query"), (settings.layers - 1, "ffn_up")]))


# The whole benchmark: each variant in a fresh process


def run(settings: Settings, given: Sequence[str]) -> dict[str, Any]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in settings.variants:
            out = Path(folder) / "result.json"
            command = [sys.executable, __file__, *given, "--out", str(out), "--child", variant]
            print(f"{variant} ...", file=sys.stderr, flush=True)
            try:
                done = subprocess.run(command, timeout=settings.timeout, capture_output=True, text=True)
            except subprocess.TimeoutExpired:
                results.append({"variant": variant, "timed_out": settings.timeout})
                continue
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise UsageError(f"{variant}: its process ended with {done.returncode}: {last}")
            results.append(json.loads(out.read_text(encoding="utf-8")))
    keys = ("layers", "hidden", "ffn", "ranks", "rank", "seed", "threads", "timeout")
    return {
        "format": 1,
        "benchmark": "merge_scale",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {key: getattr(settings, key) for key in keys},
        "densities": {"ties and prune": TIES_DENSITY, "dare": DARE_DENSITY},
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
        "results": results,
    }


def show(report: dict[str, Any], console: Console) -> None:
    arguments = report["arguments"]
    table = Table(title=f"{len(arguments['ranks'])} LoRA modules, {arguments['layers']} layers, hidden "
                        f"{arguments['hidden']}, ranks {', '.join(map(str, arguments['ranks']))}")  # fmt: skip
    for number, name in enumerate(("library, operation", "seconds", "peak MiB", "input MiB", "largest error")):
        table.add_column(name, justify="left" if number == 0 else "right")
    for result in report["results"]:
        if "seconds" not in result:
            why = f"stopped after {result['timed_out']:g} s" if "timed_out" in result else "refused"
            table.add_row(result["variant"], why, "", "", "")
            continue
        errors = result.get("relative_error")
        table.add_row(
            result["variant"], f"{result['seconds']:,.2f}", f"{result['peak_bytes'] / MIB:,.0f}",
            f"{result['input_peak_bytes'] / MIB:,.0f}", f"{max(errors.values()):.1e}" if errors else "",
        )  # fmt: skip
    console.print(table)


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    given = list(sys.argv[1:] if given is None else given)
    parser = argparse.ArgumentParser(description="Cost and error of compositions at scale: adapterxl and peft.")
    parser.add_argument("--layers", type=count, default=24)
    parser.add_argument("--hidden", type=count, default=1024)
    parser.add_argument("--ffn", type=count, default=4096)
    parser.add_argument("--ranks", type=counts, default=(4, 8, 8, 16, 16, 24, 32, 48, 64), help="one a module")
    parser.add_argument("--rank", type=count, default=64, help="of svd, ties, dare and prune")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="all by default")
    parser.add_argument("--timeout", type=float, help="seconds after which a variant is stopped")
    parser.add_argument("--threads", type=count, help="threads of PyTorch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    settings = parser.parse_args(given)

    def make() -> dict[str, Any]:
        if max(*settings.ranks, settings.rank) > min(settings.hidden, settings.ffn):
            raise UsageError(f"A rank is above the width {min(settings.hidden, settings.ffn)} of the matrices.")
        if settings.threads:
            torch.set_num_threads(settings.threads)
        return measure(settings, settings.child) if settings.child else run(settings, given)

    return finish(settings.out, make, None if settings.child else show)


if __name__ == "__main__":
    sys.exit(main())
