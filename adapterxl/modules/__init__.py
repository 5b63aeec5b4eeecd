"""What is trained: methods (settings), parts (weights) and heads."""

from __future__ import annotations

from .base import SITES, Part
from .bottleneck import VARIANTS, Bottleneck, BottleneckPart
from .dora import DoRA, DoRAPart
from .fusion import FUSIONS, FusionPart
from .heads import Head, make_head
from .ia3 import IA3Part
from .lora import LoRA, LoRAPart
from .rslora import RsLoRA

Method = LoRA | Bottleneck
METHODS: dict[str, type[LoRA] | type[Bottleneck]] = {cls.method: cls for cls in (LoRA, RsLoRA, DoRA, Bottleneck)}

__all__ = [
    "FUSIONS",
    "METHODS",
    "SITES",
    "VARIANTS",
    "Bottleneck",
    "BottleneckPart",
    "DoRA",
    "DoRAPart",
    "FusionPart",
    "Head",
    "IA3Part",
    "LoRA",
    "LoRAPart",
    "Method",
    "Part",
    "RsLoRA",
    "make_head",
]
