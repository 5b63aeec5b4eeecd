"""rsLoRA: LoRA whose additions are scaled by alpha / sqrt(rank), so that higher ranks learn as fast.

Source: Kalajdzievski 2023, https://arxiv.org/abs/2312.03732
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .lora import LoRA


@dataclass(frozen=True)
class RsLoRA(LoRA):
    """Settings of a rank-stabilised LoRA module; those of LoRA, with alpha 16 for every rank when not given."""

    method = "rslora"
    summary = "LoRA scaled by alpha / sqrt(rank), for high ranks (Kalajdzievski 2023)"

    @staticmethod
    def usual_alpha(rank: int) -> float:
        return 16.0  # the point of the method: one alpha for all ranks

    @staticmethod
    def scaling(alpha: float, rank: int) -> float:
        return alpha / math.sqrt(rank)
