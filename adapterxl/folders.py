"""Where adapterxl keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache, which need not be there yet; ADAPTERXL_CACHE names another one."""
    return Path(os.environ.get("ADAPTERXL_CACHE") or Path.home() / ".cache" / "adapterxl")
