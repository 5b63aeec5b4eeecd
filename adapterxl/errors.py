"""The error tree: every message says what was found, what was expected and what to do, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdapterXLError(Exception):
    """Base of all errors that a user can mend. The CLI prints it as one line and exits with 1."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(AdapterXLError):
    """An argument, setting or recipe field that cannot be used as given."""


class TaskError(AdapterXLError):
    """An unknown task, language or split, or one that cannot be used in this role."""


class DataError(AdapterXLError):
    """A data file, index or row that cannot be read; the message starts with file and line."""


class BackboneError(AdapterXLError):
    """A backbone that is missing, of another architecture, or not the one a module needs."""


class CompositionError(AdapterXLError):
    """Modules that cannot be composed as asked; the message names the alternative."""


class EngineError(AdapterXLError):
    """An engine that cannot run what was asked; the message names one that can."""


class ArtifactError(AdapterXLError):
    """A module folder that is missing, damaged or in the way."""


class HubError(AdapterXLError):
    """A hub that cannot be reached, refuses, or gives something else than it should."""


class TrainingError(AdapterXLError):
    """A run that had to stop, such as on a non-finite loss; the last good state is kept."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
