"""Training: settings (importable without torch), the loop, `train` and `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .settings import Settings

if TYPE_CHECKING:
    from .train import plan, train

__all__ = ["Settings", "plan", "train"]


def __getattr__(name: str) -> Any:
    if name in ("plan", "train"):
        from importlib import import_module

        module = import_module(f"{__name__}.train")
        globals().update(plan=module.plan, train=module.train)  # `train` would else stay the submodule
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
