"""A layer's Linears on packed tokens: query, key and value as one product, and weights with modules merged in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..modules import SITES, Part
from ..modules.base import through_site

QKV = ("query", "key", "value")
Merged = Mapping[tuple[int, str], tuple[Tensor, Tensor | None]]
"""Layer and site -> weight (outputs, inputs) and bias in place of the backbone's."""


def lay_out(backbone: Backbone) -> None:
    """Put query, key and value of each layer side by side in memory, so that they can be one product.

    The three Linears keep their parameters, which become views; values and names stay as they are. Quantised Linears
    are left alone.
    """
    for layer in backbone.model.encoder.layer:
        linears = [layer.get_submodule(SITES[name]) for name in QKV]
        if all(type(linear) is nn.Linear for linear in linears):
            for name in ("weight", "bias"):
                tensors = [getattr(linear, name) for linear in linears]
                if _neighbours(tensors) is None:
                    whole = torch.cat([tensor.detach() for tensor in tensors])
                    for tensor, part in zip(tensors, whole.split([len(tensor) for tensor in tensors]), strict=True):
                        tensor.data = part


def products(
    layer: Any, index: int, sites: Sequence[str], x: Tensor, merged: Merged, *, as_one: bool
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Outputs of a layer's Linears that take the same inputs, each (tokens, outputs), and the biases in them.

    Args:
        merged: What stands in for the backbone's weights.
        as_one: Compute one product where the weights lie side by side; the outputs are then views of one tensor.
    """
    linears = [layer.get_submodule(SITES[site]) for site in sites]
    pairs = [
        merged.get((index, site), (linear.weight, linear.bias)) for site, linear in zip(sites, linears, strict=True)
    ]
    biases: list[Tensor | None] = [bias for _, bias in pairs]
    if as_one and len(sites) > 1 and all(type(linear) is nn.Linear for linear in linears):
        weight, bias = _neighbours([weight for weight, _ in pairs]), _neighbours(biases)
        if weight is not None and bias is not None:
            whole = nn.functional.linear(x, weight, bias)
            return list(whole.split([len(weight) for weight, _ in pairs], dim=-1)), biases
    outputs = [
        nn.functional.linear(x, *merged[index, site]) if (index, site) in merged else linear(x)
        for site, linear in zip(sites, linears, strict=True)
    ]
    return outputs, biases


@torch.no_grad()
def merged_weights(backbone: Backbone, parts: Sequence[Part]) -> Merged:
    """Copies of the weights with parts of the LoRA family and IA3 in them; the backbone's own stay as they are.

    Raises:
        BackboneError: If it has weights in 8 or 4 bits.
    """
    backbone.check_mergeable()
    merged: dict[tuple[int, str], tuple[Tensor, Tensor | None]] = {}
    for index, layer in enumerate(backbone.model.encoder.layer):
        for sites in (QKV, *((site,) for site in SITES if site not in QKV)):
            if not any((index, site) in part.keys for part in parts for site in sites):
                continue
            weights: list[Tensor] = []
            biases: list[Tensor] = []
            for site in sites:
                linear = layer.get_submodule(SITES[site])
                eye = torch.eye(linear.in_features, dtype=linear.weight.dtype, device=linear.weight.device)
                bias = linear.bias
                for part in parts:
                    bias = part.moved_bias(index, site, bias)
                # What parts do to the outputs for each unit vector, they do to the weight's columns.
                weights.append(through_site(parts, index, site, eye, linear.weight.t(), None).t())
                biases.append(bias)
            sizes = [len(weight) for weight in weights]
            columns = (torch.cat(weights).split(sizes), torch.cat(biases).split(sizes))  # side by side, as in `lay_out`
            merged |= {(index, site): pair for site, pair in zip(sites, zip(*columns, strict=True), strict=True)}
    return merged


def _neighbours(tensors: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors that lie one after another in one storage as one tensor, without a copy; None for others."""
    first = tensors[0]
    if first is None:
        return None
    end = first.data_ptr()
    for tensor in tensors:
        if tensor is None or tensor.data_ptr() != end or not tensor.is_contiguous() or tensor.dtype != first.dtype:
            return None
        if tensor.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
            return None
        end += tensor.nbytes
    rows = sum(len(tensor) for tensor in tensors if tensor is not None)
    return first.detach().as_strided((rows, *first.shape[1:]), first.stride())
