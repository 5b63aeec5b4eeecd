"""Augmentations of training rows, found by name: a new operator is one new file that defines AUGMENTATION."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from adapterxl.errors import UsageError, did_you_mean

from .base import Augmentation, Augmented, Ready

__all__ = ["Augmentation", "AugmentLike", "Augmented", "Ready", "all_augmentations", "read_augmentations"]

AugmentLike = str | Augmentation | Sequence[str | Augmentation] | None

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_OPTION = re.compile(r"""\s*(\w+)\s*=\s*("[^"]*"|'[^']*'|\[[^\]]*\]|[^,\[\]()"'\s]+)\s*(?:,|$)""")


@cache
def _discover() -> tuple[tuple[str, type[Augmentation]], ...]:
    modules = (importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__))
    found = [each.AUGMENTATION for each in modules if hasattr(each, "AUGMENTATION")]
    return tuple(sorted((one.name, one) for one in found))


def all_augmentations() -> dict[str, type[Augmentation]]:
    """Return every augmentation by name, sorted."""
    return dict(_discover())


def read_augmentations(given: AugmentLike) -> tuple[Augmentation, ...]:
    """Return augmentations in the order they are applied in, from texts such as ``codeswitch(lexicon=muse)``.

    Raises:
        UsageError: If a text cannot be read, or the options do not fit; or for the same operator twice.
    """
    several = () if given is None else (given,) if isinstance(given, str | Augmentation) else tuple(given)
    found = tuple(one if isinstance(one, Augmentation) else _read(one) for one in several)
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"augment: '{twice}' is there twice; name each operator once.")
    return found


def _read(text: str) -> Augmentation:
    call = _CALL.fullmatch(text)
    if call is None:
        raise UsageError(f"augment: cannot read '{text}'; write it as codeswitch(ratio=0.5, lexicon=FOLDER).")
    name, inside = call[1], (call[2] or "").strip()
    known = all_augmentations()
    if name not in known:
        raise UsageError(f"augment: '{name}' is not one of {', '.join(known)}.{did_you_mean(name, known)}")
    options: dict[str, Any] = {}
    at = 0
    while at < len(inside):
        option = _OPTION.match(inside, at)
        if option is None or option[1] in options:
            raise UsageError(
                f"augment: cannot read '{inside[at:].strip()}' in '{text}'; write options once each, such as "
                'ratio=0.5, languages=[de, zh], lexicon="my folder".'
            )
        options[option[1]] = _value(option[2])
        at = option.end()
    return known[name](**options)


def _value(text: str) -> str | tuple[str, ...]:
    if text[0] == "[":
        return tuple(item.strip().strip("\"'") for item in text[1:-1].split(",") if item.strip())
    return text[1:-1] if text[0] in "\"'" else text
