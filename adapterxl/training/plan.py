"""What a training would cost: rows, steps, sizes, FLOPs, time and memory, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..backbone import Backbone
from ..data.items import Item, lengths_of
from ..data.prepare import Prepared
from ..modules import FusionPart, Head, Part
from .batches import Batches, count_steps
from .cost import Cost
from .memory import breakdown, costliest, options_of, run_cost, size
from .settings import Settings

_GFLOPS = {"cpu": 15.0, "cuda": 20_000.0}  # per core; per GPU. Rough: for an order of magnitude only.


@dataclass(frozen=True)
class TrainingPlan:
    """Figures of a dry run; `table` gives them as (what, value) lines."""

    lines: tuple[tuple[str, str], ...]
    cost: Cost

    def table(self) -> list[tuple[str, str]]:
        return list(self.lines)


def together(plans: Mapping[str, TrainingPlan], shared: bool) -> TrainingPlan:
    """The plans of several modules as one.

    Args:
        shared: They train in one pass over one backbone, rather than one after another. Its memory is the sum of
            theirs with the backbone counted once.
    """
    costs = [plan.cost for plan in plans.values()]
    own = {field: sum(getattr(cost, field) for cost in costs) for field in ("rest", "trained", "kept", "temporary")}
    cost = replace(costs[0], **own) if shared else max(costs, key=lambda cost: cost.total)
    what = f"about {size(cost.total)} at the peak of a step that all {len(costs)} make together, with one backbone"
    each = [line for name, plan in plans.items() for line in (("module", name), *plan.lines)]
    return TrainingPlan((*each, ("together", what if shared else "one after another")), cost)


def forward_flops(on: Any, tokens: int, squares: int) -> int:
    """Analytic FLOPs of one packed forward of the backbone.

    Args:
        tokens: Tokens in all rows.
        squares: Sum of the squared row lengths (attention).
    """
    linear = 2 * tokens * (4 * on.hidden * on.hidden + 2 * on.hidden * on.intermediate)
    attention = 4 * squares * on.hidden
    return on.layers * (linear + attention)


def estimate(
    on: Backbone,
    part: Part | None,
    frozen: Sequence[Part],
    rows: Prepared,
    tasks: Sequence[tuple[Head, Sequence[Item]]],
    settings: Settings,
    *,
    task: str,
    origin: str,
    rate: float,
    engine: str,
    dev: int,
    augmented: Sequence[Mapping[str, Any]] = (),
) -> TrainingPlan:
    """Put a plan together. The backward pass through frozen weights costs one forward, half of the usual two.

    Args:
        tasks: Each task's head and items.
        augmented: What data operators did to the rows.
    """
    lengths = [length for _, items in tasks for length in lengths_of(items)]
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    batches = Batches(lengths, settings)
    steps = count_steps(batches, settings)
    share = batches.epochs_before(steps * settings.accumulation)
    batch = round(len(lengths) / len(batches.epoch(0)))
    fusions = [one for one in frozen if isinstance(one, FusionPart) and not one.trained]
    lowest = min((one.learns_from for one in (*fusions, *(() if part is None else (part,)))), default=on.layers)
    flops = share * forward_flops(on, tokens, squares) * (1 + (on.layers - lowest) / on.layers)
    new = 0 if part is None else part.size()
    fused = sum(p.numel() for one in fusions for p in one.learnable().values())
    head_size = sum(p.numel() for head in dict.fromkeys(head for head, _ in tasks) for p in head.parameters())
    cost = run_cost(on, options_of(on), frozen, part, costliest(on, tasks, settings), settings)
    cores = os.cpu_count() or 1
    speed = _GFLOPS[on.device.type] * 1e9 * (cores if on.device.type == "cpu" else 1)
    lines = (
        ("task", f"{task}, from {origin}"),
        (
            "rows",
            f"{len(rows.examples):,} ({len(lengths):,} items, {tokens:,} tokens, {rows.truncated:,} cut)",
        ),
        *((("augmented by", "; ".join(one["operator"] for one in augmented)),) if augmented else ()),
        ("dev rows", f"{dev:,}"),
        ("on top of", ", ".join(p.name for p in frozen) or "nothing"),
        ("steps", f"{steps:,} of about {batch} rows, learning rate up to {rate:g}, engine {engine}"),
        (
            "trained weights",
            f"{new:,} in the module, {f'{fused:,} in the fusion, ' if fusions else ''}{head_size:,} in the head",
        ),
        ("module on disk", _bytes(4 * (new + head_size + sum(p.size() for p in frozen)))),
        ("compute", f"about {flops / 1e12:,.2f} TFLOPs"),
        ("time", f"order of {_duration(flops / speed)} on {on.device.type}"),
        *breakdown(cost, "" if engine == "packed" else " (of the packed engine)"),
    )
    return TrainingPlan(lines, cost)


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
