"""Choose the layer whose vectors find best, on dev languages only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from adapterxl.errors import UsageError

from ..backbone import Backbone
from ..engines import Engine
from .languages import Pooling, score_all, vector_reader
from .scores import language_values
from .sets import Sets


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes:
        layer: The chosen layer: the highest mean over the dev languages, the lowest of equal ones.
        values: Layer -> dev language -> score; nothing else was looked at.
    """

    layer: int
    values: Mapping[int, Mapping[str, float]]

    @property
    def means(self) -> dict[int, float]:
        """Layer -> mean over the dev languages."""
        return {layer: fmean(found.values()) for layer, found in self.values.items()}

    def __str__(self) -> str:
        return ", ".join(f"{layer}: {100 * mean:.1f}" for layer, mean in self.means.items())


def sweep_layers(score: Callable[[int, str], float], layers: Sequence[int], dev: Sequence[str]) -> Sweep:
    """Score every layer in every dev language, and choose.

    A layer chosen on the languages that are then reported is chosen on the test. So this takes the dev languages alone,
    and asks for no other.

    Args:
        score: (layer, language) -> 0 to 1.
        layers: Hidden states to try; 0 is the embeddings.
        dev: Languages to choose on.

    Raises:
        UsageError: If there is no layer or no language, or one stands there twice.
    """
    for name, given in (("layers", layers), ("dev languages", dev)):
        if not given or len(set(given)) < len(given):
            raise UsageError(f"Layer sweep: found {name} {list(given)}, expected one or more, each once.")
    values = {layer: {language: score(layer, language) for language in dev} for layer in sorted(layers)}
    return Sweep(max(values, key=lambda layer: fmean(values[layer].values())), values)


def layer_score(
    sets: Sets, engine: Engine, on: Backbone, split: str, dev: Sequence[str], pooling: Pooling
) -> Callable[[int, str], float]:
    """Return (layer, language) -> the task's primary metric there, as `evaluate` gives it; input is not perturbed.

    Of a task with a pool of all languages, the pool holds those that the data has. Of mining, on dev rows, it is the
    best F1.
    """
    metric = sets.task.metrics[0]

    @cache
    def values(layer: int) -> dict[str, float]:
        reader = vector_reader(engine, layer, pooling)
        asked = sets.of(split, dev, reader, range(len(dev)), clean=True)
        name = f"layer {layer}" if sets.progress else None
        found = score_all(asked, on, sets.tokens_per_batch, expected=len(dev), progress=name)
        return language_values([record for (records, _), _ in found for record in records])[metric]

    return lambda layer, language: values(layer)[sets.task.spoken(language)[0]]
