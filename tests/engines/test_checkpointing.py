"""Activation checkpointing: the same numbers, only layers that learn run again, and little is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kept import saved, saved_bytes
from tiny import frozen, random_part, random_rows

from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine
from adapterxl.engines.packed import PackedEngine
from adapterxl.modules import Bottleneck, DoRA, LoRA, Method
from adapterxl.ragged import RaggedBatch, pack

SITES = ("query", "value", "ffn_up", "ffn_down")  # all engines have these
ENGINES = ("packed", "peft", "adapters")


@pytest.fixture(scope="module")
def both(tiny_xlmr: Path) -> tuple[Backbone, Backbone]:
    """Without and with checkpointing; dropout is that of the config, 0.1."""
    return Backbone(tiny_xlmr, device="cpu"), Backbone(tiny_xlmr, device="cpu", checkpointing=True)


@pytest.fixture(scope="module")
def batch(both: tuple[Backbone, Backbone]) -> RaggedBatch:
    return pack(random_rows((30, 9, 3, 9), both[0]))


def gradients(engine: Any, batch: RaggedBatch) -> dict[str, torch.Tensor]:
    """Of a loss in training mode, with the dropout masks of one seed."""
    torch.manual_seed(5)
    engine.hidden(batch, training=True).square().sum().backward()
    return {name: p.grad for name, p in engine.parameters().items()}


@pytest.mark.parametrize(
    ("engine", "method"),
    [
        *((engine, LoRA(rank=2, sites=SITES, dropout=0.2)) for engine in ENGINES),
        ("packed", DoRA(rank=2, dropout=0.2)),
        ("packed", Bottleneck(variant="double_seq_bn", dropout=0.2)),
        ("adapters", Bottleneck(dropout=0.2)),
    ],
)
def test_gradients_are_the_same_with_dropout(
    engine: str, method: Method, both: tuple[Backbone, Backbone], batch: RaggedBatch
) -> None:
    found, expected = (
        gradients(get_engine(engine)(on, [frozen(random_part(LoRA(rank=2, sites=SITES), on))]
                                     if engine == "packed" else [], random_part(method, on)), batch)
        for on in reversed(both)
    )  # fmt: skip
    assert found.keys() == expected.keys() and found
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]) and bool(gradient.any()), name


@pytest.mark.parametrize("engine", ENGINES)
def test_layers_below_the_lowest_that_learns_run_once(
    engine: str, tiny_xlmr: Path, batch: RaggedBatch, both: tuple[Backbone, Backbone]
) -> None:
    on = Backbone(tiny_xlmr, device="cpu", checkpointing=True)
    built: Any = get_engine(engine)(on, [], random_part(LoRA(rank=2, sites=SITES, layers=(1, 2)), on))
    calls = [0, 0, 0]
    for index, layer in enumerate(getattr(built, "model", on.model).encoder.layer):
        layer.attention.output.LayerNorm.register_forward_hook(
            lambda *_, index=index: calls.__setitem__(index, calls[index] + 1)
        )
    gradients(built, batch)
    assert calls == [1, 2, 2]


def test_a_layer_keeps_its_input_alone(both: tuple[Backbone, Backbone], batch: RaggedBatch) -> None:
    sizes = []
    for on in both:
        engine = PackedEngine(on, [], random_part(LoRA(rank=2, dropout=0.1), on))
        with saved() as kept:
            engine.hidden(batch, training=True)
        sizes.append(saved_bytes(kept, on))
    assert sizes[1] == 3 * batch.tokens * 32 * 4 < sizes[0] / 8


def test_evaluation_runs_every_layer_once(both: tuple[Backbone, Backbone], batch: RaggedBatch) -> None:
    plain, on = (PackedEngine(one, [], random_part(LoRA(rank=2), one)) for one in both)
    with torch.no_grad():
        assert torch.equal(on.hidden(batch), plain.hidden(batch))
