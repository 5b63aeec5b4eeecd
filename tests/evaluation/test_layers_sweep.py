"""A layer sweep looks at dev languages only, and at the layers that `evaluate` would score."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import write_data

from adapterxl import evaluate
from adapterxl.backbone import Backbone
from adapterxl.data import open_data
from adapterxl.engines import get_engine
from adapterxl.errors import UsageError
from adapterxl.evaluation.layers import Sweep, layer_score, sweep_layers
from adapterxl.evaluation.sets import Sets
from adapterxl.tasks import get_task

VALUES = {
    0: {"de": 0.1, "fr": 0.2, "th": 1.0},
    2: {"de": 0.6, "fr": 0.4, "th": 0.0},
    5: {"de": 0.3, "fr": 0.7, "th": 0.0},
}


def test_only_dev_languages_are_asked_for_and_the_lowest_of_equal_layers_wins():
    asked = []

    def score(layer: int, language: str) -> float:
        asked.append((layer, language))
        return VALUES[layer][language]

    found = sweep_layers(score, [5, 0, 2], ["de", "fr"])
    assert sorted(asked) == [(layer, language) for layer in VALUES for language in ("de", "fr")]
    assert found.layer == 2  # th, where layer 0 is best, is no dev language; 5 has the same mean
    assert found.means == pytest.approx({0: 0.15, 2: 0.5, 5: 0.5})
    assert found == Sweep(2, {layer: {name: row[name] for name in ("de", "fr")} for layer, row in VALUES.items()})


def test_scores_are_those_of_evaluate_at_each_layer(tiny_xlmr: Path, tmp_path: Path):
    on, data = Backbone(tiny_xlmr, device="cpu"), write_data(tmp_path)
    sets = Sets(get_task("tatoeba"), open_data(data), on, {}, limit=None, on_bad_row="stop", center=False,
                perturbation=None, tokens_per_batch=8192, progress=False)  # fmt: skip
    score = layer_score(sets, get_engine("packed")(on, (), None), on, "test", ["de"], "mean")
    found = sweep_layers(score, range(on.layers + 1), ["de"])
    for layer in range(on.layers + 1):
        scored = evaluate(None, on=on, task="tatoeba", languages="de", data=data, layer=layer, progress=False)
        both = [record.value for record in scored.records]
        assert found.values[layer]["de"] == pytest.approx(sum(both) / 2, abs=1e-12) and len(both) == 2


@pytest.mark.parametrize(("layers", "dev"), [([], ["de"]), ([1], []), ([1, 1], ["de"]), ([1], ["de", "de"])])
def test_nothing_to_choose_from_is_refused(layers: list[int], dev: list[str]):
    with pytest.raises(UsageError, match="expected one or more, each once"):
        sweep_layers(lambda layer, language: 0.0, layers, dev)
