"""Evaluation: predictions, metrics, scores. `evaluate` is found lazily, so that reading scores needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .zero_shot import evaluate

__all__ = ["evaluate"]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        from .zero_shot import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
