"""One or several trainings over one backbone, a step of each at a time, in one forward and backward pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..engines.joint import hidden_together
from ..errors import TrainingError
from .checkpoint import keep_only
from .loop import Loop, random_states
from .processes import Processes


class Together:
    """Runs trainings in lockstep.

    A joint step is one optimizer step of every training that has not ended: their rows are encoded together, the sum
    of their losses is sent back once, and each clips, steps and logs for itself. A training with more batches per
    step than others goes on alone with the rest of them. Nothing of one training enters another, so that each gives
    what it gives alone: at dropout 0 within rounding; with dropout, its masks are others, as the rows of all draw
    from one generator.

    States are kept of all trainings at the same step, with that generator's: a run that is taken up again with the
    same trainings ends as if it had not stopped. Taken up with others, each goes on from its own state.

    Args:
        loops: The trainings; several only of the packed engine, on one backbone.
        ended: Called with a training, at its best state, as soon as it has ended well.
    """

    def __init__(
        self,
        loops: Sequence[Loop],
        processes: Processes,
        ended: Callable[[Loop], None],
        *,
        progress: bool = True,
    ) -> None:
        self.loops, self.processes, self.ended = loops, processes, ended
        self.device = loops[0].device
        self.live = list(loops)
        self.progress = progress and processes.rank == 0
        # False while parameters are being changed, when no state may be kept.
        self._whole = True

    def run(self, *, resume: bool = False) -> None:
        """Train all to their ends.

        Raises:
            TrainingError: For trainings whose loss or gradient was not finite, after the others have ended; the
                state before that step is kept.
        """
        if resume:
            self._take_up()
        self._random = random_states(self.device)
        self._clock = time.monotonic()
        total, done = (sum(getattr(loop, name) for loop in self.loops) for name in ("steps", "step"))
        bar = tqdm(total=total, initial=done, desc="training", unit="step", disable=not self.progress)
        try:
            self._settle(fresh=False)  # an interruption may have come between step and score
            while self.live:
                self._one_step()
                self._show(bar)
                self._settle()
        except KeyboardInterrupt:
            if self._whole and self.processes.count == 1:  # others may be at another step
                self._save(self.live)
            raise
        finally:
            bar.close()
        failed = [loop for loop in self.loops if loop.error is not None]
        if failed:
            named = len(self.loops) > 1
            raise TrainingError(
                "; ".join(f"{loop.name}: {loop.error}" if named else str(loop.error) for loop in failed)
            )

    def _one_step(self) -> None:
        for loop in self.live:
            loop.begin()
        for micro in range(max(loop.settings.accumulation for loop in self.live)):
            self._accumulate([loop for loop in self.live if micro < loop.settings.accumulation])
        if self.processes.count > 1:
            self._add_up()
        for loop in self.live:
            loop.judge()
        if self._looks():
            for loop in self.live:
                loop.look()
        if broken := [loop for loop in self.live if loop.error is not None]:
            self._save(broken)
        self._whole = False
        for loop in self.live:
            if loop.error is None:
                loop.update()
        self._random = random_states(self.device)
        self._whole = True

    def _looks(self) -> bool:
        """Whether to look at figures now. On a GPU only when they are needed, as the CPU would wait for them; a step
        that is not finite is never made all the same, nor any after it."""
        return self.device.type == "cpu" or any(loop.must_look() for loop in self.live)

    def _accumulate(self, loops: Sequence[Loop]) -> None:
        """Add the gradients of one batch of each."""
        batches = [loop.next_batch(self.processes) for loop in loops]
        taking = [(loop.engine, batch.ragged) for loop, batch in zip(loops, batches, strict=True) if batch is not None]
        with self.processes.autocast():
            found = iter(hidden_together(*zip(*taking, strict=True)) if taking else ())
            losses: list[Tensor] = []
            for loop, batch in zip(loops, batches, strict=True):
                losses += loop.losses(None if batch is None else next(found), batch, self.processes)
        if losses:
            self.processes.backward(sum(losses[1:], losses[0]))

    def _add_up(self) -> None:
        """Sum the gradients and losses of all processes, in one exchange."""
        mine = [(loop, *loop.gradients()) for loop in self.live]
        sums = self.processes.add_up([tensor for _, _, tensors in mine for tensor in tensors])
        for loop, used, tensors in mine:
            loop.take_sums(used, sums[: len(tensors)])
            sums = sums[len(tensors) :]

    def _settle(self, *, fresh: bool = True) -> None:
        """Log, score and keep what is due after a step; trainings that have ended leave."""
        for loop in self.live:
            if loop.error is None:
                if fresh:
                    loop.log_step()
                if loop.dev_is_due():
                    loop.score_dev(self.processes)
        ended = [loop for loop in self.live if loop.ended]
        going = [loop for loop in self.live if not loop.ended]
        due = any(loop.step % loop.settings.checkpoint_every == 0 for loop in going)
        if fresh and going and (ended or due):
            # With those that have ended: until their modules are written, this is all there is of them.
            self._save([loop for loop in self.live if loop.error is None])
        self.live = going
        for loop in ended:
            if loop.error is None:
                loop.keep_best()
                self.ended(loop)

    def _save(self, loops: Sequence[Loop]) -> None:
        """Keep the state of trainings after a step; those of the step before go only when all are written."""
        random = {}
        for name, state in self._random.items():
            for rank, each in enumerate(self.processes.gather(state)):
                random[f"{name}.{rank}" if rank else name] = each
        for loop in loops:
            loop.save(random)
        for loop in loops:
            if loop.folder is not None and self.processes.rank == 0:
                keep_only(loop.folder / "checkpoints", loop.step)

    def _take_up(self) -> None:
        """Go on from the newest states of one step, where there are such; else from the newest of each."""
        found = [loop.checkpoints() for loop in self.loops]
        self.processes.wait()  # all have read before the main process changes anything
        steps = [{one.step for one in each} for each in found if each]
        common = max(set.intersection(*steps), default=None) if steps else None
        for loop, each in zip(self.loops, found, strict=True):
            loop.take_up(next((one for one in each if common in (None, one.step)), None))
        first = next((one for each in found for one in each if common in (None, one.step)), None)
        name = f".{self.processes.rank}" if self.processes.rank else ""
        if first is None or f"random.cpu{name}" not in first.tensors:
            return
        torch.set_rng_state(first.tensors[f"random.cpu{name}"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(first.tensors[f"random.cuda{name}"], self.device)

    def _show(self, bar: Any) -> None:
        """Share the time since the last step among the trainings by their tokens, and move the bar."""
        now = time.monotonic()
        passed, self._clock = now - self._clock, now
        tokens = sum(loop.step_tokens for loop in self.live)
        for loop in self.live:
            loop.seconds += passed * loop.step_tokens / tokens
        bar.update(sum(loop.error is None for loop in self.live))
        seen = [loop for loop in self.live if loop.figures]
        losses = {loop.name if len(self.loops) > 1 else "loss": f"{loop.figures['loss']:.3f}" for loop in seen}
        rate = sum(loop.figures["tokens_per_second"] for loop in seen)
        bar.set_postfix(losses | {"tok_s": f"{rate:.0f}"}, refresh=False)
