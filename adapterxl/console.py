"""Lines for people while something runs: on stderr, above the progress bars, never mixed with results."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tqdm import tqdm


def say(lines: Iterable[str]) -> None:
    """Print each line as a note."""
    for line in lines:
        tqdm.write(f"note: {line}", file=sys.stderr)
