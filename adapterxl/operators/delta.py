"""What the operators in delta-W space share: a member's change of each weight matrix, sums of them, and low ranks.

The change at a site is ``delta W = B A``, of shape (outputs, inputs). A and B are never mixed apart from each other:
the mean of products is not the product of means. All arithmetic is in float64, one site at a time; results are rounded
once, to the widest dtype of the members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ..artifacts.module import TaskModule
from ..errors import CompositionError
from ..modules import FusionPart, LoRAPart
from .base import Combined, Option, is_number, refuse_empty
from .merge import NO_FUSION

Key = tuple[int, str]
Factors = tuple[Tensor, Tensor]
"""A of shape (rank, inputs) and B of shape (outputs, rank)."""

_CACHED = 2**15  # entries in float64

REFUSES = {"fuse": NO_FUSION}
RANK = Option(
    "rank",
    "a whole number from 1",
    lambda value, members: type(value) is int and value >= 1,
    None,
    "rank of the result at every site; by default as many as the members have together",
)
DENSITY = Option(
    "density",
    "a number above 0, at most 1",
    lambda value, members: is_number(value) and 0 < value <= 1,
    0.2,
    "share of the entries of each delta W that is kept",
)
WEIGHTS = Option(
    "weights",
    "a number for each member, not all 0",
    lambda value, members: (
        isinstance(value, tuple) and len(value) == members and all(map(is_number, value)) and any(value)
    ),
    None,
    "a factor for each member's delta W",
)


def check(member: TaskModule) -> None:
    """Refuse members that change more than weight matrices by low-rank additions."""
    for part in member.parts:
        if isinstance(part, FusionPart):
            raise CompositionError(f"'{member.name}' holds a fusion, which is no weight matrix: {NO_FUSION}.")
        if not isinstance(part, LoRAPart):
            raise CompositionError(
                f"'{member.name}' has a {part.kind} part, which is no change of a weight matrix. "
                "Use stack or fuse for it."
            )
        if part.rescales:
            raise CompositionError(
                f"'{member.name}' rescales the backbone's weights (DoRA), so its change depends on them and has full "
                "rank. Use merge, which is exact for it, or stack."
            )


def factors(member: TaskModule, key: Key) -> Factors | None:
    """A member's change at one site, all of its parts together, in float64; None where it makes none."""
    found = [
        (pair[0].detach().double(), pair[1].detach().double() * part.scales[key])
        for part in member.parts
        if isinstance(part, LoRAPart) and (pair := part.factors(*key)) is not None
    ]
    if not found:
        return None
    return torch.cat([a for a, _ in found]), torch.cat([b for _, b in found], 1)


def by_site(
    operator: str,
    members: Sequence[TaskModule],
    options: Mapping[str, Any],
    site: Callable[[Key, list[Factors | None]], tuple[Factors, float]],
) -> Combined:
    """One LoRA, site after site.

    Args:
        site: Key and each member's factors there -> the result's factors, and the share of its energy (squared
            Frobenius norm) that a lower rank lost.
    """
    for member in members:
        refuse_empty(member)
    every = [part for member in members for part in member.parts if isinstance(part, LoRAPart)]
    dtype = torch.float64 if any(p.dtype == torch.float64 for part in every for p in part.parameters()) else None
    made: dict[Key, Factors] = {}
    lost: dict[str, float] = {}
    for key in sorted({key for part in every for key in part.keys}):
        (a, b), share = site(key, [factors(member, key) for member in members])
        made[key] = _own(a, dtype or torch.float32), _own(b, dtype or torch.float32)
        lost[f"{key[0]}.{key[1]}"] = round(share, 9)
    part = LoRAPart(operator, made)
    part.made_of = {
        "operator": operator,
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        "members": [[part.digest() for part in member.parts] for member in members],
        "lost_energy": lost if any(share > 1e-12 for share in lost.values()) else {},
    }
    return Combined((part.requires_grad_(False),), notes=_loss_note(operator, lost))


def by_dense_site(
    operator: str,
    members: Sequence[TaskModule],
    options: Mapping[str, Any],
    site: Callable[[Key, list[Factors | None]], Tensor],
) -> Combined:
    """As `by_site`, where a site's result is a matrix of full rank: it is kept at the rank of the options.

    Args:
        site: Key and each member's factors there -> delta W, of shape (outputs, inputs).
    """

    def kept(key: Key, found: list[Factors | None]) -> tuple[Factors, float]:
        return truncated_dense(site(key, found), options.get("rank", total_rank(found)))

    return by_site(operator, members, options, kept)


