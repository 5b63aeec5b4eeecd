"""Fusion: attention over what several frozen members do at one place, weighed anew for every token.

Two variants. AdapterFusion, for bottlenecks: Pfeiffer et al. 2021, https://arxiv.org/abs/2005.00247, with the formula
and initial values of the adapters library, so that its folders and ours mean the same. Low-rank fusion, for modules of
any kind: the same idea with narrow queries and keys and without values, 2 MiB instead of 81 MiB at XLM-R-base sizes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from ..errors import CompositionError
from .attention_record import record
from .base import SITES, Part, dropout, linear, through_place, through_site
from .bottleneck import BottleneckPart
from .lora import Dimensions, Key, LoRAPart, flat_name, site_shape


@dataclass(frozen=True)
class FusionVariant:
    """What a variant is made of.

    Attributes:
        weights: Its weights at each place.
        base_lr: At hidden size 768, as of methods.
    """

    weights: tuple[str, ...]
    base_lr: float
    summary: str


FUSIONS: dict[str, FusionVariant] = {
    # Queries and keys are as long and as narrow as a LoRA's factors, so they learn at its rate.
    "lowrank": FusionVariant(("Q", "K"), 5e-4, "low-rank queries and keys, for modules of any kind"),
    # The rate of Pfeiffer et al. 2021, for their full matrices.
    "adapterfusion": FusionVariant(
        ("query.weight", "query.bias", "key.weight", "key.bias", "value.weight"),
        5e-5,
        "full queries, keys and values, for bottlenecks alone (Pfeiffer et al. 2021)",
    ),
}
RANK = 3
_REGULARISER = 0.01


class FusionPart(Part):
    """A fusion of frozen members. With D_i what member i adds to the outputs y of a Linear for its inputs x,

    lowrank: y + sum_i p_i D_i, p = softmax_i((x Q) . (D_i K) / sqrt(rank)), Q (inputs, rank), K (outputs, rank).
    After a block, y is its output z and x is LN(z + residual), with the block's norm.
    adapterfusion: z + sum_i p_i V f_i(u), p = softmax_i((W u + b) . (K f_i(u))), with the network f_i of each
    bottleneck and its input u; no residual inside and no temperature, as in the library.

    Where one member acts alone it acts as it is, without weights of the fusion. Members bring all their parts.

    Args:
        members: Each member's parts, frozen. Nothing is copied.
        labels: A name for each member.
        weights: (layer, site or place) -> the variant's weights, where two or more members act; empty for a fusion that
            no training has begun.
        trained: Whether a training has made the weights.
        dropout_p: adapterfusion: on the scores before the softmax, used in training only.

    Raises:
        CompositionError: If the members or the weights do not fit.
    """

    kind = "fusion"

    def __init__(
        self,
        name: str,
        members: Sequence[Sequence[Part]],
        labels: Sequence[str],
        variant: str,
        weights: Mapping[Key, Mapping[str, Tensor]] | None = None,
        *,
        rank: int = RANK,
        trained: bool = False,
        dropout_p: float = 0.0,
        task: str = "",
        trained_on: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, task, trained_on)
        self.labels, self.variant, self.trained, self.dropout_p = tuple(labels), variant, trained, dropout_p
        self.rank = rank if variant == "lowrank" else 0
        self._members = nn.ModuleList(nn.ModuleList(parts) for parts in members)
        check_members(members, variant)
        acting: dict[Key, list[int]] = {}
        for index, parts in enumerate(members):
            for key in dict.fromkeys(key for part in parts for key in part.keys):
                acting.setdefault(key, []).append(index)
        order = [*SITES, "attention", "ffn"]
        self.keys = tuple(sorted(acting, key=lambda key: (key[0], order.index(key[1]))))
        self._acting = {key: tuple(acting[key]) for key in self.keys}
        self.shared = tuple(key for key in self.keys if len(acting[key]) > 1)
        if not self.shared:
            raise CompositionError(
                f"'{name}': no two of its members ({', '.join(self.labels)}) act at the same place, so there is "
                "nothing to weigh. Use stack, which runs them all."
            )
        self.weights = nn.ParameterDict()
        if weights:
            self._take(weights)
        self.requires_grad_(False)

    def _take(self, weights: Mapping[Key, Mapping[str, Tensor]]) -> None:
        names = FUSIONS[self.variant].weights
        for key in sorted(set(weights) ^ set(self.shared)):
            raise CompositionError(f"'{self.name}', {key}: a fusion has weights where two or more members act, only.")
        for key in self.shared:
            found, expected = weights[key], self._shapes(key)
            for name in dict.fromkeys((*names, *found)):
                shape = tuple(found[name].shape) if name in found else None
                wanted = expected.get(name)
                if (
                    shape is None
                    or wanted is None
                    or len(shape) != len(wanted)
                    or any(size not in (None, given) for size, given in zip(wanted, shape, strict=True))
                ):
                    raise CompositionError(
                        f"'{self.name}', {key[0]}.{key[1]}.{name}: found {shape}, expected {wanted or 'none'}."
                    )
                self.weights[_flat(key, name)] = nn.Parameter(found[name])

    def _shapes(self, key: Key) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the weights at one place; None where the members do not tell a size."""
        outputs, inputs = _widths([part for i in self._acting[key] for part in self.members[i]], key)
        if self.variant == "lowrank":
            return {"Q": (inputs, self.rank), "K": (outputs, self.rank)}
        return {
            name: (outputs,) if name.endswith("bias") else (outputs, outputs) for name in FUSIONS[self.variant].weights
        }

    @property
    def members(self) -> list[list[Part]]:
        """Each member's parts."""
        return [[cast(Part, part) for part in cast(nn.ModuleList, parts)] for parts in self._members]

    # --- what it computes

    def add(self, layer: int, site: str, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
        key, acting = (layer, site), self._acting.get((layer, site), ())
        if len(acting) < 2:
            return through_site(self._parts(acting), layer, site, x, y, bias)
        pairs = [_only_addition(self._parts((index,)), key) for index in acting]
        if all(pair is not None for pair in pairs):
            return self._fused_lora(key, acting, cast(list[tuple[Tensor, Tensor]], pairs), x, y)
        changes = [through_site(self._parts((index,)), layer, site, x, y, bias) - y for index in acting]
        return y + self._fused(key, acting, x, changes)

    def moved_bias(self, layer: int, site: str, bias: Tensor | None) -> Tensor | None:
        """Members that are weighed are additions to what is there, whatever they do to its bias."""
        acting = self._acting.get((layer, site), ())
        if len(acting) < 2:
            for part in self._parts(acting):
                bias = part.moved_bias(layer, site, bias)
        return bias

    def adapt(self, layer: int, place: str, z: Tensor, residual: Tensor, norm: nn.Module) -> Tensor:
        key, acting = (layer, place), self._acting.get((layer, place), ())
        if self.variant == "adapterfusion" and acting:
            return self._adapterfusion(key, acting, z, residual, norm)

        def through(indices: Sequence[int]) -> Tensor:
            return through_place(self._parts(indices), layer, place, z, residual, norm)

        if len(acting) < 2:
            return through(acting)
        return z + self._fused(key, acting, norm(z + residual), [through((index,)) - z for index in acting])

    def _parts(self, indices: Sequence[int]) -> list[Part]:
        return [cast(Part, part) for index in indices for part in cast(nn.ModuleList, self._members[index])]

    def _weights(self, key: Key) -> list[Tensor]:
        """The weights at one place, in the variant's order."""
        if not self.weights:
            raise CompositionError(f"'{self.name}' is an untrained fusion: it has no weights yet.")
        return [self.weights[_flat(key, name)] for name in FUSIONS[self.variant].weights]

    def _fused(self, key: Key, acting: Sequence[int], x: Tensor, changes: Sequence[Tensor]) -> Tensor:
        """sum_i p_i D_i, shape (tokens, outputs)."""
        q, k = (weight.to(x.dtype) for weight in self._weights(key))
        stacked = torch.stack(tuple(changes), dim=1)
        shares = self._shares(key, acting, ((x @ q)[:, None] * (stacked @ k)).sum(-1) / math.sqrt(self.rank))
        return (shares[..., None].to(stacked.dtype) * stacked).sum(1)

    def _fused_lora(
        self, key: Key, acting: Sequence[int], pairs: Sequence[tuple[Tensor, Tensor]], x: Tensor, y: Tensor
    ) -> Tensor:
        """y + sum_i p_i D_i for D_i = B_i A_i x, without the D_i: (D_i K) is (A_i x) (B_i' K)."""
        q, k = (weight.to(x.dtype) for weight in self._weights(key))
        query = x @ q
        lows = [linear(x, a) for a, _ in pairs]
        rows = [b.to(x.dtype) for _, b in pairs]
        scores = [(query * (low @ (b.t() @ k))).sum(-1) for low, b in zip(lows, rows, strict=True)]
        shares = self._shares(key, acting, torch.stack(scores, dim=1) / math.sqrt(self.rank))
        weighed = torch.cat([low * shares[:, i, None].to(low.dtype) for i, low in enumerate(lows)], dim=1)
        return torch.addmm(y, weighed.to(y.dtype), torch.cat(rows, dim=1).to(y.dtype).t())

    def _adapterfusion(self, key: Key, acting: Sequence[int], z: Tensor, residual: Tensor, norm: nn.Module) -> Tensor:
        """Keys and values are linear, so they move to the query and to the sum: 3 matrix products, not 1 + 2n."""
        parts = [cast(BottleneckPart, part) for part in self._parts(acting)]
        source = parts[0].source(z, residual, norm)
        ups = torch.stack([part.up(*key, source) for part in parts], dim=1)
        query_w, query_b, key_w, key_b, value_w = (weight.to(ups.dtype) for weight in self._weights(key))
        query = linear(source, query_w, query_b)
        scores = ((query @ key_w)[:, None] * ups).sum(-1) + (query @ key_b)[:, None]
        shares = self._shares(key, acting, dropout(scores, self.dropout_p, self.training))
        return z + linear((shares[..., None].to(ups.dtype) * ups).sum(1), value_w)

    def _shares(self, key: Key, acting: Sequence[int], scores: Tensor) -> Tensor:
        """p, shape (tokens, members); in float32 at least."""
        shares = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        record(self, key, tuple(self.labels[index] for index in acting), shares)
        return shares

    # --- what it is

    @property
    def learns_from(self) -> int:
        return self.shared[0][0]

    def settings(self) -> dict[str, Any]:
        rank = {"rank": self.rank} if self.variant == "lowrank" else {}
        return {"variant": self.variant, **rank, "members": [[part.digest() for part in ps] for ps in self.members]}

    def tensors(self) -> dict[str, Tensor]:
        """Its own weights; the members are in `settings`, by digest."""
        if not self.weights:
            return {}
        return {
            f"{layer}.{site}.{name}": self.weights[_flat((layer, site), name)].detach()
            for layer, site in self.shared
            for name in FUSIONS[self.variant].weights
        }

    def size(self) -> int:
        """Number of weights, those of its members included, each part once."""
        held = {part.digest(): part.size() for parts in self.members for part in parts}
        return sum(held.values()) + sum(tensor.numel() for tensor in self.tensors().values())

    # --- how it is trained

    def learnable(self) -> dict[str, nn.Parameter]:
        """What a training changes, by canonical name. The key's bias is left out: it adds the same to all scores, so
        its gradient is zero, and Adam would only drift."""
        return {
            f"{layer}.{site}.{name}": cast(nn.Parameter, self.weights[_flat((layer, site), name)])
            for layer, site in (self.shared if self.weights else ())
            for name in FUSIONS[self.variant].weights
            if name != "key.bias"
        }

    def learn(self) -> Self:
        """Let its own weights learn, and nothing of its members."""
        for parameter in self.learnable().values():
            parameter.requires_grad_(True)
        return self

    def penalty(self) -> Tensor | None:
        """adapterfusion: 0.01 * sum ||V - I||^2, which is added to the loss; None for lowrank, which has no values."""
        if self.variant != "adapterfusion":
            return None
        values = [self._weights(key)[-1] for key in self.shared]
        eye = torch.eye(values[0].shape[0], dtype=values[0].dtype, device=values[0].device)
        return _REGULARISER * torch.stack([(value - eye).square().sum() for value in values]).sum()

    def begun(
        self, on: Dimensions, generator: torch.Generator, dtype: torch.dtype, dropout_p: float = 0.0
    ) -> FusionPart:
        """The same at its seeded initial values, ready to be trained.

        lowrank: Q uniform in +-1/sqrt(inputs), K zero. So every member has the same share at first, and the fusion
        starts as their mean: nothing is assumed of who is useful. Both zero would have no gradient.
        adapterfusion: the library's values. Queries and keys normal(0, 0.02), biases zero, the value almost the
        identity (1e-6 off the diagonal).
        """
        weights: dict[Key, dict[str, Tensor]] = {}
        for key in self.shared:
            outputs, inputs = site_shape(key[1], on) if key[1] in SITES else (on.hidden, on.hidden)
            if self.variant == "lowrank":
                q = 2 * torch.rand(inputs, self.rank, generator=generator, dtype=torch.float64) - 1
                made = {"Q": q / math.sqrt(inputs), "K": torch.zeros(outputs, self.rank)}
            else:
                square = [0.02 * torch.randn(outputs, outputs, generator=generator, dtype=torch.float64) for _ in "qk"]
                value = torch.full((outputs, outputs), 1e-6, dtype=torch.float64).fill_diagonal_(1.0)
                values = (square[0], torch.zeros(outputs), square[1], torch.zeros(outputs), value)
                made = dict(zip(FUSIONS[self.variant].weights, values, strict=True))
            weights[key] = {name: tensor.to(dtype) for name, tensor in made.items()}
        return self._with(self.members, weights, trained=False, dropout_p=dropout_p)

    def over(self, members: Sequence[Sequence[Part]]) -> FusionPart:
        """Copies of its weights over other objects for the same members, such as joined or moved ones."""
        weights: dict[Key, dict[str, Tensor]] = {}
        for key in self.shared if self.weights else ():
            names = FUSIONS[self.variant].weights
            weights[key] = {name: self.weights[_flat(key, name)].detach().clone() for name in names}
        return self._with(members, weights, trained=self.trained, dropout_p=self.dropout_p)

    def finished(self, weights: Mapping[str, Tensor]) -> FusionPart:
        """The same, trained, with these weights by canonical name; its members are the very objects that it has."""
        nested: dict[Key, dict[str, Tensor]] = {}
        for canonical, tensor in (self.tensors() | dict(weights)).items():
            layer, site, name = canonical.split(".", 2)
            nested.setdefault((int(layer), site), {})[name] = tensor.detach().cpu().clone()
        return self._with(self.members, nested, trained=True, dropout_p=0.0)

    def _with(
        self,
        members: Sequence[Sequence[Part]],
        weights: Mapping[Key, Mapping[str, Tensor]],
        *,
        trained: bool,
        dropout_p: float,
    ) -> FusionPart:
        part = FusionPart(
            self.name, members, self.labels, self.variant, weights, rank=self.rank, trained=trained,
            dropout_p=dropout_p, task=self.task, trained_on=self.trained_on,
        )  # fmt: skip
        part.made_of = None if trained else copy.deepcopy(self.made_of)
        return part


def check_members(members: Sequence[Sequence[Part]], variant: str) -> None:
    """Refuse members that a variant cannot fuse."""
    if variant not in FUSIONS:
        raise CompositionError(f"No fusion variant '{variant}'. Variants: {', '.join(FUSIONS)}.")
    if len(members) < 2:
        raise CompositionError("A fusion has at least 2 members; use a single module as it is.")
    for parts in members:
        if not parts:
            raise CompositionError("A member of a fusion has no parts: it is a head alone. Leave it out.")
        if any(isinstance(part, FusionPart) for part in parts):
            raise CompositionError("A fusion cannot be a member of a fusion. Fuse all members at once: fuse(a, b, c).")
    if variant != "adapterfusion":
        return
    other = "Use kind=lowrank, which fuses modules of any kind"
    for parts in members:
        if len(parts) != 1 or not isinstance(parts[0], BottleneckPart):
            kinds = ", ".join(part.kind for part in parts)
            raise CompositionError(f"AdapterFusion takes one bottleneck of each member, found: {kinds}. {other}.")
    bottlenecks = [cast(BottleneckPart, parts[0]) for parts in members]
    if any(part.variant == "par_bn" for part in bottlenecks):
        raise CompositionError(
            f"AdapterFusion of par_bn: the adapters library adds the block's input twice there. {other}."
        )
    first = bottlenecks[0]
    for part in bottlenecks[1:]:
        if part.variant != first.variant or part.keys != first.keys:
            raise CompositionError(
                f"AdapterFusion takes bottlenecks of one variant in the same layers, but '{first.name}' "
                f"({first.variant}) and '{part.name}' ({part.variant}) are not. {other}."
            )


def _only_addition(parts: Sequence[Part], key: Key) -> tuple[Tensor, Tensor] | None:
    """A and B of a member that is one plain LoRA at a site; None for any other."""
    acting = [part for part in parts if key in part.keys]
    if len(acting) != 1 or not isinstance(acting[0], LoRAPart) or acting[0].row_scale(*key) is not None:
        return None
    return acting[0].factors(*key) if acting[0].scales[key] == 1.0 else None


def _widths(parts: Sequence[Part], key: Key) -> tuple[int | None, int | None]:
    """(outputs, inputs) of a site or place as far as parts that act there tell them."""
    outputs, inputs = None, None
    for part in parts:
        if key not in part.keys:
            continue
        if isinstance(part, LoRAPart) and (pair := part.factors(*key)) is not None:
            return pair[1].shape[0], pair[0].shape[1]
        named = {name: tensor for name, tensor in part.tensors().items() if name.startswith(f"{key[0]}.{key[1]}.")}
        for name, tensor in named.items():
            if name.endswith((".l", ".up.bias")):
                outputs = tensor.shape[0]
        if isinstance(part, BottleneckPart):
            inputs = outputs
    return outputs, inputs


def _flat(key: Key, name: str) -> str:
    return f"{flat_name(key)}_{name.replace('.', '_')}"
