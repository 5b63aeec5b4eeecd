"""Engines refuse what they would run wrongly; beside each refusal, the library is shown to be wrong there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapters
import peft
import pytest
import torch
from adapters.methods.lora import LoRALayer
from tiny import backbone, distance, frozen, random_part, random_rows
from torch import Tensor

from adapterxl.backbone import Backbone, share_structure
from adapterxl.engines import get_engine
from adapterxl.engines.adapters import AdaptersEngine
from adapterxl.errors import EngineError
from adapterxl.modules import Bottleneck, LoRA, LoRAPart, Part
from adapterxl.modules.lora import concatenate
from adapterxl.ragged import RaggedBatch, pack


@pytest.fixture
def on(tiny_xlmr: Path) -> Backbone:
    return backbone(tiny_xlmr)


@pytest.fixture
def batch(on: Backbone) -> RaggedBatch:
    return pack(random_rows((4, 9, 1), on))


def packed(on: Backbone, parts: list[Part], batch: RaggedBatch) -> Tensor:
    return get_engine("packed")(on, parts, None).hidden(batch)


def unguarded(on: Backbone, parts: list[Part], batch: RaggedBatch, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the adapters library gives when the engine's check is taken away."""
    monkeypatch.setattr("adapterxl.engines.adapters._check", lambda parts: None)
    return AdaptersEngine(on, parts, None).hidden(batch)


def test_a_stack_of_loras_is_refused_since_adapters_multiplies_them(
    on: Backbone, batch: RaggedBatch, monkeypatch: pytest.MonkeyPatch
):
    sites = ("query", "value")
    first, second = (frozen(random_part(LoRA(rank=2, sites=sites), on, seed)) for seed in (1, 2))
    assert isinstance(first, LoRAPart) and isinstance(second, LoRAPart)
    with pytest.raises(EngineError, match="multiplies stacked LoRA .*--engine packed or --engine peft"):
        get_engine("adapters")(on, [first], second)

    wrong = unguarded(on, [first, second], batch, monkeypatch)
    assert distance(wrong, packed(on, [first, second], batch)) > 0.01
    product = {
        key: (first.factors(*key)[0], second.factors(*key)[1] @ second.factors(*key)[0] @ first.factors(*key)[1])  # type: ignore[index]
        for key in first.keys
    }
    assert distance(wrong, packed(on, [LoRAPart("product", product)], batch)) < 1e-10
    # Added, as the packed and the peft engine have it.
    right = packed(on, [first, second], batch)
    assert distance(get_engine("peft")(on, [first, second], None).hidden(batch), right) < 1e-10
    assert distance(packed(on, [concatenate([first, second], "sum")], batch), right) < 1e-10


def test_a_stack_with_par_bn_is_refused_since_adapters_runs_only_the_last(
    on: Backbone, batch: RaggedBatch, monkeypatch: pytest.MonkeyPatch
):
    first, second = (frozen(random_part(Bottleneck(variant="par_bn"), on, seed)) for seed in (1, 2))
    with pytest.raises(
        EngineError, match="par_bn in a stack of bottlenecks wrongly .*only the last acts.*; use --engine packed"
    ):
        get_engine("adapters")(on, [first], second)
    wrong = unguarded(on, [first, second], batch, monkeypatch)
    assert distance(wrong, packed(on, [second], batch)) < 1e-10
    assert distance(wrong, packed(on, [first, second], batch)) > 0.01


@pytest.mark.parametrize("variants", [("seq_bn", "par_bn"), ("par_bn", "seq_bn"), ("double_seq_bn", "par_bn")])
def test_par_bn_stacked_with_another_variant_is_refused_since_adapters_is_wrong_there(
    on: Backbone, batch: RaggedBatch, variants: tuple[str, str], monkeypatch: pytest.MonkeyPatch
):
    first, second = (frozen(random_part(Bottleneck(variant=v), on, seed)) for seed, v in enumerate(variants))
    with pytest.raises(EngineError, match="par_bn in a stack of bottlenecks"):
        get_engine("adapters")(on, [first], second)
    assert distance(unguarded(on, [first, second], batch, monkeypatch), packed(on, [first, second], batch)) > 0.01


def test_lora_at_the_attention_output_is_refused_since_adapters_has_no_such_site(on: Backbone):
    with pytest.raises(EngineError, match="no LoRA site at attention_output; .*--sites query,key,value"):
        get_engine("adapters")(on, [], random_part(LoRA(rank=2), on))
    model: Any = share_structure(on.model)
    adapters.init(model)
    layer = model.encoder.layer[0]
    assert isinstance(layer.output.dense, LoRALayer) and isinstance(layer.attention.self.query, LoRALayer)
    assert not isinstance(layer.attention.output.dense, LoRALayer)


@pytest.mark.parametrize("other", [{"rank": 3}, {"sites": ("value",)}])
def test_a_lora_that_differs_by_layer_is_refused_since_adapters_has_one_setting_for_all(
    on: Backbone, other: dict[str, Any]
):
    plain = random_part(LoRA(rank=2, sites=("query", "value"), layers=(0, 1)), on, 1)
    extra = random_part(LoRA(**({"rank": 2, "sites": ("query", "value")} | other), layers=(2,)), on, 2)
    both = concatenate([frozen(plain), frozen(extra)], "both")  # type: ignore[list-item]
    with pytest.raises(EngineError, match="one rank, alpha and choice of sites for all layers"):
        get_engine("adapters")(on, [], both)
    assert isinstance(adapters.LoRAConfig().r, int)


@pytest.mark.parametrize("variant", ["seq_bn", "double_seq_bn", "par_bn"])
def test_bottlenecks_are_refused_by_peft_which_has_none(on: Backbone, variant: str):
    part = random_part(Bottleneck(variant=variant), on)
    message = "runs LoRA only. Use --engine packed or --engine adapters"
    with pytest.raises(EngineError, match=message):
        get_engine("peft")(on, [], part)
    with pytest.raises(EngineError, match=message):
        get_engine("peft")(on, [frozen(part)], random_part(LoRA(rank=2), on))
    assert not any("BOTTLENECK" in name or "ADAPTER" == name for name in peft.PeftType.__members__)


def test_an_unknown_engine_is_refused_with_the_nearest_name():
    with pytest.raises(EngineError, match=r"No engine 'pakced'. Did you mean 'packed'\? Engines: packed, peft"):
        get_engine("pakced")


def test_the_order_of_unlike_parts_is_the_users_choice(on: Backbone, batch: RaggedBatch):
    """What makes a stack of bottlenecks differ from merged LoRAs: order changes the answer."""
    first, second = (frozen(random_part(Bottleneck(), on, seed)) for seed in (1, 2))
    assert distance(packed(on, [first, second], batch), packed(on, [second, first], batch)) > 1e-3
    a, b = (frozen(random_part(LoRA(rank=2), on, seed)) for seed in (1, 2))
    assert distance(packed(on, [a, b], batch), packed(on, [b, a], batch)) < 1e-10
    assert torch.isfinite(packed(on, [a, first, b], batch)).all()
