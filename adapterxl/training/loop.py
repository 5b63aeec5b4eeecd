"""One training: batches, optimizer, schedule, log, early stopping, checkpoints. `together` runs one or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.collate import Batch, collate, count_targets
from ..data.items import Item, lengths_of
from ..data.masking import Masking
from ..engines import Engine
from ..errors import TrainingError
from ..evaluation.zero_shot import peak_memory
from ..modules import Head
from ..modules.heads import row_losses
from .batches import Batches, count_steps
from .checkpoint import Checkpoint, read_checkpoints, write_checkpoint
from .log import Log
from .processes import Processes, is_main
from .request import Request, differences, fixed, in_words
from .settings import Settings


@dataclass(frozen=True)
class Stream:
    """One task's training items and the head that answers it; tasks of a mix may share a head.

    Attributes:
        masking: mask: draws the masks of every batch anew; None for other kinds.
    """

    task: str
    kind: str
    head: Head
    items: Sequence[Item]
    masking: Masking | None = None


class Loop:
    """One training of one engine and the heads on it, as the pieces of an optimizer step.

    Args:
        streams: The tasks to train on; one, but for a mix.
        rate: Highest learning rate.
        sample: The stream of a batch by the batch's number from 0; always the first where there is but one.
        dev_score: Gives each task's dev score at the present state, higher is better; None where there is no dev set.
        folder: Where log and checkpoints go; None keeps nothing.
        request: What is trained on what: only a checkpoint of the same request is taken up again, or one that differs
            in what may differ, with `override`.
    """

    def __init__(
        self,
        engine: Engine,
        streams: Sequence[Stream],
        settings: Settings,
        rate: float,
        device: torch.device,
        *,
        name: str = "",
        sample: Callable[[int], int] | None = None,
        dev_score: Callable[[], Mapping[str, float]] | None = None,
        folder: Path | None = None,
        request: Request | None = None,
    ) -> None:
        self.engine, self.streams, self.settings, self.rate, self.device = engine, streams, settings, rate, device
        self.name, self.dev_score, self.folder, self.request = name, dev_score, folder, request or {}
        self.log = None if folder is None or not is_main() else Log(folder / "log.jsonl")
        self.sample = sample or (lambda number: 0)
        lengths = [lengths_of(stream.items) for stream in streams]
        self.batches = Batches([one for each in lengths for one in each], settings)
        self.drawn_from = [self.batches] if len(streams) == 1 else [Batches(each, settings) for each in lengths]
        self.steps = count_steps(self.batches, settings)
        heads = list(dict.fromkeys(stream.head for stream in streams))
        self.parameters: dict[str, nn.Parameter] = {f"module.{name}": p for name, p in engine.parameters().items()}
        for index, head in enumerate(heads):
            prefix = "head" if len(heads) == 1 else f"head{index}"
            self.parameters |= {f"{prefix}.{name}": p for name, p in head.named_parameters()}
        decayed = [p for p in self.parameters.values() if p.ndim > 1]
        plain = [p for p in self.parameters.values() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=rate,
            fused=True,
        )
        every = settings.eval_every or (max(1, self.steps // 10) if settings.patience else None)
        self.dev_every = every if dev_score is not None else None
        self.step = 0
        self.drawn = [0] * len(streams)  # batches of each stream so far
        self.best: float | None = None
        self.best_step = 0
        self.stale = 0
        self.best_state: dict[str, Tensor] = {}
        self.seconds = 0.0
        self.tokens = 0
        self.scored = 0  # the last step whose dev score was looked at
        self.pieces = 1  # that every batch is cut into, since memory was short
        self.halved: dict[str, int] = {}  # the pieces by the step that they began at
        self.overridden: list[dict[str, Any]] = []  # what the run went on with in another way, and at which step
        self.saved: list[int] = []  # steps whose checkpoints are whole, the oldest first
        self.error: TrainingError | None = None
        self.figures: dict[str, float] = {}  # of the last step that was looked at
        self._since: tuple[float, int] | None = None  # time and tokens at the first step that was not looked at
        # Loss, number, gradient norm and each parameter's of the last step, or of the first that was not finite;
        # then `_broken` is 1.
        self._figures = torch.zeros(3 + len(self.parameters), dtype=torch.float64, device=device)
        self._broken = torch.zeros((), device=device)

    # --- an optimizer step, in the order of these

    def begin(self) -> None:
        self._since = self._since or (time.monotonic(), self.tokens)
        self._lr = self.settings.rate_at(self.step, self.steps, self.rate)
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr
        self.optimizer.zero_grad(set_to_none=True)  # of a step that memory was too short for
        self._drawing = list(self.drawn)
        first = sum(self.drawn)
        self._used = {self.sample(first + micro) for micro in range(self.settings.accumulation)}
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.step_tokens = self._area = 0

    def next_batch(self) -> None:
        """Draw the items of the next batch."""
        self._at = self.sample(sum(self._drawing))
        stream, number = self.streams[self._at], self._drawing[self._at]
        items = [stream.items[i] for i in self.drawn_from[self._at][number]]
        if stream.masking is not None:  # before it is shared, so that processes change no mask
            items = stream.masking.again(items, [self.settings.seed, 5, number])
        self._drawing[self._at] += 1
        rows = [len(row) for item in items for row in item.rows]
        self.step_tokens += sum(rows)
        self._area += len(rows) * max(rows)
        self.items, self.longest = items, max(rows)

    def piece(self, processes: Processes, number: int) -> Batch | None:
        """A piece of this process's share of the batch; None where nothing can be learned from that."""
        kind = self.streams[self._at].kind
        own = processes.share(self.items)[number :: self.pieces]
        # A loss is a mean; shares and pieces may hold more or fewer targets, so each counts by them.
        self._weight = count_targets(kind, own) / max(1, count_targets(kind, self.items))
        return collate(kind, own, self.device) if self._weight else None

    def losses(self, hidden: Tensor | None, batch: Batch | None, *, penalty: bool) -> list[Tensor]:
        """What this training adds to the loss, for the hidden states of its piece; nothing waits for the device.

        Args:
            penalty: Whether the engine's is added here; once a batch it is.
        """
        found, stream = [], self.streams[self._at]
        if batch is not None and hidden is not None:
            scores = stream.head.train()(hidden, batch.ragged, batch.select)
            found.append(row_losses(stream.kind, scores, batch.ragged, batch.targets) * self._weight)
        if penalty and (value := self.engine.penalty()) is not None:
            found.append(value)
        if not found:
            return []
        loss = sum(found[1:], found[0]) / self.settings.accumulation
        self._loss += loss.detach()
        return [loss]

    def gradients(self) -> tuple[list[nn.Parameter], list[Tensor]]:
        """What all processes add up: gradients of what took part in the step, and the loss."""
        heads = {id(p) for at in self._used for p in self.streams[at].head.parameters()}
        own = {id(p) for p in self.engine.parameters().values()}
        used = [p for p in self.parameters.values() if id(p) in heads | own]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        return used, [*grads, self._loss.to(used[0].dtype)]

    def take_sums(self, used: Sequence[nn.Parameter], sums: Sequence[Tensor]) -> None:
        for parameter, total in zip(used, sums, strict=False):
            parameter.grad = total
        self._loss = sums[-1].double()

    def judge(self) -> None:
        """Clip the gradient, and note whether loss and gradient are finite: on the device, without waiting for it."""
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        norms = dict(zip(gradients, torch._foreach_norm(list(gradients.values())), strict=True))  # as clip_grad_norm_
        norm = torch.linalg.vector_norm(torch.stack(list(norms.values())))
        nn.utils.clip_grads_with_norm_(self.parameters.values(), self.settings.max_grad_norm, norm)
        each = [norms.get(name, torch.zeros_like(norm)) for name in self.parameters]
        fresh = torch.stack([self._loss, torch.full_like(self._loss, self.step + 1)])
        fresh = torch.cat([fresh, torch.stack([norm, *each]).double()])
        self._figures = torch.where(self._broken > 0, self._figures, fresh)
        self._broken = torch.maximum(self._broken, 1 - torch.isfinite(fresh).all().float())

    def must_look(self) -> bool:
        """Whether the figures of the step that is being made are needed, for the log or before its state is used."""
        step, every = self.step + 1, self.settings.checkpoint_every
        return step % self.settings.log_every == 0 or step % every == 0 or self._dev_after(step) or step == self.steps

    def look(self) -> None:
        """Read the figures; if a step was not finite, the state is the one before it, as no update was made since."""
        loss, step, norm, *norms = self._figures.tolist()
        assert self._since is not None
        seconds, tokens = time.monotonic() - self._since[0], self.tokens + self.step_tokens - self._since[1]
        self._since = None
        self.figures = {
            "loss": loss,
            "lr": self._lr,
            "grad_norm": norm,
            "tokens_per_second": tokens / max(seconds, 1e-9),
            "fill": self.step_tokens / self._area,
        }
        if math.isfinite(loss) and math.isfinite(norm):
            return
        self.optimizer.zero_grad(set_to_none=True)
        self.step = int(step) - 1
        self._draw_up_to_here()
        kept = f" The state before it is kept in {self.folder}." if self.folder else ""
        self.error = TrainingError(
            f"Step {self.step + 1}: {self._broken_where(loss, norm, norms)}; the run stops and no module is written."
            f"{kept} Start anew with --overwrite and a lower --lr than {self.rate:g}, or with --dtype fp32."
        )

    def _broken_where(self, loss: float, norm: float, norms: Sequence[float]) -> str:
        """Which tensor it is; of gradients the first on the way down from the loss."""
        bad = [(name, value) for name, value in zip(self.parameters, norms, strict=True) if not math.isfinite(value)]
        named = f"the gradient of {bad[-1][0]}" if bad else "the gradient norm"
        many = f" ({len(bad)} of {len(norms)} gradients, this one first)" if len(bad) > 1 else ""
        if math.isfinite(loss):
            return f"{named} is {bad[-1][1] if bad else norm}{many}, at a loss of {loss:g}"
        return f"the loss is {loss}" + (f", and {named}{many}" if bad else "")

    def _draw_up_to_here(self) -> None:
        """Set the batches drawn to those of the steps done."""
        before = [self.sample(number) for number in range(self.step * self.settings.accumulation)]
        self.drawn = [before.count(stream) for stream in range(len(self.streams))]

    def halve(self) -> None:
        """From this step on, cut every batch into twice as many pieces."""
        self.pieces *= 2
        self.halved[str(self.step + 1)] = self.pieces
        self._log({"pieces": self.pieces}, self.step + 1)

    def update(self) -> None:
        self.optimizer.found_inf = self._broken  # type: ignore[attr-defined]  # read by the fused kernel: 1 skips
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.tokens += self.step_tokens
        self.drawn = self._drawing
        self.step += 1

    # --- between steps

    @property
    def stopped(self) -> bool:
        """Whether patience is at its end."""
        return self.settings.patience is not None and self.stale >= self.settings.patience

    @property
    def ended(self) -> bool:
        return self.error is not None or self.stopped or self.step >= self.steps

    def dev_is_due(self) -> bool:
        return self._dev_after(self.step) and self.scored < self.step

    def _dev_after(self, step: int) -> bool:
        return self.dev_every is not None and (step % self.dev_every == 0 or step == self.steps)

    def score_dev(self, processes: Processes) -> None:
        """Score the dev rows and keep the best state. Of several processes the main one scores, for all of them."""
        assert self.dev_score is not None
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            each = processes.from_main(dict(self.dev_score()) if processes.rank == 0 else {})
        score = sum(each.values()) / len(each)
        self._log({"dev_score": score} | ({"dev_scores": each} if len(self.streams) > 1 else {}))
        self.scored = self.step
        if self.settings.patience is None:
            return
        if self.best is None or score > self.best:
            self.best, self.best_step, self.stale = score, self.step, 0
            self.best_state = {name: p.detach().clone() for name, p in self.parameters.items()}
        else:
            self.stale += 1

    def keep_best(self) -> None:
        """Put the best state in place, where early stopping kept one."""
        with torch.no_grad():
            for name, tensor in self.best_state.items():
                self.parameters[name].copy_(tensor)

    def facts(self) -> dict[str, Any]:
        """What is recorded of the run."""
        return {
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "tokens": self.tokens,
            "stopped_early": self.stopped,
            **({"best_step": self.best_step} if self.best_state else {}),
            **({"pieces": self.halved} if self.halved else {}),
            **({"overridden": self.overridden} if self.overridden else {}),
        }

    def log_step(self) -> None:
        if self.step % self.settings.log_every == 0 or self.step == self.steps:
            names = [stream.task for stream in self.streams]
            drawn = {"batches": dict(zip(names, self.drawn, strict=True))} if len(names) > 1 else {}
            self._log(self.figures | drawn)

    def _log(self, figures: dict[str, Any], step: int | None = None) -> None:
        if self.log is not None:
            step = step or self.step
            epoch = round(self.batches.epochs_before(step * self.settings.accumulation), 4)
            self.log.write({"step": step, "epoch": epoch, **figures, "peak_memory_bytes": peak_memory(self.device)})

    def checkpoint_bytes(self) -> int:
        """About what a checkpoint takes: parameters, two moments, the best state, and random states."""
        copies = 4 if self.settings.patience else 3
        return 50_000 + sum((copies * p.numel() + 1) * p.element_size() for p in self.parameters.values())

    def save(self, random: Mapping[str, Tensor]) -> None:
        """Keep the state after `step` steps, with the random states that go with it."""
        if self.folder is None or not is_main():
            return
        tensors: dict[str, Tensor] = {f"parameter.{name}": p for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_state.items()}
        tensors |= {f"random.{device}": state for device, state in random.items()}
        values = {name: getattr(self, name) for name in (*_VALUES, "request")}
        write_checkpoint(self.folder / "checkpoints", Checkpoint(self.step, tensors, values))

    def checkpoints(self, override: bool = False) -> list[Checkpoint]:
        """States that this run can go on from, newest first.

        Raises:
            TrainingError: If all are of another request, naming what differs.
        """
        found = [] if self.folder is None else read_checkpoints(self.folder / "checkpoints")
        same = [one for one in found if one.values["request"] == self.request]
        if same or not found:
            return same
        changed = differences(found[0].values["request"], self.request)
        stuck = fixed(changed)
        if override and not stuck:
            return found
        only = {key: changed[key] for key in stuck} if override else changed
        raise TrainingError(
            f"{self.folder}: was started otherwise: {in_words(only)}. Give the same again to --resume"
            + ("" if stuck else f", --override to go on after step {found[0].step} as asked now")
            + ", or --overwrite to start anew."
        )

    def take_up(self, found: Checkpoint | None) -> None:
        """Go on from a state, or from the beginning."""
        if self.log is not None:
            self.log.cut(0 if found is None else found.step)
        if found is None:
            return
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.tensors[f"parameter.{name}"])
                prefix = f"optimizer.{name}."
                state = {
                    key.removeprefix(prefix): t.to(parameter.device)
                    for key, t in found.tensors.items()
                    if key.startswith(prefix)
                }
                if state:  # none of a head that no batch was for yet
                    self.optimizer.state[parameter] = state
        self.best_state = {
            k.removeprefix("best."): t.to(self.device) for k, t in found.tensors.items() if k.startswith("best.")
        }
        self.step = found.step
        for name in _VALUES:
            setattr(self, name, found.values[name])
        if changed := differences(found.values["request"], self.request):
            self.overridden = [*self.overridden, {"step": self.step, "changed": in_words(changed)}]
            self._draw_up_to_here()


# What a checkpoint holds beside tensors. The schedule is a function of the step.
_VALUES = ("scored", "best", "best_step", "stale", "seconds", "tokens", "drawn", "pieces", "halved", "overridden")
