"""Choose the layer whose vectors find translations best, on dev languages only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from adapterxl.errors import DataError, UsageError

from ..backbone import Backbone
from ..data.examples import PairExample
from ..engines import Engine
from .languages import embed
from .metrics import get_metric
from .retrieval import nearest


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


def sweep_layers(score: Callable[[int, str], float], layers: Sequence[int], dev: Sequence[str]) -> Sweep:
    """Score every layer in every dev language, and choose.

    A layer chosen on the languages that are then reported is chosen on the test. So this takes the dev languages alone,
    and asks for no other.

    Args:
        score: (layer, language) -> 0 to 1, such as `translation_score` gives, or BUCC's best F1 on dev.
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


def translation_score(
    engine: Engine,
    on: Backbone,
    pairs: Mapping[str, Sequence[PairExample]],
    *,
    center: bool = False,
    tokens_per_batch: int = 8192,
    width: int = 256,
) -> Callable[[int, str], float]:
    """Return (layer, language) -> mean accuracy of both directions, by mean-pooled states and cosine.

    Args:
        pairs: Language -> sentences with their translation, of a dev set.
        center: Subtract each side's mean first.
        width: Most tokens of a sentence.

    Raises (when called):
        DataError: For a language without sentences.
        UsageError: For a layer that the backbone does not have.
    """

    def score(layer: int, language: str) -> float:
        if not 0 <= layer <= on.layers:
            raise UsageError(f"Layer sweep: found layer {layer}; this backbone has hidden states 0 to {on.layers}.")
        examples = pairs.get(language, ())
        if not examples:
            raise DataError(
                f"Layer sweep: no sentences in {language}; there are some in: {', '.join(pairs) or 'none'}."
            )
        sides = [
            embed(engine, on, texts, layer, tokens_per_batch, width)
            for texts in ([example.text for example in examples], [example.english for example in examples])
        ]
        ids = [example.id for example in examples]
        accuracy = get_metric("retrieval_accuracy")
        return fmean(
            accuracy.compute([ids[row] for row in nearest(query, index, center=center).tolist()], ids)
            for query, index in (sides, sides[::-1])
        )

    return score
