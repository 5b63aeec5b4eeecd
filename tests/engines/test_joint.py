"""Trainings in one pass: no row is kept for layers in which its own training learns nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kept import saved, saved_bytes
from tiny import random_part, random_rows

from adapterxl import LoRA
from adapterxl.backbone import Backbone
from adapterxl.engines.joint import hidden_together
from adapterxl.engines.packed import PackedEngine
from adapterxl.ragged import RaggedBatch, pack


def kept(on: Backbone, engines: Sequence[PackedEngine], batches: Sequence[RaggedBatch]) -> int:
    with saved() as tensors:
        states = hidden_together(engines, batches)
    assert [len(one) for one in states] == [batch.tokens for batch in batches]
    return saved_bytes(tensors, on)


def test_a_row_is_kept_for_no_layer_below_those_that_its_own_training_learns_in(tiny_xlmr: Path) -> None:
    on = Backbone(tiny_xlmr, device="cpu")
    on.config.hidden_dropout_prob = on.config.attention_probs_dropout_prob = 0.0
    batches = [pack(random_rows(lengths, on)) for lengths in ((30, 9), (125, 104, 104))]
    engines = [
        PackedEngine(on, [], random_part(LoRA(rank=2, layers=layers), on)) for layers in (None, (on.layers - 1,))
    ]
    alone = [kept(on, [engine], [batch]) for engine, batch in zip(engines, batches, strict=True)]
    assert kept(on, engines, batches) == sum(alone)
    both_low = [PackedEngine(on, [], random_part(LoRA(rank=2), on)) for _ in batches]
    assert kept(on, both_low, batches) > 2 * sum(alone)
