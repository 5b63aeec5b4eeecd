"""A module that was read is laid out again in mind: its folder must hold just that.

So what vanilla libraries load from it is what adapterxl loads: a config that says another scale, a pattern, or a field
that nobody knows is refused, although adapterxl itself never reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ArtifactError
from . import strict_json
from .check import Checked
from .encoding import json_bytes
from .module import TaskModule
from .plan import plan
from .store import MANIFEST
from .strict_json import canonical, short

_MOST_CONFIG = 1 << 18
_ABSENT = object()


def check_plan(module: TaskModule, checked: Checked, folder: Path) -> None:
    """Refuse a folder that is not laid out as its own module would be.

    Raises:
        ArtifactError: With the file and the field.
    """
    manifest, at = checked.manifest, folder / MANIFEST
    planned = plan(module, None)
    if planned.layout != manifest.layout:
        raise ArtifactError(f"{at}: layout: found {manifest.layout}, expected {planned.layout} for these parts.")
    if module.head is not None and module.kind != module.head.kind:
        raise ArtifactError(f"{at}: kind: found {short(module.kind, 40)}, its head is for {module.head.kind}.")
    held = {name for name in manifest.files if name.endswith((".safetensors", ".json"))}
    odd = sorted(held ^ planned.files.keys())
    if odd:
        what = "belongs to no part and no head" if odd[0] in held else "is missing"
        raise ArtifactError(f"{folder / short(odd[0], 60)}: {what}.")
    for name in sorted(held):
        if name.endswith(".json"):
            found = strict_json.parse(checked.files[name], folder / name, _MOST_CONFIG)
            content = planned.files[name]
            assert isinstance(content, Mapping)
            _same(found, strict_json.parse(json_bytes(content), name, _MOST_CONFIG), f"{folder / name}")
    if manifest.format > 1:
        entries = [one.model_dump(mode="json") for one in planned.parts]
        _same({"parts": [one.model_dump(mode="json") for one in manifest.parts]}, {"parts": entries}, f"{at}")


def _same(found: Any, expected: Any, where: str) -> None:
    """Equal as JSON, where 1, 1.0 and true are three values; the first field that differs is named."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            _same(found.get(name, _ABSENT), expected.get(name, _ABSENT), f"{where}: {short(name, 40)}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected) and found:
        if isinstance(found[0], dict):
            for index, (one, other) in enumerate(zip(found, expected, strict=True)):
                _same(one, other, f"{where}: {index}")
        elif canonical(found) != canonical(expected):
            raise ArtifactError(f"{where}: found {short(found, 40)}, expected {short(expected, 40)}.")
    elif found is _ABSENT or expected is _ABSENT or canonical(found) != canonical(expected):
        raise ArtifactError(f"{where}: found {_told(found)}, expected {_told(expected)}.")


def _told(value: Any) -> str:
    return "nothing" if value is _ABSENT else short(value, 40)
