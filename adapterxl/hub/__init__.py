"""Publishing: model cards, drawn from manifests and scores."""

from __future__ import annotations

from .cards import backbone_card, card, write_backbone_card, write_card

__all__ = ["backbone_card", "card", "write_backbone_card", "write_card"]
