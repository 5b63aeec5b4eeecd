"""What is trained: methods (settings), parts (weights) and heads."""

from __future__ import annotations

from .base import SITES, Part
from .bottleneck import VARIANTS, Bottleneck, BottleneckPart
from .heads import Head, make_head
from .lora import LoRA, LoRAPart

Method = LoRA | Bottleneck
METHODS: dict[str, type[LoRA] | type[Bottleneck]] = {cls.method: cls for cls in (LoRA, Bottleneck)}

__all__ = [
    "METHODS",
    "SITES",
    "VARIANTS",
    "Bottleneck",
    "BottleneckPart",
    "Head",
    "LoRA",
    "LoRAPart",
    "Method",
    "Part",
    "make_head",
]
