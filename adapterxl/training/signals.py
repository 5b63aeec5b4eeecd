"""SIGINT and SIGTERM in a training: the first one asks it to stop after the step, a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import TrainingError

# Supervisors kill after about as long; the last checkpoint is whole then too.
_DEADLINE = 30.0
_HEARD = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether a signal has asked for a stop.

    Attributes:
        signal: The signal; 0 for none.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    @property
    def name(self) -> str:
        return signal.Signals(self.signal).name

    def _ask(self, number: int, frame: object) -> None:
        self.signal = number
        self._put_back()
        if signal.getitimer(signal.ITIMER_REAL)[0] == 0:  # nobody else's alarm clock
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
            signal.setitimer(signal.ITIMER_REAL, _DEADLINE)

    def _put_back(self) -> None:
        if signal.SIGALRM in self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        while self._before:
            signal.signal(*self._before.popitem())

    def obey(self, line: str) -> None:
        """Do what the signal did before the training listened to it.

        Raises:
            KeyboardInterrupt: For SIGINT, by default. SIGTERM ends the process, by default.
            TrainingError: With `line`, where the caller's own handler returns.
        """
        signal.raise_signal(self.signal)
        raise TrainingError(line)

    @classmethod
    @contextmanager
    def heard(cls) -> Iterator[Stop]:
        """Listen; in other threads than the main one, where nobody can, and to ignored signals, never ask."""
        stop = cls()
        if threading.current_thread() is threading.main_thread():
            for number in _HEARD:
                if callable(signal.getsignal(number)) or signal.getsignal(number) == signal.SIG_DFL:
                    stop._before[number] = signal.signal(number, stop._ask)
        try:
            yield stop
        finally:
            stop._put_back()
