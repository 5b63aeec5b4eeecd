"""Make a training fit into a given memory: options and batches, those that cost no quality first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..backbone import Backbone
from ..console import say
from ..data.items import Item, lengths_of
from ..errors import UsageError
from ..frozen import available
from ..modules import Head, Part
from .batches import Batches, count_steps
from .cost import Cost, Options, step_cost
from .settings import Settings, memory_bytes

if TYPE_CHECKING:
    from .job import Job

# From the best weights to the smallest; what is in each beside dtype and bits changes no number.
PRECISIONS: tuple[tuple[str, int | None], ...] = (("fp32", None), ("bf16", None), ("bf16", 8), ("bf16", 4))


@dataclass(frozen=True)
class MemoryPlan:
    """Options and settings of a training, and what they take."""

    options: Options
    settings: Settings
    cost: Cost

    def __str__(self) -> str:
        chosen, settings = self.options, self.settings
        many = "s" if settings.batch_size != 1 else ""
        size = f"{settings.batch_size:,} row{many}" if settings.batch_size else f"{settings.tokens_per_batch:,} tokens"
        words = [chosen.dtype + (f" with {chosen.bits}-bit matrices" if chosen.bits else "")]
        words += ["embeddings on the CPU"] if chosen.embeddings == "cpu" else []
        words += ["checkpointing"] if chosen.checkpointing else []
        words.append(f"{settings.accumulation} batches of {size} a step" if settings.accumulation > 1 else size)
        return ", ".join(words)

    def flags(self) -> str:
        """The same as options of `adapterxl train`."""
        chosen, settings = self.options, self.settings
        words = [f"--dtype {chosen.dtype}"] + ([f"--bits {chosen.bits}"] if chosen.bits else [])
        words += ["--embeddings cpu"] if chosen.embeddings == "cpu" else []
        words += ["--checkpointing"] if chosen.checkpointing else []
        rows = settings.batch_size is not None
        words.append(
            f"--{'batch-size' if rows else 'tokens-per-batch'} {settings.batch_size or settings.tokens_per_batch}"
        )
        return " ".join(words + ([f"--accumulation {settings.accumulation}"] if settings.accumulation > 1 else []))


def fit_memory(job: Job) -> Job:
    """The job with the options and batches that make it fit into `settings.memory`; its backbone takes the options.

    Raises:
        UsageError: If nothing fits, with the nearest plan; or for an engine that the model of the cost is not of.
    """
    budget = memory_bytes(str(job.settings.memory))
    if job.engine != "packed":
        raise UsageError(f"--memory plans for the packed engine, not for {job.engine}; leave one of the two out.")
    plans = _Plans(job)
    found = plans.first(budget, job.on.loaded)
    if found is None:
        raise UsageError(_refusal(plans, budget))
    chosen = found.options
    say(
        [f"plan for {job.settings.memory}: {found}", *(f"    {what}: {value}" for what, value in breakdown(found.cost))]
    )
    job.on.adapt(
        dtype_name=chosen.dtype, bits=chosen.bits, embeddings=chosen.embeddings, checkpointing=chosen.checkpointing
    )
    job.settings, job.dev_tokens = found.settings, min(job.dev_tokens, plans.tokens(found.settings))
    return job


def breakdown(cost: Cost, of: str = "") -> list[tuple[str, str]]:
    """A cost as lines of (what, bytes).

    Args:
        of: Added to the first line.
    """
    host = f" ({size(cost.host)} on the CPU instead)" if cost.host else ""
    return [
        ("memory", f"{size(cost.total)} at the peak of a step{of}"),
        ("frozen matrices", size(cost.matrices)),
        ("token embeddings", size(cost.embeddings) + host),
        ("other frozen weights", size(cost.rest)),
        ("what learns, with Adam's state", size(cost.trained)),
        ("kept for the backward pass", size(cost.kept)),
        ("gradients and temporary", size(cost.temporary)),
        *((("the device's own, not measured", size(cost.context)),) if cost.context else ()),
    ]


def size(count: float) -> str:
    """Bytes for a person, in powers of ten as `--memory` takes them."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def costliest(
    on: Backbone, tasks: Sequence[tuple[Head, Sequence[Item]]], settings: Settings
) -> list[tuple[Head, list[Item]]]:
    """The batch of a run that takes the most memory, of each of its tasks."""
    return [(head, _costliest(on, items, settings)) for head, items in tasks]


def _costliest(on: Backbone, items: Sequence[Item], settings: Settings) -> list[Item]:
    """Nearly all of a batch's memory grows with its tokens and with squared lengths."""
    lengths = lengths_of(items)
    squares = [sum(len(row) ** 2 for row in item.rows) for item in items]
    token = 10 * on.hidden + 2 * on.intermediate
    load = [token * n + 2 * on.heads * s for n, s in zip(lengths, squares, strict=True)]
    batches = Batches(lengths, settings)
    last = math.ceil(batches.epochs_before(count_steps(batches, settings) * settings.accumulation))
    epochs = (batches.epoch(number) for number in range(max(last, 1)))
    return [items[i] for i in max((b for epoch in epochs for b in epoch), key=lambda b: sum(load[i] for i in b))]


def run_cost(
    on: Backbone, options: Options, frozen: Sequence[Part], new: Part | None,
    batches: Sequence[tuple[Head, Sequence[Item]]], settings: Settings,
) -> Cost:  # fmt: skip
    """The cost of a step as these settings make it: several batches, and a copy of the best state where one is kept."""
    given = replace(options, accumulation=settings.accumulation)
    return step_cost(on, given, frozen, new, batches, copies=1 if settings.patience else 0)


