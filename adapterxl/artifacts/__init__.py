"""Modules as folders: manifest, store, the PEFT and AdapterHub layouts."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from .foreign import import_folder
    from .module import HeadState, TaskModule
    from .reading import load

__all__ = ["HeadState", "Manifest", "TaskModule", "import_folder", "inspect", "load", "read_manifest"]

# Imported on first use: the store and the manifest work without torch.
_HOMES = {"HeadState": ".module", "TaskModule": ".module", "import_folder": ".foreign", "load": ".reading"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def inspect(folder: str | Path) -> list[tuple[str, str]]:
    """What a module folder holds, as (field, value) lines for people; files are checked on the way."""
    from .reading import load

    module, manifest = load(folder), read_manifest(Path(folder))
    base = manifest.base
    rows = [
        ("name", manifest.name),
        ("task", f"{manifest.task} ({manifest.kind})" if manifest.task else "none: a composition"),
        ("made by", manifest.operator + (f" on {manifest.composition}" if manifest.composition else "")),
        ("base", f"{base.id or base.name}{'@' + base.revision[:12] if base.revision else ''}, "
                 f"{base.model_type}, {base.layers} layers x {base.hidden_size}, fingerprint {base.fingerprint[:12]}"),
        ("layout", manifest.layout),
        ("weights", f"{module.size():,}"),
        ("bytes", f"{sum(entry.size for entry in manifest.files.values()):,} in {len(manifest.files)} files"),
    ]  # fmt: skip
    for part, entry in zip(module.parts, manifest.parts, strict=True):
        layers = f"layers {part.layers[0]}-{part.layers[-1]}" if len(part.layers) > 1 else f"layer {part.layers[0]}"
        rows.append((f"part {entry.name}", f"{entry.kind}, {part.size():,} weights, {layers}, {entry.digest[:12]}, "
                     f"trained on {len(entry.trained_on)} earlier part(s)"))  # fmt: skip
        for one in entry.members or ():
            rows.append((f"  fuses {one.name}", ", ".join(f"{each.name} ({each.kind})" for each in one.parts)))
    if manifest.head is not None:
        for task, head in manifest.heads.items() or (("", manifest.head),):
            shared = [other for other, entry in manifest.heads.items() if entry == head]
            same = f" (one for {', '.join(shared)})" if len(shared) > 1 else ""
            rows.append((f"head {task}".rstrip(), f"{head.kind}: {', '.join(head.labels) or 'no labels'}{same}"))
    rows += [("note", note) for note in manifest.notes]
    rows += [(f"trained: {key}", str(value)) for key, value in sorted(manifest.training.items())]
    rows.append(("digest", module.digest()))
    return rows
