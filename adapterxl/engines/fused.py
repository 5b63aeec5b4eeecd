"""Dropout, residual and LayerNorm as one compiled kernel, for backbones that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..modules.base import dropout


def normed_sum(z: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float, rate: float) -> Tensor:
    """LayerNorm of `x` plus `z` after dropout, shape (tokens, hidden) like both."""
    return F.layer_norm(dropout(z, rate, rate > 0) + x, weight.shape, weight, bias, eps)


@cache
def compiled() -> Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]:
    """`normed_sum`, compiled at its first call; weights are arguments, so that all layers and lengths share graphs."""
    return torch.compile(normed_sum, dynamic=True)
