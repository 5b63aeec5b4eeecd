"""Turns pickled weights into safetensors. Run as a script, in a process of its own: see convert.py.

The one place where a pickle is opened, and only with `weights_only`, which builds tensors and plain containers and
nothing else. The file imports nothing of adapterxl, so that the process holds nothing worth stealing.
"""

from __future__ import annotations

import sys


def main(source: str, target: str) -> int:
    """Convert one file; 0 when that was done."""
    import torch
    from safetensors.torch import save_file

    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile file makes of the reader, it ends here
        print(f"it holds more than plain tensors, or is damaged ({type(error).__name__})", file=sys.stderr)
        return 1
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items()
    ):
        print("found something else than names and tensors", file=sys.stderr)
        return 1
    save_file({key: value.detach().clone().contiguous() for key, value in found.items()}, target, {"format": "pt"})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
