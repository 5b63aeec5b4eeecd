"""Publishing: model cards, drawn from manifests and scores; modules sent to a hub, fetched from it, and found there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbones import backbone_card, write_backbone_card
    from .cards import card, write_card
    from .pulling import Pulled, pull
    from .pushing import Pushed, push
    from .searching import Found, search
    from .transport import Patience

# Imported on first use: backbones need torch, fetching does not.
_HOMES = {
    "Found": ".searching",
    "Patience": ".transport",
    "Pulled": ".pulling",
    "Pushed": ".pushing",
    "backbone_card": ".backbones",
    "card": ".cards",
    "pull": ".pulling",
    "push": ".pushing",
    "search": ".searching",
    "write_backbone_card": ".backbones",
    "write_card": ".cards",
}
__all__ = ["Found", "Patience", "Pulled", "Pushed", "backbone_card", "card", "pull", "push", "search",
           "write_backbone_card", "write_card"]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
