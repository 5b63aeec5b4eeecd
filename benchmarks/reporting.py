"""What every benchmark does with its figures: spreads, a JSON file written whole, a table, an error in one line."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measures import count
from rich.console import Console

from adapterxl.errors import AdapterXLError, UsageError
from adapterxl.evaluation.scores import write_whole

Report = dict[str, Any]


def finish(
    out: Path, run: Callable[[], Report], show: Callable[[Report, Console], None] | None, *, width: int = 140
) -> int:
    """Make a report, write and show it.

    Args:
        width: Of the table where there is no terminal.

    Returns:
        The exit code: 1, after one line, on bad input; nothing is written then.
    """
    try:
        if out.is_dir():
            raise UsageError(f"--out {out}: is a folder; name a file.")
        report = run()
        write_whole(out, [json.dumps(report, indent=1) + "\n"])
    except AdapterXLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if show is not None:
        console = Console(highlight=False)
        show(report, console if console.is_terminal else Console(width=width, highlight=False))
    return 0


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 on the command line, such as ``3,9``."""
    return tuple(count(part) for part in text.split(","))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ranged(spread: dict[str, float], form: str) -> str:
    """A spread as a cell of a table."""
    return f"{spread['median']:{form}}\n{spread['min']:{form}}..{spread['max']:{form}}"


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
