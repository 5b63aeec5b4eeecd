"""What a module part is: weights of one training, hung on sites of the encoder's layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# Our site names and where Hugging Face keeps them inside a layer (XLM-R and BERT alike).
SITES: dict[str, str] = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
}


class Part(nn.Module):
    """One trained module: a LoRA or a bottleneck adapter, over any choice of layers.

    The packed encoder calls `add` at each Linear and `adapt` after each block, with the tokens of the rows
    that use this part. A part that does not act there returns its input unchanged.

    Attributes:
        name: The user's name for it, such as the task.
        task: The task it was trained for.
        trained_on: Digests of the parts that were in place, frozen, when this one was trained, in order.
        made_of: For a part that an operator made and nothing trained: the operator, its options, the digests of the
            members' parts, and the energy that a lower rank lost at each site; None for others.
        keys: Where it acts: (layer, site), or (layer, place) for what acts after a block.
    """

    made_of: Mapping[str, Any] | None = None
    keys: tuple[tuple[int, str], ...]
    kind: ClassVar[str]

    def __init__(self, name: str, task: str = "", trained_on: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.name, self.task, self.trained_on = name, task, trained_on

    def add(self, layer: int, site: str, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
        """What this part makes of a Linear's outputs y (tokens, out) for its inputs x (tokens, in).

        Args:
            bias: The bias that y holds, shape (out,); None for none.
        """
        return y

    def add_sites(
        self, layer: int, sites: Sequence[str], x: Tensor, ys: Sequence[Tensor], biases: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """`add` at several sites of a layer that have the same inputs."""
        return [self.add(layer, site, x, y, bias) for site, y, bias in zip(sites, ys, biases, strict=True)]

    def moved_bias(self, layer: int, site: str, bias: Tensor | None) -> Tensor | None:
        """The bias that the outputs of `add` hold."""
        return bias

    def adapt(self, layer: int, place: str, z: Tensor, residual: Tensor, norm: nn.Module) -> Tensor:
        """Transform a block's output z (tokens, hidden) before the residual is added and normalised.

        Args:
            place: "attention" or "ffn".
            residual: The block's input, same shape.
            norm: The block's own LayerNorm, which follows.
        """
        return z

    def row_scale(self, layer: int, site: str) -> Tensor | None:
        """The factor of each output of a Linear's weights, shape (outputs,), or None where nothing is rescaled."""
        return None

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers in which this part acts, ascending."""
        return tuple(sorted({layer for layer, _ in self.keys}))

    @property
    def sites(self) -> tuple[str, ...]:
        """Linears on which this part acts in some layer."""
        return tuple(site for site in SITES if any(site == key[1] for key in self.keys))

    @property
    def learns_from(self) -> int:
        """The lowest layer with weights that a training of it changes."""
        return self.layers[0]

    def settings(self) -> dict[str, Any]:
        """Everything but the tensors that is needed to build this part again, as JSON values."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """Weights under canonical names (``<layer>.<site>.<weight>``), sorted."""
        raise NotImplementedError

    def digest(self) -> str:
        """sha256 over kind, settings and tensors; the name a user gave is not part of it."""
        digest = hashlib.sha256(json.dumps([self.kind, self.settings()], sort_keys=True).encode())
        for name, tensor in self.tensors().items():
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            # flat first: a column of a transposed matrix counts as contiguous, and cannot be viewed as bytes
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def size(self) -> int:
        """Number of weights."""
        return sum(tensor.numel() for tensor in self.tensors().values())


def through_sites(
    stack: Sequence[Part],
    layer: int,
    sites: Sequence[str],
    x: Tensor,
    ys: Sequence[Tensor],
    biases: Sequence[Tensor | None],
) -> list[Tensor]:
    """`through_site` at several sites of a layer that have the same inputs."""
    for part in stack:
        ys = part.add_sites(layer, sites, x, ys, biases)
        biases = [part.moved_bias(layer, site, bias) for site, bias in zip(sites, biases, strict=True)]
    return list(ys)


def through_site(stack: Sequence[Part], layer: int, site: str, x: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
    """The outputs y of a Linear for inputs x after all parts of a stack, one after another."""
    return through_sites(stack, layer, (site,), x, (y,), (bias,))[0]


def through_place(
    stack: Sequence[Part], layer: int, place: str, z: Tensor, residual: Tensor, norm: nn.Module
) -> Tensor:
    """The output z of a block after all parts of a stack, one after another."""
    for part in stack:
        z = part.adapt(layer, place, z, residual, norm)
    return z


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout that keeps one byte per value for the backward pass.

    `torch.nn.functional.dropout` keeps a mask in the dtype of x on the CPU: four times as much.
    """
    if not training or p == 0.0:
        return x
    return torch.native_dropout(x, p, True)[0]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` in the dtype of x: fp32 module weights on a bf16 backbone compute in bf16."""
    return nn.functional.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
