"""One training: batches, optimizer, schedule, log, early stopping, checkpoints. `together` runs one or several."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.collate import Batch, collate, count_targets, epoch_batches
from ..data.masking import Masking
from ..data.prepare import Item
from ..durable import write_file
from ..engines import Engine
from ..errors import TrainingError
from ..evaluation.zero_shot import peak_memory
from ..modules import Head
from ..modules.heads import row_losses
from .checkpoint import Checkpoint, read_checkpoints, write_checkpoint
from .processes import Processes, is_main
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
        request: Digest of what is trained on what: only a checkpoint of the same request is taken up again.
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
        request: str = "",
    ) -> None:
        self.engine, self.streams, self.settings, self.rate, self.device = engine, streams, settings, rate, device
        self.name, self.dev_score, self.folder, self.request = name, dev_score, folder, request
        self.sample = sample or (lambda number: 0)
        lengths = [[item.tokens for item in stream.items] for stream in streams]
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
        self.error: TrainingError | None = None
        self.figures: dict[str, float] = {}  # of the last step that was looked at
        self._since: tuple[float, int] | None = None  # time and tokens at the first step that was not looked at
        # Loss, gradient norm and number of the last step, or of the first that was not finite; then `_broken` is 1.
        self._figures = torch.zeros(3, dtype=torch.float64, device=device)
        self._broken = torch.zeros((), device=device)

    # --- an optimizer step, in the order of these

    def begin(self) -> None:
        self._since = self._since or (time.monotonic(), self.tokens)
        self._lr = self.settings.rate_at(self.step, self.steps, self.rate)
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr
        self._drawing, self._used = list(self.drawn), set[int]()
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.step_tokens = self._area = 0

    def next_batch(self, processes: Processes) -> Batch | None:
        """The next batch, or this process's share of it; None where nothing can be learned from that."""
        self._at = self.sample(sum(self._drawing))
        stream, number = self.streams[self._at], self._drawing[self._at]
        items = [stream.items[i] for i in self.drawn_from[self._at][number]]
        if stream.masking is not None:  # before it is shared, so that processes change no mask
            items = stream.masking.again(items, [self.settings.seed, 5, number])
        self._drawing[self._at] += 1
        self._used.add(self._at)
        rows = [len(row) for item in items for row in item.rows]
        self.step_tokens += sum(rows)
        self._area += len(rows) * max(rows)
        own = processes.share(items)
        # A loss is a mean; shares may hold more or fewer targets, so each counts by them.
        self._weight = count_targets(stream.kind, own) / max(1, count_targets(stream.kind, items))
        return collate(stream.kind, own, self.device) if self._weight else None

    def losses(self, hidden: Tensor | None, batch: Batch | None, processes: Processes) -> list[Tensor]:
        """What this training adds to the loss, for the hidden states of its batch; nothing waits for the device."""
        found, stream = [], self.streams[self._at]
        if batch is not None and hidden is not None:
            scores = stream.head.train()(hidden, batch.ragged, batch.select)
            found.append(row_losses(stream.kind, scores, batch.ragged, batch.targets) * self._weight)
        if processes.rank == 0 and (penalty := self.engine.penalty()) is not None:
            found.append(penalty)
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
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm)
        fresh = torch.stack([self._loss, norm.double(), torch.full_like(self._loss, self.step + 1)])
        self._figures = torch.where(self._broken > 0, self._figures, fresh)
        self._broken = torch.maximum(self._broken, 1 - torch.isfinite(fresh).all().float())

    def must_look(self) -> bool:
        """Whether the figures of the step that is being made are needed, for the log or before its state is used."""
        step, every = self.step + 1, self.settings.checkpoint_every
        return step % self.settings.log_every == 0 or step % every == 0 or self._dev_after(step) or step == self.steps

    def look(self) -> None:
        """Read the figures; if a step was not finite, the state is the one before it, as no update was made since."""
        loss, norm, step = self._figures.tolist()
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
        before = [self.sample(number) for number in range(self.step * self.settings.accumulation)]
        self.drawn = [before.count(stream) for stream in range(len(self.streams))]
        what, value = ("gradient norm", norm) if math.isfinite(loss) else ("loss", loss)
        kept = f" The state before it is kept in {self.folder}." if self.folder else ""
        self.error = TrainingError(
            f"Step {self.step + 1}: the {what} is {value}; the run stops and no module is written.{kept} "
            f"Start anew with --overwrite and a lower --lr than {self.rate:g}, or with --dtype fp32."
        )

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
        }

    def log_step(self) -> None:
        if self.step % self.settings.log_every == 0 or self.step == self.steps:
            names = [stream.task for stream in self.streams]
            drawn = {"batches": dict(zip(names, self.drawn, strict=True))} if len(names) > 1 else {}
            self._log(self.figures | drawn)

    def _log(self, figures: dict[str, Any]) -> None:
        if self.folder is None or not is_main():
            return
        line = {
            "step": self.step,
            "epoch": round(self.batches.epochs_before(self.step * self.settings.accumulation), 4),
            **figures,
        }
        line["peak_memory_bytes"] = peak_memory(self.device)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

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
        values = {name: getattr(self, name) for name in _VALUES}
        write_checkpoint(self.folder / "checkpoints", Checkpoint(self.step, tensors, values))

    def checkpoints(self) -> list[Checkpoint]:
        """States that this run can go on from, newest first."""
        found = [] if self.folder is None else read_checkpoints(self.folder / "checkpoints")
        if any(one.values["request"] != self.request for one in found):
            raise TrainingError(
                f"{self.folder}: was started with other data, settings or base. Give the same again to --resume, "
                "or --overwrite to start anew."
            )
        return found

    def take_up(self, found: Checkpoint | None) -> None:
        """Go on from a state, or from the beginning."""
        if self.folder is not None and is_main():
            _cut_log(self.folder / "log.jsonl", 0 if found is None else found.step)
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


