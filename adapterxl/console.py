"""Lines for people while something runs: on stderr, above the progress bars, never mixed with results."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tqdm import tqdm


def say(lines: Iterable[str], *, show: bool = True) -> None:
    """Print each line as a note."""
    for line in lines:
        if show:
            tqdm.write(f"note: {line}", file=sys.stderr)