def _own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor with memory of its own, row after row: it may be a view of something larger."""
    return tensor.to(dtype).clone(memory_format=torch.contiguous_format)


def _loss_note(operator: str, lost: Mapping[str, float]) -> tuple[str, ...]:
    worst = max(lost, key=lambda key: lost[key])
    if lost[worst] <= 1e-12:
        return ()
    return (
        f"{operator} to this rank lost {fmean(lost.values()):.2%} of the energy of delta W on average over the "
        f"{len(lost)} sites, most at {worst} ({lost[worst]:.2%}).",
    )


def added(found: Sequence[Factors | None], weights: Sequence[float]) -> Factors:
    """The weighted sum of changes, exactly: ranks side by side."""
    there = [(pair, weight) for pair, weight in zip(found, weights, strict=True) if pair is not None]
    return torch.cat([a for (a, _), _ in there]), torch.cat([b * weight for (_, b), weight in there], 1)


def truncated(pair: Factors, rank: int) -> tuple[Factors, float]:
    """The best approximation of B A of a rank, and the share of the energy that it loses; no outputs x inputs matrix.

    B = Q R and A' = P S by QR, then the singular values of the small R S' (Eckart and Young 1936).
    """
    a, b = pair
    q, r = torch.linalg.qr(b)
    p, s = torch.linalg.qr(a.T)
    u, values, vh = torch.linalg.svd(r @ s.T)
    energy = float((values**2).sum())
    kept = min(rank, len(values))
    share = float((values[kept:] ** 2).sum()) / energy if energy else 0.0
    root = values[:kept].sqrt()
    return balanced((vh[:kept] * root[:, None]) @ p.T, q @ (u[:, :kept] * root)), share


def truncated_dense(matrix: Tensor, rank: int) -> tuple[Factors, float]:
    """The best approximation of a matrix of a rank, and the share of the energy that it loses.

    The leading eigenvectors of the smaller Gram matrix, in float64; what they leave out is measured, not inferred.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    tall = matrix if wide else matrix.T
    energy = float((tall**2).sum())
    kept = min(rank, tall.shape[0])
    vectors = torch.linalg.eigh(tall @ tall.T).eigenvectors[:, -kept:].flip(1)
    rest = vectors.T @ tall
    share = max(0.0, 1 - float((rest**2).sum()) / energy) if energy else 0.0
    root = rest.norm(dim=1).sqrt()
    scale = torch.where(root > 0, 1 / root, torch.zeros_like(root))
    left, right = vectors * root, rest * scale[:, None]
    return (balanced(right, left) if wide else balanced(left.T, right.T)), share


def balanced(a: Tensor, b: Tensor) -> Factors:
    """The same product with one choice of signs: the largest entry of each column of B is positive."""
    sign = torch.sign(b.gather(0, b.abs().argmax(0, keepdim=True))).squeeze(0)
    sign[sign == 0] = 1.0
    return a * sign[:, None], b * sign


def total_rank(found: Sequence[Factors | None]) -> int:
    """Rank of all members together, at most what the matrix can have."""
    shapes = [(a.shape[0], a.shape[1], b.shape[0]) for a, b in (pair for pair in found if pair is not None)]
    return min(sum(rank for rank, _, _ in shapes), *shapes[0][1:])


def dense(pair: Factors) -> Tensor:
    """delta W, of shape (outputs, inputs)."""
    return pair[1] @ pair[0]


def row_blocks(found: Sequence[Factors | None]) -> Iterator[slice]:
    """Rows of a site's matrices, a few at a time: what stays in the processor's cache is worked on several times
    faster than a whole matrix of large models."""
    a, b = next(pair for pair in found if pair is not None)
    rows = max(1, _CACHED // a.shape[1])
    for start in range(0, b.shape[0], rows):
        yield slice(start, start + rows)


def least_kept(sizes: Tensor, density: float) -> float:
    """The smallest of the largest magnitudes, which are a share `density` of all; `sizes` is left in another order."""
    place = sizes.numel() - max(1, round(density * sizes.numel()))
    flat = sizes.view(-1).numpy()
    flat.partition(place)  # half the time of torch's kthvalue and topk
    return float(flat[place])


def trimmed(matrix: Tensor, least: float) -> Tensor:
    """The matrix without the entries whose magnitude is below `least`, but for the last bits of a product."""
    return torch.nn.functional.hardshrink(matrix, least * (1 - 1e-12))  # it keeps what is above its limit
