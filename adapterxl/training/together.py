"""One or several trainings over one backbone, a step of each at a time, in one forward and backward pass."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..console import say
from ..engines.joint import hidden_together
from ..errors import TrainingError
from ..evaluation.zero_shot import peak_memory
from .checkpoint import Checkpoint, keep_only
from .loop import Loop
from .oom import advice, is_out_of_memory
from .processes import Processes
from .randomness import RandomState
from .signals import Stop


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
        self._stop = Stop()
        self._stopping = False  # after this step

    def run(self, *, resume: bool = False, override: bool = False) -> None:
        """Train all to their ends.

        Args:
            resume: Go on from checkpoints, where there are any.
            override: Also from those of a request that differs in what may differ.

        Raises:
            TrainingError: For trainings whose loss or gradient was not finite, after the others have ended; the
                state before that step is kept. If memory was too short for a step; likewise.
            KeyboardInterrupt: On SIGINT, after the step is done and kept; SIGTERM then ends the process.
        """
        if resume:
            self._take_up(override)
        self._random = RandomState.now(self.device)
        self._clock = time.monotonic()
        total, done = (sum(getattr(loop, name) for loop in self.loops) for name in ("steps", "step"))
        bar = tqdm(total=total, initial=done, desc="training", unit="step", disable=not self.progress)
        with Stop.heard() as self._stop:
            try:
                self._settle(fresh=False)  # an interruption may have come between step and score
                while self.live and not self._stopping:
                    self._one_step()
                    self._show(bar)
                    self._settle()
            except KeyboardInterrupt:
                # Not after a first signal: the second is to end at once. Other processes may be at another step.
                if self._whole and self.processes.count == 1 and not self._stop.signal:
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
        if self._stop.signal:
            line = self._last_words()
            say([line] if self.processes.rank == 0 else ())
            self._stop.obey(line)

    def _last_words(self) -> str:
        """What a signal has stopped, and how to go on."""
        if not self.live:
            return f"{self._stop.name} came when the training had ended; the module is written."
        first = self.live[0]
        line = f"Stopped by {self._stop.name} after step {first.step} of {first.steps}; "
        if first.folder is None:
            return line + "without --out nothing is kept."
        line += "the state" if first.saved[-1:] == [first.step] else "the last state"
        return line + f" is in {first.folder}. Give the same command to go on (adapterxl train: with --resume)."

    def _one_step(self) -> None:
        stop = self._gradients()
        for loop in self.live:
            loop.judge()
        if stop or self._looks():
            for loop in self.live:
                loop.look()
        if broken := [loop for loop in self.live if loop.error is not None]:
            self._save(broken)
        self._whole = False
        for loop in self.live:
            if loop.error is None:
                loop.update()
        self._random = RandomState.now(self.device)
        self._whole = True
        self._stopping = stop

    def _gradients(self) -> bool:
        """Those of one step, of all processes; again in smaller pieces where memory was too short and the settings
        say so. Returns whether a signal to any process asks for a stop."""
        while True:
            error = self._try_step()
            stopped = self._stop.signal
            if self.processes.count > 1:
                if error is not None and not self._may_halve:  # others learn of it by this process's end
                    raise TrainingError(error)
                stopped, short = self._add_up(error is not None)
                self._stop.signal = stopped or self._stop.signal
                if short:
                    error = error or f"Step {self.live[0].step + 1}: another process ran out of memory."
            if error is None:
                return bool(stopped)
            self._halve(error)

    @property
    def _may_halve(self) -> bool:
        return all(loop.settings.halve_on_oom for loop in self.live)

    def _try_step(self) -> str | None:
        """Forward and backward of one step; what to say if memory was too short."""
        for loop in self.live:
            loop.begin()
        try:
            for micro in range(max(loop.settings.accumulation for loop in self.live)):
                self._accumulate([loop for loop in self.live if micro < loop.settings.accumulation])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            peak = peak_memory(self.device) / 1e9
            held = [f"{-(-len(one.items) // one.pieces)} rows of up to {one.longest} tokens" for one in self.live]
            return f"Step {self.live[0].step + 1}: out of memory for {', '.join(held)}; the peak was {peak:.2f} GB."
        return None

    def _halve(self, error: str) -> None:
        """Cut batches into smaller pieces from this step on, which is made anew.

        Raises:
            TrainingError: If they may not be, or are single rows already; the state before the step is kept.
        """
        for loop in self.live:
            loop.optimizer.zero_grad(set_to_none=True)
        self._random.restore(self.device)
        first = self.live[0]
        rows = max(-(-len(loop.items) // loop.pieces) for loop in self.live)
        if rows == 1 or not self._may_halve:
            for loop in self.live:
                loop.look()  # at the step before, whose state is kept
            self._save(self.live)
            raise TrainingError(f"{error} {advice(first.settings, rows, first.folder is not None)}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        for loop in self.live:
            loop.halve()
        if self.processes.rank == 0:
            say([f"{error} From here on every batch is cut into {first.pieces} pieces."])

    def _looks(self) -> bool:
        """Whether to look at figures now. On a GPU only when they are needed, as the CPU would wait for them; a step
        that is not finite is never made all the same, nor any after it."""
        return self.device.type == "cpu" or any(loop.must_look() for loop in self.live)

    def _accumulate(self, loops: Sequence[Loop]) -> None:
        """Add the gradients of one batch of each, a piece at a time."""
        for loop in loops:
            loop.next_batch()
        for number in range(loops[0].pieces):
            batches = [loop.piece(self.processes, number) for loop in loops]
            pairs = zip(loops, batches, strict=True)
            taking = [(loop.engine, batch.ragged) for loop, batch in pairs if batch is not None]
            with self.processes.autocast():
                found = iter(hidden_together(*zip(*taking, strict=True)) if taking else ())
                losses: list[Tensor] = []
                for loop, batch in zip(loops, batches, strict=True):
                    hidden = None if batch is None else next(found)
                    losses += loop.losses(hidden, batch, penalty=self.processes.rank == number == 0)
            if losses:
                self.processes.backward(sum(losses[1:], losses[0]))

    def _add_up(self, short: bool) -> tuple[int, bool]:
        """Sum the gradients and losses of all processes, in one exchange; with them, which signals came and whether
        memory was short anywhere, which are read when figures are, or where a short memory has to be noticed."""
        mine = [(loop, *loop.gradients()) for loop in self.live]
        asked = [float(self._stop.signal == number) for number in (signal.SIGTERM, signal.SIGINT)]
        said = torch.tensor([*asked, float(short)], dtype=mine[0][2][0].dtype, device=self.device)
        *sums, said = self.processes.add_up([*(tensor for _, _, tensors in mine for tensor in tensors), said])
        for loop, used, tensors in mine:
            loop.take_sums(used, sums[: len(tensors)])
            sums = sums[len(tensors) :]
        if not self._looks() and not self._may_halve:
            return 0, short
        term, interrupt, anywhere = said.tolist()
        return signal.SIGTERM if term else signal.SIGINT if interrupt else 0, anywhere > 0

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
        if fresh and going and (ended or due or self._stopping):
            # With those that have ended: until their modules are written, this is all there is of them.
            self._save([loop for loop in self.live if loop.error is None])
        self.live = going
        for loop in ended:
            if loop.error is None:
                loop.keep_best()
                self.ended(loop)

    def _save(self, loops: Sequence[Loop]) -> None:
        """Keep the state of trainings after a step; those before the last go only when all are written. Where that
        fails twice, such as on a full disk, the training goes on with those that it has."""
        random = {}
        for name, state in self._random.tensors().items():
            for rank, each in enumerate(self.processes.gather(state)):
                random[f"{name}.{rank}" if rank else name] = each
        writing = [loop for loop in loops if loop.folder is not None and loop.saved[-1:] != [loop.step]]
        try:
            for loop in writing:
                loop.save(random)
        except TrainingError:
            try:
                for loop in writing:
                    loop.save(random)
            except TrainingError as error:
                last = max((step for loop in writing for step in loop.saved[-1:]), default=0)
                say([f"{error} The training goes on; the last state is that after step {last}."])
                return
        for loop in writing:
            loop.saved = [*loop.saved[-1:], loop.step]
            if loop.folder is not None and self.processes.rank == 0:
                keep_only(loop.folder / "checkpoints", loop.saved)

    def _take_up(self, override: bool) -> None:
        """Go on from the newest states of one step, where there are such; else from the newest of each."""
        found = [loop.checkpoints(override) for loop in self.loops]
        self.processes.wait()  # all have read before the main process changes anything
        steps = [{one.step for one in each} for each in found if each]
        common = max(set.intersection(*steps), default=None) if steps else None
        taken: list[Checkpoint] = []
        for loop, each in zip(self.loops, found, strict=True):
            one = next((one for one in each if common in (None, one.step)), None)
            loop.take_up(one)
            loop.saved = [other.step for other in reversed(each) if one is not None and other.step <= one.step]
            taken += [] if one is None else [one]
            if one is None and loop.folder is not None and self.processes.rank == 0:
                say([f"{loop.folder}: no state to go on from is there, so the training starts at its first step."])
        pieces = max(loop.pieces for loop in self.loops)
        for loop in self.loops:
            loop.pieces = pieces
        if not taken:
            return
        mine = f".{self.processes.rank}" if self.processes.rank else ""
        states = {name: taken[0].tensors.get(f"random.{name}{mine}") for name in ("cpu", "cuda", "numpy", "python")}
        if states["cpu"] is None:
            say(["The run was begun by fewer processes; what dropout drops is another from here on."])
            return
        RandomState.read({name: state for name, state in states.items() if state is not None}).restore(self.device)

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
