"""The training loop: batches, optimizer, schedule, log, early stopping, checkpoints. Knows no task and no engine."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.collate import collate, epoch_batches
from ..data.prepare import Item
from ..engines import Engine
from ..errors import TrainingError
from ..evaluation.predict import head_scores
from ..evaluation.zero_shot import peak_memory
from ..modules import Head
from ..modules.heads import row_losses
from .checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from .settings import Settings


class Loop:
    """One training of one engine and head.

    Args:
        items: Training items.
        rate: Highest learning rate.
        dev_score: Gives the dev score of the present state, higher is better; None where there is no dev set.
        folder: Where log and checkpoints go; None keeps nothing.
        request: Digest of what is trained on what: only a checkpoint of the same request is taken up again.
    """

    def __init__(
        self,
        engine: Engine,
        head: Head,
        kind: str,
        items: Sequence[Item],
        settings: Settings,
        rate: float,
        device: torch.device,
        *,
        dev_score: Callable[[], float] | None = None,
        folder: Path | None = None,
        request: str = "",
        mixed_precision: str = "no",
    ) -> None:
        self.engine, self.head, self.kind, self.items = engine, head, kind, items
        self.settings, self.rate, self.device, self.dev_score = settings, rate, device, dev_score
        self.folder, self.request = folder, request
        self.lengths = [item.tokens for item in items]
        self.batches = Batches(self.lengths, settings)
        self.steps = count_steps(self.batches, settings)
        self.parameters: dict[str, nn.Parameter] = {
            **{f"module.{name}": p for name, p in engine.parameters().items()},
            **{f"head.{name}": p for name, p in head.named_parameters()},
        }
        self.accelerator = _accelerator(device, mixed_precision)
        decayed = [p for p in self.parameters.values() if p.ndim > 1]
        plain = [p for p in self.parameters.values() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=rate,
            fused=True,
        )
        self.step = 0
        self.best: float | None = None
        self.best_step = 0
        self.stale = 0
        self.best_state: dict[str, Tensor] = {}
        self.seconds = 0.0
        self.tokens = 0
        self.scored = 0  # the last step whose dev score was looked at
        # False while parameters are being changed, when no state may be kept.
        self._whole = True

    def run(self, *, resume: bool = False, progress: bool = True) -> dict[str, Any]:
        """Train to the end (or to the early stop) and give figures of the run.

        Raises:
            TrainingError: On a loss or gradient that is not finite; the state before that step is kept.
        """
        if resume:
            self._take_up()
        self._random = _random_states(self.device)
        started, before = time.monotonic(), self.seconds
        every = self.settings.eval_every or (max(1, self.steps // 10) if self.settings.patience else None)

        def dev_is_due() -> bool:
            due = every is not None and (self.step % every == 0 or self.step == self.steps)
            return due and self.dev_score is not None and self.scored < self.step

        bar = tqdm(total=self.steps, initial=self.step, desc="training", unit="step", disable=not progress)
        stopped = False
        try:
            stopped = dev_is_due() and self._dev()  # an interruption may have come between step and score
            while self.step < self.steps and not stopped:
                figures = self._one_step()
                self.seconds = before + time.monotonic() - started
                bar.update(1)
                bar.set_postfix(loss=f"{figures['loss']:.3f}", tok_s=f"{figures['tokens_per_second']:.0f}")
                if self.step % self.settings.log_every == 0 or self.step == self.steps:
                    self._log(figures)
                if dev_is_due():
                    stopped = self._dev()
                if self.step % self.settings.checkpoint_every == 0 and self.step < self.steps and not stopped:
                    self._save()
        except KeyboardInterrupt:
            self._save()
            raise
        finally:
            bar.close()
        if self.best_state:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(self.best_state[name])
        return {
            "steps": self.step,
            "seconds": round(self.seconds, 3),
            "tokens": self.tokens,
            "stopped_early": stopped,
            **({"best_step": self.best_step} if self.best_state else {}),
        }

    def _one_step(self) -> dict[str, Any]:
        clock = time.monotonic()
        rate = self.settings.rate_at(self.step, self.steps, self.rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        accumulation = self.settings.accumulation
        total, tokens, area = 0.0, 0, 0
        for micro in range(self.step * accumulation, (self.step + 1) * accumulation):
            batch = collate(self.kind, [self.items[i] for i in self.batches[micro]], self.device)
            with self.accelerator.autocast():
                scores = head_scores(self.engine, self.head, batch, training=True)
                loss = row_losses(self.kind, scores, batch.ragged, batch.targets)
                penalty = self.engine.penalty()
                loss = (loss if penalty is None else loss + penalty) / accumulation
            total += float(loss.detach())
            if not math.isfinite(total):
                raise self._not_finite("loss", total)
            self.accelerator.backward(loss)
            tokens += batch.ragged.tokens
            area += batch.ragged.rows * max(batch.ragged.lengths)
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm))
        if not math.isfinite(norm):
            raise self._not_finite("gradient norm", norm)
        self._whole = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.tokens += tokens
        self.step += 1
        self._random = _random_states(self.device)
        self._whole = True
        return {
            "loss": total,
            "lr": rate,
            "grad_norm": norm,
            "tokens_per_second": tokens / max(time.monotonic() - clock, 1e-9),
            "fill": tokens / area,
        }

    def _not_finite(self, what: str, value: float) -> TrainingError:
        self.optimizer.zero_grad(set_to_none=True)
        self._save()
        kept = f" The state before it is kept in {self.folder}." if self.folder else ""
        return TrainingError(
            f"Step {self.step + 1}: the {what} is {value}; the run stops and no module is written.{kept} "
            f"Start anew with --overwrite and a lower --lr than {self.rate:g}, or with --dtype fp32."
        )

    def _dev(self) -> bool:
        """Score the dev set, keep the best state; True when patience is at its end."""
        assert self.dev_score is not None
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            score = self.dev_score()
        self._log({"dev_score": score})
        self.scored = self.step
        if self.settings.patience is None:
            return False
        if self.best is None or score > self.best:
            self.best, self.best_step, self.stale = score, self.step, 0
            self.best_state = {name: p.detach().clone() for name, p in self.parameters.items()}
        else:
            self.stale += 1
        return self.stale >= self.settings.patience

    def _log(self, figures: dict[str, Any]) -> None:
        if self.folder is None:
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

    def _save(self) -> None:
        """Keep the state after `step` steps; not while it is being changed: then an earlier checkpoint counts."""
        if self.folder is None or not self._whole:
            return
        tensors: dict[str, Tensor] = {f"parameter.{name}": p for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_state.items()}
        # Of the last whole step: a step that broke off has already drawn its dropout masks.
        tensors |= {f"random.{device}": state for device, state in self._random.items()}
        values = {
            "request": self.request,
            "scored": self.scored,
            "best": self.best,
            "best_step": self.best_step,
            "stale": self.stale,
            "seconds": self.seconds,
            "tokens": self.tokens,
        }
        write_checkpoint(self.folder / "checkpoints", Checkpoint(self.step, tensors, values))

    def _take_up(self) -> None:
        found = None if self.folder is None else read_checkpoint(self.folder / "checkpoints")
        if found is None:
            if self.folder is not None:
                _cut_log(self.folder / "log.jsonl", 0)
            return
        if found.values["request"] != self.request:
            raise TrainingError(
                f"{self.folder}: was started with other data, settings or base. Give the same again to --resume, "
                "or --overwrite to start anew."
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.tensors[f"parameter.{name}"])
                prefix = f"optimizer.{name}."
                self.optimizer.state[parameter] = {
                    key.removeprefix(prefix): t.to(parameter.device)
                    for key, t in found.tensors.items()
                    if key.startswith(prefix)
                }
        self.best_state = {
            k.removeprefix("best."): t.to(self.device) for k, t in found.tensors.items() if k.startswith("best.")
        }
        torch.set_rng_state(found.tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(found.tensors["random.cuda"], self.device)
        self.step, self.best, self.stale = found.step, found.values["best"], found.values["stale"]
        self.scored, self.best_step = found.values["scored"], found.values["best_step"]
        self.seconds, self.tokens = found.values["seconds"], found.values["tokens"]
        if self.folder is not None:
            _cut_log(self.folder / "log.jsonl", self.step)


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
        path.write_text("".join(kept), encoding="utf-8")


def _random_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _accelerator(device: torch.device, mixed_precision: str) -> Any:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("Several processes were launched, but a run uses one. Start it without a launcher.")
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # accelerate keeps one state per process and refuses another precision; runs of both kinds may follow each other.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision)
