"""peft, the adapters library and ours on the same weights, and the truth: a dense float64 model, changed by formula."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import adapters
import numpy as np
import peft
import torch
from samples import make_module
from torch import Tensor

from adapterxl.artifacts import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine
from adapterxl.engines.adapters import AdaptersEngine
from adapterxl.engines.packed import finished
from adapterxl.engines.vanilla import run_vanilla
from adapterxl.modules import SITES, BottleneckPart, DoRAPart, LoRA, LoRAPart, Part
from adapterxl.operators import Expression, compose
from adapterxl.ragged import RaggedBatch

Deltas = dict[tuple[int, str], np.ndarray]


# Ours


def raw(method: LoRA, on: Backbone, seed: int) -> LoRAPart:
    """Weights while they are trained: scale outside, magnitudes as they were moved."""
    part = method.build(f"m{seed}", on, torch.Generator().manual_seed(seed), on.dtype)
    generator = torch.Generator().manual_seed(seed + 100)
    with torch.no_grad():
        for b in part.b.values():
            b.normal_(0, 0.3, generator=generator)
    return part


def as_module(on: Backbone, part: Part, name: str | None = None) -> TaskModule:
    return make_module(on, name or part.name, [finished(part)], "")


def ours(on: Backbone, expression: Expression, batch: RaggedBatch) -> Tensor:
    return get_engine("packed")(on, compose(expression).parts, None).hidden(batch).detach()


def our_deltas(expression: Expression) -> Deltas:
    total: Deltas = {}
    for part in compose(expression).parts:
        assert isinstance(part, LoRAPart)
        for key, delta in dense(part).items():
            total[key] = total.get(key, 0) + delta
    return total


# The truth


def dense(part: LoRAPart) -> Deltas:
    return {
        key: part.scales[key] * (pair[1].detach() @ pair[0].detach()).double().numpy()
        for key in part.keys
        if (pair := part.factors(*key)) is not None
    }


def changed(on: Backbone, change: Mapping[tuple[int, str], Any]) -> Backbone:
    """The backbone with W + delta; a change may also be a function of W."""
    other = copy.copy(on)
    other.model = copy.deepcopy(on.model)
    with torch.no_grad():
        for (layer, site), delta in change.items():
            weight = other.model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}").weight
            weight.copy_(delta(weight) if callable(delta) else weight + torch.from_numpy(delta))
    return other


def truth(on: Backbone, change: Mapping[tuple[int, str], Any], batch: RaggedBatch) -> Tensor:
    with torch.no_grad():
        return run_vanilla(changed(on, change).model, on, batch, training=False, upto=None, padded=True)


def combined(parts: Sequence[LoRAPart], formula: Callable[[list[np.ndarray]], np.ndarray]) -> Deltas:
    every = [dense(part) for part in parts]
    return {key: formula([deltas[key] for deltas in every]) for key in every[0]}


def off(found: Deltas, expected: Deltas) -> float:
    """Norm of the difference over all places, relative to the norm of what was expected."""
    assert found.keys() == expected.keys()
    difference = sum(float(((found[key] - expected[key]) ** 2).sum()) for key in found)
    return (difference / sum(float((matrix**2).sum()) for matrix in expected.values())) ** 0.5


# The libraries


def in_peft(on: Backbone, parts: Sequence[LoRAPart], **settings: Any) -> Any:
    """A peft model with these modules under the names a0, a1, ... ; none of them merged or folded."""
    wrapped = None
    for index, part in enumerate(parts):
        name = f"a{index}"
        rank, rslora = part.rank(*part.keys[0]), settings.get(f"{name}_rslora", False)
        config = peft.LoraConfig(
            r=rank, lora_alpha=part.scale * (rank**0.5 if rslora else rank), use_rslora=rslora, lora_dropout=0.0,
            use_dora=isinstance(part, DoRAPart),
            target_modules=[f"layer.{layer}.{SITES[site]}" for layer, site in part.keys],
        )  # fmt: skip
        if wrapped is None:
            wrapped = peft.get_peft_model(copy.deepcopy(on.model), config, adapter_name=name)
        else:
            wrapped.add_adapter(name, config)
        for key in part.keys:
            linear = at(wrapped, key)
            a, b = part.factors(*key)  # type: ignore[misc]
            linear.lora_A[name].weight.data, linear.lora_B[name].weight.data = a.detach().clone(), b.detach().clone()
            if isinstance(part, DoRAPart):
                linear.lora_magnitude_vector[name].weight.data = part.m[f"{key[0]}_{key[1]}"].detach().clone()
    assert wrapped is not None
    return wrapped


def at(wrapped: Any, key: tuple[int, str]) -> Any:
    return wrapped.base_model.model.get_submodule(f"encoder.layer.{key[0]}.{SITES[key[1]]}")


def theirs(on: Backbone, parts: Sequence[LoRAPart], weights: Sequence[float], kind: str, **settings: Any) -> Deltas:
    """delta W of what peft's add_weighted_adapter makes."""
    wrapped = in_peft(on, parts, **settings)
    extra = {key: value for key, value in settings.items() if not key.endswith("_rslora")}
    wrapped.add_weighted_adapter([f"a{i}" for i in range(len(parts))], list(weights), "made", kind, **extra)
    return {key: at(wrapped, key).get_delta_weight("made").detach().double().numpy() for key in parts[0].keys}


def peft_hidden(wrapped: Any, active: list[str], on: Backbone, batch: RaggedBatch) -> Tensor:
    wrapped.base_model.set_adapter(active)
    with torch.no_grad():
        return run_vanilla(wrapped.base_model.model, on, batch, training=False, upto=None, padded=True)


def in_adapters(on: Backbone, parts: Mapping[str, Part]) -> Any:
    """A model of the adapters library with these modules, none active."""
    model = copy.deepcopy(on.model)
    adapters.init(model)
    for name, part in parts.items():
        if isinstance(part, BottleneckPart):
            make = {"seq_bn": adapters.SeqBnConfig, "par_bn": adapters.ParBnConfig}[part.variant]
            config: Any = make(reduction_factor=on.hidden / part.width)
        else:
            assert isinstance(part, LoRAPart)
            dora = isinstance(part, DoRAPart)
            rank = part.rank(*part.keys[0])
            config = adapters.LoRAConfig(
                r=rank, alpha=rank * part.scale, attn_matrices=["q", "v"], use_dora=dora, dtype="float64",
                intermediate_lora="ffn_up" in part.sites, output_lora="ffn_down" in part.sites,
            )  # fmt: skip
        model.add_adapter(name, config=config)
        # An engine around this model; its own would refuse what the tests are about.
        engine = AdaptersEngine.__new__(AdaptersEngine)
        engine.model = model
        targets = engine._weights(name, part)
        for key, tensor in part.tensors().items():
            targets[key].data = tensor.detach().clone()
        if isinstance(part, DoRAPart):
            for layer, site in part.keys:
                lora = model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}").loras[name]
                lora.m.weight.data = part.m[f"{layer}_{site}"].detach().clone()[:, None]
    return model.requires_grad_(False)


def adapters_hidden(model: Any, setup: Any, on: Backbone, batch: RaggedBatch) -> Tensor:
    model.set_active_adapters(setup)
    return running(model, on, batch)


def running(model: Any, on: Backbone, batch: RaggedBatch) -> Tensor:
    with torch.no_grad():
        return run_vanilla(model, on, batch, training=False, upto=None, padded=True)
