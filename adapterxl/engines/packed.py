"""The default engine: our parts on the packed encoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import cast

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..frozen import dense_weight
from ..modules import SITES, BottleneckPart, DoRAPart, FusionPart, IA3Part, LoRAPart, Part
from ..modules.lora import concatenate
from ..ragged import RaggedBatch
from .encoder import encode
from .linears import Merged, lay_out, merged_weights
from .trunk import TrunkCache, open_trunk


class PackedEngine:
    """Frozen parts below, the learning part on top, all rows alike. Fusions that are not trained yet learn too."""

    name = "packed"

    def __init__(self, backbone: Backbone, frozen: Sequence[Part], new: Part | None) -> None:
        self.backbone = backbone
        self.frozen = [part.to(backbone.device) for part in join_frozen(frozen)]
        self.given = list(frozen)
        joined = [part for part in self.frozen if isinstance(part, FusionPart)]  # in the same order as those given
        places = [index for index, part in enumerate(frozen) if isinstance(part, FusionPart)]
        self.learning = {i: part.learn() for i, part in zip(places, joined, strict=True) if not part.trained}
        self.new = None if new is None else copy.deepcopy(new).to(backbone.device).requires_grad_(True)
        if isinstance(self.new, DoRAPart):
            self.new.bind(partial(weight, backbone), self.frozen)
        self.plan = [[*self.frozen, *([self.new] if self.new is not None else [])]]
        self.trunk: TrunkCache | None = None
        self.merged: Merged = {}
        lay_out(backbone)

    def hidden(self, batch: RaggedBatch, *, training: bool = False, upto: int | None = None) -> Tensor:
        trunk = self.trunk if upto is None or self.trunk is None or upto >= self.trunk.layer else None
        after = None if trunk is None else (trunk.layer, trunk.hidden(batch))
        states = encode(self.backbone, batch, self.plan, training=training, upto=upto, after=after, merged=self.merged)
        assert isinstance(states, Tensor)
        return states

    @property
    def trunk_layer(self) -> int:
        """The layer that a forward begins with: 0 without a trunk cache."""
        return 0 if self.trunk is None else self.trunk.layer

    @property
    def learns_from(self) -> int:
        """The lowest layer in which something learns; the number of layers where only a head does."""
        learning = [*self.learning.values(), *([] if self.new is None else [self.new])]
        return min((part.learns_from for part in learning), default=self.backbone.layers)

    def merge(self) -> None:
        """Run with the frozen LoRA and IA3 parts added to copies of the weights: their own products are saved.

        Only where nothing learns and the backbone is in full precision, which rounds no worse than the products do;
        else nothing is done. Parts from the first fusion on stay as they are. The backbone is not touched.
        """
        linears = (self.backbone.model.get_submodule(f"encoder.layer.0.{site}") for site in SITES.values())
        full = self.backbone.dtype in (torch.float32, torch.float64)
        if self.new is not None or self.learning or not full or any(type(one) is not nn.Linear for one in linears):
            return
        stack = self.plan[0]
        before = next((i for i, part in enumerate(stack) if isinstance(part, FusionPart)), len(stack))
        adding = [part for part in stack[:before] if isinstance(part, LoRAPart | IA3Part)]
        self.merged = merged_weights(self.backbone, adding)
        self.plan = [[part for part in stack if part not in adding]]

    def cache_trunk(self, dtype: str, limit: float) -> TrunkCache:
        """From now on, read the states below all that learns from a cache. Its rows are to be added."""
        learning = [*self.learning.values(), *([] if self.new is None else [self.new])]
        self.trunk = open_trunk(self.backbone, self.frozen, learning, dtype=dtype, limit=limit)
        return self.trunk

    def parameters(self) -> dict[str, nn.Parameter]:
        return fusion_parameters(self.learning) | ({} if self.new is None else dict(self.new.named_parameters()))

    def export(self) -> Part | None:
        return None if self.new is None else finished(self.new)

    def fusions(self) -> dict[int, FusionPart]:
        # Over the members as they were given: those that ran may be joined, and lie on another device.
        return {i: cast(FusionPart, self.given[i]).finished(part.tensors()) for i, part in self.learning.items()}

    def penalty(self) -> Tensor | None:
        found = [one for part in self.learning.values() if (one := part.penalty()) is not None]
        return torch.stack(found).sum() if found else None


def fusion_parameters(learning: Mapping[int, FusionPart]) -> dict[str, nn.Parameter]:
    """What of fusions learns, by position and name."""
    return {f"fusion{i}.{name}": p for i, part in learning.items() for name, p in part.learnable().items()}


def weight(backbone: Backbone, layer: int, site: str) -> Tensor:
    """A Linear's weight matrix as it computes, shape (outputs, inputs)."""
    return dense_weight(backbone.model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}"))


def join_frozen(parts: Sequence[Part]) -> list[Part]:
    """Frozen copies of the parts, neighbouring LoRA parts joined into one: two matrix products per site, not 2k."""
    joined: list[Part] = []
    for is_lora, group in groupby(parts, key=lambda part: isinstance(part, LoRAPart)):
        members = list(group)
        if is_lora and len(members) > 1:
            joined.append(concatenate([part for part in members if isinstance(part, LoRAPart)], "joined"))
        else:
            joined.extend(_copied(part) for part in members)
    return [part.requires_grad_(False) for part in joined]


def _copied(part: Part) -> Part:
    if isinstance(part, FusionPart):
        return part.over([join_frozen(member) for member in part.members])
    return copy.deepcopy(part)


def finished(part: Part) -> Part:
    """A learned part as artifacts hold it: on the CPU, frozen, without dropout, a LoRA's scale folded into B."""
    if isinstance(part, LoRAPart):
        return part.folded().cpu().requires_grad_(False)
    result = copy.deepcopy(part).cpu()
    if isinstance(result, BottleneckPart):
        result.dropout_p = 0.0  # of its own training only; a part that is trained upon stays as it is
    return result.requires_grad_(False)


build = PackedEngine
