"""What the backward pass keeps: nothing below the lowest trainable layer, one byte for a dropped value."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kept import saved, saved_bytes
from tiny import backbone, frozen, norm_distance, random_part, random_rows
from torch import Tensor

from adapterxl.attention import packed_attention
from adapterxl.backbone import Backbone
from adapterxl.engines.encoder import encode
from adapterxl.engines.packed import PackedEngine
from adapterxl.engines.peft import PeftEngine
from adapterxl.modules import Bottleneck, LoRA, Method, make_head
from adapterxl.modules.base import dropout
from adapterxl.ragged import RaggedBatch, pack


@pytest.fixture
def on(tiny_xlmr: Path) -> Backbone:
    return backbone(tiny_xlmr, "fp32")


@pytest.fixture
def batch(on: Backbone) -> RaggedBatch:
    return pack(random_rows((40, 9, 3, 25, 9), on))


@pytest.mark.parametrize("method", [LoRA(rank=2, layers=(2,)), Bottleneck(layers=(2,))], ids=["lora", "bottleneck"])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_kept_below_the_lowest_trainable_layer(
    on: Backbone, batch: RaggedBatch, method: Method, training: bool
):
    part = random_part(method, on)
    with saved() as kept:
        encode(on, batch, [[part]], training=training, upto=2)
    assert kept == []
    states = encode(on, batch, [[part]], training=training, keep_all=True)
    assert [state.requires_grad for state in states] == [False, False, False, True]


def test_what_is_kept_grows_with_every_trainable_layer_below(on: Backbone, batch: RaggedBatch):
    sizes = []
    for lowest in (2, 1, 0):
        with saved() as kept:
            encode(on, batch, [[random_part(Bottleneck(layers=(lowest,)), on)]], training=True)
        sizes.append(saved_bytes(kept, on))
    assert 0 < sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("stack", [[], [LoRA(rank=2), Bottleneck()]], ids=["plain", "frozen-parts"])
def test_training_a_head_alone_keeps_nothing_of_the_encoder(on: Backbone, batch: RaggedBatch, stack: list[Method]):
    engine = PackedEngine(on, [frozen(random_part(method, on)) for method in stack], None)
    with saved() as kept:
        hidden = engine.hidden(batch, training=True)
    assert kept == [] and not hidden.requires_grad
    head = make_head("tag", on, ("x", "y"))
    head(hidden, batch).sum().backward()
    assert all(weight.grad is not None for weight in head.parameters())


def test_frozen_parts_get_no_gradient_and_the_new_one_does(on: Backbone, batch: RaggedBatch):
    engine = PackedEngine(on, [frozen(random_part(LoRA(rank=2), on))], random_part(Bottleneck(), on))
    engine.hidden(batch).sum().backward()
    assert all(p.grad is None for part in engine.frozen for p in part.parameters())
    assert all(p.grad is not None for p in engine.parameters().values())
    assert all(p.grad is None for p in on.model.parameters())


def test_dropout_keeps_one_byte_a_value():
    x = torch.randn(50, 20, requires_grad=True)
    with saved() as kept:
        dropout(x, 0.1, True)
    assert sum(t.numel() * t.element_size() for t in kept) == x.numel()


def test_attention_dropout_keeps_one_byte_a_weight_beside_the_weights():
    batch, heads = pack([[5] * 64]), 4
    qkv = [torch.randn(64, 32, requires_grad=True) for _ in range(3)]
    with saved() as kept:
        packed_attention(*qkv, batch, heads, dropout=0.1)
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    weights = heads * 64 * 64
    # Weights before and after dropout in fp32, the mask in one byte, and queries, keys and values.
    assert sum(storages.values()) <= (4 + 4 + 1) * weights + 4 * 4 * 64 * 32


@pytest.mark.parametrize("training", [False, True])
def test_packed_keeps_less_than_padding_does(on: Backbone, batch: RaggedBatch, training: bool):
    part = random_part(LoRA(rank=2, dropout=0.1), on)
    sizes = []
    for engine in (PackedEngine(on, [], part), PeftEngine(on, [], part), PeftEngine(on, [], part, padded=True)):
        with saved() as kept:
            engine.hidden(batch, training=training)
        sizes.append(saved_bytes(kept, on))
    packed, installed, padded = sizes
    assert packed <= installed < padded
    # The batch fills 86 of 200 places.
    assert packed < 0.6 * padded


# Dropout: where, how much, and only in training


def test_dropout_is_the_identity_outside_training():
    x = torch.randn(4, 5)
    assert dropout(x, 0.5, False) is x
    assert dropout(x, 0.0, True) is x


def test_dropout_drops_its_share_and_scales_the_rest():
    torch.manual_seed(0)
    dropped = dropout(torch.ones(400, 500), 0.2, True)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 1.25])
    assert float((dropped == 0).double().mean()) == pytest.approx(0.2, abs=0.005)  # 0.0009 is one standard error


def test_evaluation_is_the_same_every_time_and_training_is_not(on: Backbone, batch: RaggedBatch):
    engine = PackedEngine(on, [], random_part(LoRA(rank=2, dropout=0.3), on))
    assert torch.equal(engine.hidden(batch), engine.hidden(batch))
    assert not torch.equal(engine.hidden(batch, training=True), engine.hidden(batch, training=True))
    torch.testing.assert_close(engine.hidden(batch), engine.hidden(batch, training=False))


@pytest.mark.parametrize("method", [LoRA(rank=4, dropout=0.4), Bottleneck(dropout=0.4)], ids=["lora", "bottleneck"])
def test_a_parts_own_dropout_acts_in_training_only(on: Backbone, method: Method):
    part = random_part(method, on)
    x, base = torch.randn(7, 32), torch.zeros(7, 32)
    norm = on.model.encoder.layer[0].output.LayerNorm

    @torch.no_grad()
    def run() -> Tensor:
        return part.add(0, "query", x, base) if part.kind == "lora" else part.adapt(0, "ffn", base, x, norm)

    part.train(False)
    exact = run()
    assert torch.equal(exact, run())
    part.train(True)
    torch.manual_seed(0)
    mean = torch.stack([run() for _ in range(2000)]).mean(0)
    # One standard error is sqrt(0.4 / 0.6 / 2000) = 0.018 of the size of the terms; a missing scale gives 0.4.
    assert norm_distance(mean, exact) < 0.05
    assert not torch.equal(run(), run())


@pytest.mark.parametrize("which", ["tiny_xlmr", "tiny_bert"])
def test_training_varies_as_hugging_face_does(which: str, request: pytest.FixtureRequest):
    """The same dropouts at the same places give the same variance of every layer; masks themselves differ."""
    on = backbone(request.getfixturevalue(which), "fp32")
    rows = random_rows((6, 6), on)
    batch, copies = pack(rows * 200), 400
    torch.manual_seed(0)
    with torch.no_grad():
        ours = encode(on, batch, [()], training=True, keep_all=True)
        on.model.train()
        try:
            ids = torch.tensor(rows * 200)
            output = on.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        finally:
            on.model.eval()
    for layer, (mine, other) in enumerate(zip(ours, output.hidden_states, strict=True)):
        spread = [t.reshape(copies // 2, 2, 6, -1).var(0).mean().item() for t in (mine, other)]
        assert spread[0] == pytest.approx(spread[1], rel=0.1), f"layer {layer}"
        centre = [t.reshape(copies // 2, 2, 6, -1).mean(0) for t in (mine, other)]
        # Each mean of 200 has a standard error of sqrt(spread / 200).
        assert float((centre[0] - centre[1]).abs().mean()) < 1.5 * (2 * spread[0] / 200) ** 0.5, f"layer {layer}"
