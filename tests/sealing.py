"""Change a manifest and seal it again, as someone would who knows the format: what is left must catch the change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapterxl.artifacts import store
from adapterxl.artifacts.header import read_header, tensor_digests
from adapterxl.artifacts.manifest import seal
from adapterxl.artifacts.strict_json import canonical
from adapterxl.errors import ArtifactError


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change the values of a folder's manifest, and seal it."""
    path = folder / store.MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_bytes(canonical(seal(manifest) if manifest.get("format") != 1 else manifest))


def mend(folder: Path) -> None:
    """Give every file, and every tensor in it, the size and digest that it now has."""

    def mended(manifest: dict[str, Any]) -> None:
        for name, entry in manifest["files"].items():
            data = (folder / name).read_bytes()
            entry.update(size=len(data), sha256=store.sha256(data))
            if name.endswith(".safetensors"):
                try:
                    header = read_header(data, name)
                except ArtifactError:
                    continue  # what is no safetensors has no tensors to mend
                digests = tensor_digests(data, header)
                manifest["tensors"][name] = {
                    key: {"dtype": one.dtype, "shape": list(one.shape), "sha256": digests[key]}
                    for key, one in header.items()
                }

    edit_manifest(folder, mended)
