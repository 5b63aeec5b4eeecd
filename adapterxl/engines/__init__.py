"""Who executes a composition: `packed` (ours), `peft`, `adapters` (the vanilla libraries)."""

from __future__ import annotations

from importlib import import_module

from ..errors import EngineError, did_you_mean
from .base import Build, Engine
from .export import to_adapters, to_peft
from .verify import AGAINST, Verification, verify

ENGINES = ("packed", "peft", "adapters")


def get_engine(name: str) -> Build:
    """How to build an engine by name; imports its library only now."""
    if name not in ENGINES:
        raise EngineError(f"No engine '{name}'.{did_you_mean(name, ENGINES)} Engines: {', '.join(ENGINES)}.")
    build: Build = import_module(f".{name}", __name__).build
    return build


__all__ = ["AGAINST", "ENGINES", "Build", "Engine", "Verification", "get_engine", "to_adapters", "to_peft", "verify"]
