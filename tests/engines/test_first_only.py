"""Heads that look at each row's first token get what they would get of a whole last layer, for less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from samples import make_part
from tiny import backbone, distance, norm_distance, random_part, random_rows
from torch import Tensor

from adapterxl.data.collate import collate
from adapterxl.data.prepare import Item
from adapterxl.engines.encoder import encode
from adapterxl.modules import Bottleneck, DoRA, FusionPart, LoRA, Part
from adapterxl.modules.attention_record import recording
from adapterxl.ragged import pack

LENGTHS, GROUPS = (5, 12, 5, 1, 30, 12, 9), (0, 1, 2, 0, 1, 2, 0)


def gradients(states: Tensor, parts: list[Part]) -> list[Tensor]:
    """Of a loss on these states."""
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0), dtype=states.dtype)
    return list(torch.autograd.grad((states * weights).sum(), [p for part in parts for p in part.parameters()]))


@pytest.mark.parametrize("which", ["tiny_xlmr", "tiny_bert"])
def test_states_of_first_tokens_and_gradients_are_those_of_a_whole_last_layer(
    which: str, request: pytest.FixtureRequest
) -> None:
    on = backbone(request.getfixturevalue(which))
    parts = [random_part(LoRA(rank=2), on, 1), random_part(Bottleneck(variant="double_seq_bn"), on, 2)]
    batch = pack(random_rows(LENGTHS, on), groups=GROUPS)
    few = replace(batch, first_only=True)
    first = batch.first_tokens
    plan = [[parts[0]], [parts[1]], []]
    found, expected = encode(on, few, plan), encode(on, batch, plan)
    assert isinstance(found, Tensor) and isinstance(expected, Tensor)
    assert distance(found[first], expected[first]) < 1e-12
    assert int(found.abs().sum(1).count_nonzero()) == len(LENGTHS) and found.shape == expected.shape
    for one, other in zip(gradients(found[first], parts), gradients(expected[first], parts), strict=True):
        assert norm_distance(one, other) < 1e-12
    lower = encode(on, few, plan, upto=2)
    assert isinstance(lower, Tensor) and int(lower.abs().sum(1).count_nonzero()) == sum(LENGTHS)
    head_only = encode(on, few, plan, after=(on.layers, expected))
    assert head_only is expected


@pytest.mark.parametrize(("kind", "expected"), [("classify", True), ("choice", True), ("tag", False), ("span", False)])
def test_only_heads_that_judge_whole_rows_say_so(kind: str, expected: bool) -> None:
    target = {"tag": [1], "span": (0, 1)}.get(kind, 0)
    item = Item(0, [[5, 6, 7]], [[0, 0, 0]], target, positions=[1], words=[0])
    batch = collate(kind, [item, item], torch.device("cpu"))
    assert batch.ragged.first_only is expected
    assert batch.ragged.to("meta").first_only is expected


def test_a_recorded_fusion_still_sees_every_token(tiny_xlmr: Path) -> None:
    on = backbone(tiny_xlmr)
    members = [[make_part(LoRA(rank=2), name, on, seed)] for seed, name in ((8, "a"), (9, "b"))]
    part = FusionPart("f", members, "ab", "lowrank").begun(on, torch.Generator().manual_seed(1), on.dtype)
    with recording() as seen:
        encode(on, replace(pack(random_rows(LENGTHS, on)), first_only=True), [[part]])
    assert {one.tokens for one in seen.means()} == {sum(LENGTHS)}


def test_dora_and_dropout_train_on_first_tokens(tiny_xlmr: Path) -> None:
    from adapterxl.engines.packed import PackedEngine

    on = backbone(tiny_xlmr)
    engine = PackedEngine(on, [], random_part(DoRA(rank=2, dropout=0.1), on))
    batch = replace(pack(random_rows(LENGTHS, on)), first_only=True)
    engine.hidden(batch, training=True)[batch.first_tokens].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in engine.parameters().values())