def options_of(on: Backbone) -> Options:
    """The options that a backbone has."""
    return Options(on.dtype_name, on.bits, on.embeddings, on.checkpointing)


class _Plans:
    """The plans of a job, in order of preference; costs are found once."""

    def __init__(self, job: Job) -> None:
        self.job, self.on, self.settings = job, job.on, job.settings
        self.parts = (job.start_parts(), job.new_part())
        self.tasks = [(head, one.rows.items) for head, one in zip(job.new_heads(), job.given, strict=True)]
        self._costs: dict[Options, Cost] = {}
        self._batches: dict[int, list[tuple[Head, list[Item]]]] = {}

    def first(self, budget: int, loaded: bool) -> MemoryPlan | None:
        """The best plan that fits."""
        for precision in self.precisions(loaded):
            options = list(self.options(precision))
            if self.cost(options[-1]).total > budget:  # the leanest one of this precision
                continue
            return next(self.plan(one) for one in options if self.cost(one).total <= budget)
        return None

    def precisions(self, loaded: bool) -> list[tuple[str, int | None]]:
        """Those that may be chosen: of weights in memory theirs, else theirs and all smaller ones."""
        own = (self.on.dtype_name, self.on.bits)
        if loaded:
            return [own]
        if own[0] == "fp64":
            return [own]
        smaller = (p for p in PRECISIONS if p[0] == "bf16" and p != own and (p[1] or 16) <= (own[1] or 16))
        return [own, *(p for p in smaller if p[1] is None or available())]

    def options(self, precision: tuple[str, int | None]) -> Iterator[Options]:
        """All of one precision, from the quickest to the leanest."""
        # A head for masked tokens scores all tokens with the table, where it is.
        fixed = self.on.device.type == "cpu" or any(head.kind == "mask" for head, _ in self.tasks)
        places = (self.on.embeddings,) if fixed or self.on.embeddings == "cpu" else ("device", "cpu")
        for cut in self.cuts():
            for again in (False, True) if not self.on.checkpointing else (True,):
                for place in places:
                    yield Options(*precision, place, again, cut)

    def cuts(self) -> list[int]:
        """Into how many equal parts a batch may be cut."""
        rows, tokens = self.settings.batch_size, self.settings.tokens_per_batch
        if rows is not None:
            return [n for n in range(1, rows + 1) if rows % n == 0]
        longest = max(length for _, items in self.tasks for length in lengths_of(items))
        return [n for n in (2**power for power in range(20)) if n == 1 or (tokens or 0) // n >= max(longest, 16)]

    def plan(self, options: Options) -> MemoryPlan:
        return MemoryPlan(options, self.cut(options.accumulation), self.cost(options))

    def cut(self, parts: int) -> Settings:
        """The settings with smaller batches, and as many more of them a step."""
        rows, tokens = self.settings.batch_size, self.settings.tokens_per_batch
        sizes = {"batch_size": rows and rows // parts, "tokens_per_batch": tokens and tokens // parts}
        return self.settings.model_copy(update=sizes | {"accumulation": self.settings.accumulation * parts})

    def cost(self, options: Options) -> Cost:
        if options not in self._costs:
            self._costs[options] = self.cost_of(options, *self.parts)
        return self._costs[options]

    def cost_of(self, options: Options, frozen: Sequence[Part], new: Part | None) -> Cost:
        """The cost with these parts instead of the job's own."""
        return run_cost(
            self.on, options, frozen, new, self.batches(options.accumulation), self.cut(options.accumulation)
        )

    def batches(self, parts: int) -> list[tuple[Head, list[Item]]]:
        """Each task's head and costliest batch."""
        if parts not in self._batches:
            self._batches[parts] = costliest(self.on, self.tasks, self.cut(parts))
        return self._batches[parts]

    def tokens(self, settings: Settings) -> int:
        """Tokens of the largest of these batches."""
        batches = self.batches(settings.accumulation // self.settings.accumulation)
        return max(sum(item.tokens for item in items) for _, items in batches)


def _refusal(plans: _Plans, budget: int) -> str:
    """What does not fit, and the nearest that does."""
    on, method = plans.on, plans.job.method
    leanest = [plans.plan(list(plans.options(one))[-1]) for one in plans.precisions(on.loaded)][-1]
    said = f"No plan fits into {plans.settings.memory}. The nearest one takes {size(leanest.cost.total)}: {leanest}."
    said += f" Give --memory {math.ceil(leanest.cost.total / 1e6)}MB"
    if on.loaded and (other := plans.first(budget, False)) is not None:
        said += f", or let the backbone have other weights (it is loaded in {on.dtype_name}): {other.flags()}"
    layers: Any = getattr(method, "layers", None)
    if method is not None and layers is None and on.layers > 1:
        upper = replace(method, layers=tuple(range(on.layers // 2, on.layers)))
        part = upper.build("part", on, _generator(), plans.job._dtype)
        lower = plans.cost_of(leanest.options, plans.parts[0], part)
        said += f", or train modules in the upper half of the layers only (--layers {on.layers // 2}-{on.layers - 1}), "
        said += f"which takes {size(lower.total)}"
    elif leanest.settings.max_length is None:
        said += ", or a lower max_length"
    return said + "."


def _generator() -> Any:
    import torch

    return torch.Generator().manual_seed(0)
