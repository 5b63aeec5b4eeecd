"""What a run was asked for, as a flat table: what differs from what is asked now, and what may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Request = dict[str, Any]

# Rows, their order, the schedule: a run can go on with others. Tasks, method, starting point, base, its precision and
# the engine decide what the numbers of a checkpoint are.
_MAY_DIFFER = re.compile(r"settings\..*|device|tasks\..*\.(rows|max_length|trained_from|data\..*)")
_SHOWN = 5


def flat(value: Mapping[str, Any], prefix: str = "") -> Request:
    """Nested tables as one, with dotted names."""
    found: Request = {}
    for key, inner in value.items():
        found |= flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {f"{prefix}{key}": inner}
    return found


def differences(before: Request, now: Request) -> dict[str, tuple[Any, Any]]:
    """Each field that differs, with both values; None where it is not there."""
    fields = dict.fromkeys((*before, *now))
    return {key: (before.get(key), now.get(key)) for key in fields if before.get(key) != now.get(key)}


def fixed(changed: Mapping[str, object]) -> list[str]:
    """The fields that no run can go on with another value of."""
    return [key for key in changed if not _MAY_DIFFER.fullmatch(key)]


def in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Such as "lr was 0.01, is 0.02; data train-en.tsv is another"."""
    words = []
    for key, (before, now) in changed.items():
        if "task" in changed and key.startswith("tasks."):
            continue  # all of its fields differ
        name = re.sub(r"^(settings|method)\.|^tasks\.[^.]*\.", "", key).replace("data.", "data ", 1)
        digest = any(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in (before, now))
        if digest and None not in (before, now):
            words.append(f"{name} is another")
        elif digest or isinstance(before, list):
            words.append(f"{name} is {'new' if before is None else 'gone' if now is None else 'another'}")
        else:
            words.append(f"{name} was {_text(before)}, is {_text(now)}")
    left = len(words) - _SHOWN
    return "; ".join([*words[:_SHOWN], *([f"and {left} more"] if left > 0 else [])])


def _text(value: object) -> str:
    return "not given" if value is None else str(value)
