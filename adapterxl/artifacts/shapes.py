"""Do the weights of parts fit a backbone of these sizes? Asked when a folder is read, and when it meets a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..errors import ArtifactError, CompositionError
from ..modules import BottleneckPart, FusionPart, IA3Part, LoRAPart, Part


class Dimensions(Protocol):
    """Sizes of a backbone; `intermediate` None where they are not known."""

    @property
    def hidden(self) -> int: ...
    @property
    def intermediate(self) -> int | None: ...
    @property
    def layers(self) -> int: ...


def check_shapes(parts: Sequence[Part], on: Dimensions, where: object) -> None:
    """Refuse weights that do not fit a backbone of these sizes.

    Raises:
        ArtifactError: With the part, the weight, and both shapes.
    """
    for part in parts:
        if isinstance(part, FusionPart):
            for member in part.members:
                check_shapes(member, on, where)
        for name, tensor in part.tensors().items():
            layer, site, weight = name.split(".", 2)
            shape, expected = tuple(tensor.shape), _shape(part, int(layer), site, weight, on)
            if int(layer) >= on.layers:
                raise ArtifactError(f"{where}: '{part.name}': layer {layer}: the backbone has 0 to {on.layers - 1}.")
            if len(shape) != len(expected) or any(e not in (None, s) for s, e in zip(shape, expected, strict=True)):
                raise ArtifactError(
                    f"{where}: '{part.name}': {name}: found shape {list(shape)}, expected "
                    f"{['any' if size is None else size for size in expected]}."
                )


def _shape(part: Part, layer: int, site: str, weight: str, on: Dimensions) -> tuple[int | None, ...]:
    outputs = on.intermediate if site == "ffn_up" else on.hidden
    inputs = on.intermediate if site == "ffn_down" else on.hidden
    if isinstance(part, LoRAPart):
        rank = part.rank(layer, site)
        return {"A": (rank, inputs), "B": (outputs, rank), "rows": (outputs,)}[weight]
    if isinstance(part, IA3Part):
        return (outputs,)
    if isinstance(part, BottleneckPart):
        width = part.weights[f"{layer}_{site}_down_weight"].shape[0]
        return {"down.weight": (width, on.hidden), "down.bias": (width,), "up.weight": (on.hidden, width),
                "up.bias": (on.hidden,)}[weight]  # fmt: skip
    if isinstance(part, FusionPart) and part.variant == "lowrank":
        return (inputs, part.rank) if weight == "Q" else (outputs, part.rank)
    if isinstance(part, FusionPart):
        return (on.hidden,) if weight.endswith("bias") else (on.hidden, on.hidden)
    raise CompositionError(f"'{part.name}': no shapes of a {part.kind} part are known.")
