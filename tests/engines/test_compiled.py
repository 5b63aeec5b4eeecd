"""Compiled ends of layers: the same numbers, where no part has its place, in two graphs for all layers and lengths."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import frozen, norm_distance, random_part, random_rows
from torch import Tensor

from adapterxl import LoRA, train
from adapterxl.backbone import Backbone
from adapterxl.engines import encoder, get_engine
from adapterxl.engines.fused import compiled, normed_sum
from adapterxl.errors import UsageError
from adapterxl.modules import Bottleneck, Part
from adapterxl.ragged import RaggedBatch, pack


def exact(folder: Path, compile: bool) -> Backbone:
    """In float64 without dropout."""
    on = Backbone(folder, device="cpu", dtype="fp64", compile=compile)
    on.config.hidden_dropout_prob = on.config.attention_probs_dropout_prob = 0.0
    return on


def gradients(on: Backbone, below: Part, new: Part, batch: RaggedBatch) -> dict[str, Tensor]:
    torch.manual_seed(5)
    engine = get_engine("packed")(on, [below], new)
    engine.hidden(batch, training=True).square().sum().backward()
    return {name: p.grad for name, p in engine.parameters().items() if p.grad is not None}


def test_every_end_of_a_layer_without_a_part_in_its_place_goes_through_the_kernel(
    tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, fused = (Backbone(tiny_xlmr, device="cpu", compile=compile) for compile in (False, True))  # dropout 0.1
    batch, calls = pack(random_rows((30, 9, 3), plain)), list[float]()

    def counted(*given: Tensor | float) -> Tensor:
        calls.append(float(given[-1]))
        return normed_sum(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder, "compiled", lambda: counted)
    below = frozen(random_part(Bottleneck(variant="seq_bn", layers=(1,)), plain))
    new = random_part(LoRA(rank=2), plain)
    expected, found = (gradients(one, below, new, batch) for one in (plain, fused))
    assert calls == [0.1] * (2 * plain.layers - 1)  # the bottleneck closes layer 1 itself
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_other_engines_refuse_it(tiny_xlmr: Path) -> None:
    with pytest.raises(UsageError, match="--compile is of the packed engine, not of peft"):
        train("mnli", on=exact(tiny_xlmr, True), method=LoRA(), engine="peft", progress=False)


@pytest.mark.slow  # compiling takes longer than all else here
def test_compiled_training_equals_eager_in_two_graphs(tiny_xlmr: Path) -> None:
    torch._dynamo.reset()
    compiled.cache_clear()
    plain, fused = (exact(tiny_xlmr, compile) for compile in (False, True))
    below, new = frozen(random_part(LoRA(rank=2), plain)), random_part(LoRA(rank=3), plain)
    for lengths in ((30, 9, 3, 9), (5, 7), (50, 41, 2)):
        rows = pack(random_rows(lengths, plain))
        expected, found = (gradients(one, below, new, rows) for one in (plain, fused))
        for name in expected:
            assert norm_distance(found[name], expected[name]) < 1e-12, name
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 2  # below all that learns, and above
