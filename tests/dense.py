"""Modules without a backbone, and what compositions of them are by formula: dense matrices in float64, by numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adapterxl.artifacts import TaskModule
from adapterxl.modules import SITES, LoRAPart, Part
from adapterxl.modules.lora import site_shape
from adapterxl.operators import compose
from adapterxl.operators.expression import Member

Key = tuple[int, str]
Matrix = np.ndarray


@dataclass(frozen=True)
class Space:
    """Sizes of a backbone that is not there."""

    hidden: int = 12
    intermediate: int = 20
    layers: int = 2


SPACE = Space()
WIDTH = SPACE.hidden  # no matrix has a higher rank
KEYS: tuple[Key, ...] = tuple((layer, site) for layer in range(SPACE.layers) for site in SITES)
BASE = {
    "name": "none", "id": None, "revision": None, "fingerprint": "f" * 64, "model_type": "xlm-roberta",
    "hidden_size": SPACE.hidden, "layers": SPACE.layers,
}  # fmt: skip


def lora(
    seed: int,
    rank: int | Mapping[Key, int] = 3,
    keys: Sequence[Key] = KEYS,
    *,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
    name: str | None = None,
) -> LoRAPart:
    """Random factors at some places, as training leaves them: A small, B large, the scale outside."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for key in keys:
        outputs, inputs = site_shape(key[1], SPACE)
        size = rank[key] if isinstance(rank, Mapping) else rank
        a = 0.3 * torch.randn(size, inputs, generator=generator, dtype=torch.float64)
        b = torch.randn(outputs, size, generator=generator, dtype=torch.float64)
        factors[key] = a.to(dtype), b.to(dtype)
    return LoRAPart(name or f"p{seed}", factors, scale=scale).requires_grad_(False)


def module(name: str, *parts: Part) -> TaskModule:
    """A module without a head; LoRA parts with their scale folded in, as modules hold them."""
    held = tuple(part.folded() if isinstance(part, LoRAPart) else part for part in parts)
    return TaskModule(name, name, "", tuple(part.requires_grad_(False) for part in held), None, BASE)


def one(seed: int, *args: object, **settings: object) -> TaskModule:
    """A module of one LoRA."""
    return module(f"m{seed}", lora(seed, *args, **settings))  # type: ignore[arg-type]


def change(source: TaskModule | Sequence[Part], key: Key) -> Matrix:
    """delta W at a place: the sum of scale * B A; zeros where nothing acts."""
    total = np.zeros(site_shape(key[1], SPACE))
    for part in source.parts if isinstance(source, TaskModule) else source:
        assert isinstance(part, LoRAPart) and not part.rows
        found = part.factors(*key) if key in part.keys else None
        if found is not None:
            total += part.scales[key] * found[1].detach().double().numpy() @ found[0].detach().double().numpy()
    return total


def changes(source: Member | Sequence[Part]) -> dict[Key, Matrix]:
    """delta W at every place; expressions are composed first."""
    held = source if isinstance(source, TaskModule | list) else compose(source)  # type: ignore[arg-type]
    return {key: change(held, key) for key in KEYS}


def off(found: Mapping[Key, Matrix], expected: Mapping[Key, Matrix]) -> float:
    """Largest error of all places: norm of the difference over the norm of what was expected."""
    assert found.keys() == expected.keys()
    return max(off_by(found[key], expected[key]) for key in found)


def off_by(found: Matrix, expected: Matrix) -> float:
    difference, size = np.linalg.norm(found - expected), np.linalg.norm(expected)
    return float(difference / size) if size else float(difference)


# The papers' formulas, once more and another way than in the package


def weighted(matrices: Sequence[Matrix], weights: Sequence[float]) -> Matrix:
    """Task arithmetic, Ilharco et al. 2023."""
    return np.einsum("m,mij->ij", np.array(weights, dtype=float), np.stack(matrices))


def best(matrix: Matrix, rank: int) -> tuple[Matrix, float]:
    """Eckart and Young 1936: the leading singular vectors; and the share of the energy that is lost."""
    u, values, vh = np.linalg.svd(matrix, full_matrices=False)
    energy = (values**2).sum()
    return u[:, :rank] @ np.diag(values[:rank]) @ vh[:rank], float((values[rank:] ** 2).sum() / energy) if energy else 0


def largest(matrix: Matrix, density: float) -> Matrix:
    """Han et al. 2015: entries in order of magnitude, the last ones to zero."""
    flat = matrix.ravel()
    kept = np.argsort(-np.abs(flat))[: max(1, round(density * flat.size))]
    result = np.zeros_like(flat)
    result[kept] = flat[kept]
    return result.reshape(matrix.shape)


def elected(matrices: Sequence[Matrix], weights: Sequence[float], density: float) -> Matrix:
    """TIES, Yadav et al. 2023: trim, elect the sign with the larger total, mean of the values that have it."""
    trimmed = np.stack([weight * largest(m, density) for m, weight in zip(matrices, weights, strict=True)])
    up, down = np.where(trimmed > 0, trimmed, 0), np.where(trimmed < 0, -trimmed, 0)
    means = [side.sum(0) / np.maximum((side > 0).sum(0), 1) for side in (up, down)]
    return np.where(up.sum(0) > down.sum(0), means[0], np.where(down.sum(0) > up.sum(0), -means[1], 0.0))