# What a checkpoint holds beside tensors.
_VALUES = ("request", "scored", "best", "best_step", "stale", "seconds", "tokens", "drawn")


class Batches:
    """All batches of a run, by their number from 0. Epochs may differ in their number of batches."""

    def __init__(self, lengths: Sequence[int], settings: Settings) -> None:
        self.lengths, self.settings = lengths, settings
        self._ends: list[int] = []  # batches up to the end of each epoch
        self._epoch, self._order = -1, list[list[int]]()

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of one epoch, as indices of items."""
        if number != self._epoch:
            self._order = epoch_batches(
                self.lengths,
                batch_size=self.settings.batch_size,
                tokens_per_batch=self.settings.tokens_per_batch,
                seed=self.settings.seed,
                epoch=number,
            )
            self._epoch = number
        return self._order

    def end(self, epoch: int) -> int:
        """Batches from the start of the run to the end of an epoch; 0 for epoch -1."""
        while len(self._ends) <= epoch:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + len(self.epoch(len(self._ends))))
        return self._ends[epoch] if epoch >= 0 else 0

    def __getitem__(self, number: int) -> list[int]:
        epoch = self._epoch_of(number)
        return self.epoch(epoch)[number - self.end(epoch - 1)]

    def epochs_before(self, number: int) -> float:
        """How many epochs, as a fraction, the first `number` batches are."""
        epoch = self._epoch_of(number)
        begin = self.end(epoch - 1)
        return epoch + (number - begin) / (self.end(epoch) - begin)

    def _epoch_of(self, number: int) -> int:
        epoch = 0
        while self.end(epoch) <= number:
            epoch += 1
        return epoch


def count_steps(batches: Batches, settings: Settings) -> int:
    """Optimizer steps of a run; the last may have taken batches beyond the last epoch's end to be whole."""
    if settings.max_steps is not None:
        return settings.max_steps
    whole, part = divmod(settings.epochs or 0.0, 1)
    count = float(batches.end(int(whole) - 1))
    if part:
        count += part * (batches.end(int(whole)) - batches.end(int(whole) - 1))
    return max(1, math.ceil(count / settings.accumulation))


def _cut_log(path: Path, step: int) -> None:
    """Drop lines after the step that a run goes on from; they are going to be written again."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # A line without its end was cut by a crash, after the last checkpoint.
        kept = [line for line in lines if line.endswith("\n") and 0 < json.loads(line)["step"] <= step]
        write_file(path, "".join(kept).encode())


def random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
