"""Lines for people while something runs: on stderr, above the progress bars, never mixed with results."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from tqdm import tqdm

# Control characters, and the marks that turn text around on the screen.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def say(lines: Iterable[str]) -> None:
    """Print each line as a note."""
    for line in lines:
        tqdm.write(f"note: {line}", file=sys.stderr)
