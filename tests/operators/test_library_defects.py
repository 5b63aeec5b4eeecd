"""What peft and adapters compute wrongly when they compose, run beside ours on the same weights.

The truth is a dense float64 model: the backbone's own matrices changed by formula, or a few lines of hooks. Each test
asserts both sides: the library off by more than a margin, ours within 1e-8. If one fails on the library's side after
an update, the defect may be gone: then drop the test and what the engines refuse for it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import adapters
import adapters.composition as ac
import pytest
import torch
from dense import best, elected, largest, weighted
from libraries import (
    adapters_hidden,
    as_module,
    changed,
    combined,
    dense,
    in_adapters,
    in_peft,
    off,
    our_deltas,
    ours,
    peft_hidden,
    raw,
    running,
    theirs,
    truth,
)  # fmt: skip
from samples import make_module
from tiny import backbone, distance, random_part, random_rows
from torch import Tensor

from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine
from adapterxl.engines.vanilla import quiet, run_vanilla
from adapterxl.modules import SITES, Bottleneck, DoRA, DoRAPart, LoRA, LoRAPart, Part, RsLoRA
from adapterxl.operators import add, average, merge, prune, stack, svd, ties
from adapterxl.ragged import RaggedBatch, pack

OURS = 1e-8
PLACES = ("query", "value", "ffn_up", "ffn_down")
ATTENTION = ("query", "value")


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return backbone(tiny_xlmr)


@pytest.fixture(scope="module")
def batch(on: Backbone) -> RaggedBatch:
    return pack(random_rows((5, 24, 9), on))


@pytest.fixture(autouse=True)
def without_noise() -> Iterator[None]:
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        yield


# peft: add_weighted_adapter


def pair(on: Backbone, second: LoRA | None = None, first: LoRA | None = None) -> list[LoRAPart]:
    usual = LoRA(rank=4, alpha=8, sites=PLACES)
    return [raw(first or usual, on, 1), raw(second or usual, on, 2)]


def test_p8_linear_of_peft_mixes_a_and_b_apart_and_is_not_the_mean_of_delta_w(on: Backbone):
    parts = pair(on)
    expected = combined(parts, lambda each: weighted(each, (0.5, 0.5)))
    assert off(theirs(on, parts, (0.5, 0.5), "linear"), expected) > 0.5
    assert off(our_deltas(average(*(as_module(on, part) for part in parts))), expected) < OURS


def test_p8_linear_of_peft_does_not_subtract_a_task(on: Backbone):
    parts = pair(on)
    expected = combined(parts, lambda each: weighted(each, (1, -1)))
    assert off(theirs(on, parts, (1, -1), "linear"), expected) > 0.5
    assert off(our_deltas(add(*(as_module(on, part) for part in parts), weights=(1, -1))), expected) < OURS


def test_linear_of_peft_refuses_ranks_that_differ(on: Backbone):
    parts = pair(on, LoRA(rank=2, sites=PLACES))
    with pytest.raises(ValueError, match="same r value"):
        theirs(on, parts, (0.5, 0.5), "linear")
    expected = combined(parts, lambda each: weighted(each, (0.5, 0.5)))
    assert off(our_deltas(average(*(as_module(on, part) for part in parts))), expected) < OURS


def test_ties_of_peft_trims_and_elects_on_a_and_b_apart(on: Backbone):
    parts = pair(on)
    expected = combined(parts, lambda each: elected(each, (1, 1), 0.5))
    assert off(theirs(on, parts, (1, 1), "ties", density=0.5), expected) > 0.5
    found = our_deltas(ties(*(as_module(on, part) for part in parts), density=0.5, rank=on.intermediate))
    assert off(found, expected) < OURS


def test_magnitude_prune_of_peft_prunes_a_and_b_apart(on: Backbone):
    parts = pair(on)[:1]
    expected = combined(parts, lambda each: largest(each[0], 0.25))
    nothing = raw(LoRA(rank=4, alpha=8, sites=PLACES), on, 3)  # peft prunes only two or more: a second one of zeros
    with torch.no_grad():
        for weight in nothing.parameters():
            weight.zero_()
    assert off(theirs(on, [*parts, nothing], (1, 1), "magnitude_prune", density=0.25), expected) > 0.3
    found = our_deltas(prune(as_module(on, parts[0]), density=0.25, rank=on.intermediate))
    assert off(found, expected) < OURS


@pytest.mark.parametrize("kind", ["magnitude_prune", "magnitude_prune_svd", "svd", "ties_svd"])
def test_peft_leaves_a_single_module_as_it_is_whatever_is_asked(on: Backbone, kind: str):
    parts = pair(on)[:1]
    found = theirs(on, parts, (1,), kind, density=0.25, svd_rank=2)
    assert off(found, combined(parts, lambda each: each[0])) < 1e-6  # neither pruned nor at rank 2
    expected = combined(parts, lambda each: best(each[0], 2)[0])
    assert off(found, expected) > 0.3
    assert off(our_deltas(svd(as_module(on, parts[0]), rank=2)), expected) < OURS


@pytest.mark.parametrize("kind", ["cat", "svd"])
def test_p2_peft_scales_what_it_makes_again_when_the_first_module_is_rslora(on: Backbone, kind: str):
    parts = pair(on, first=RsLoRA(rank=4, alpha=8, sites=PLACES))
    expected = combined(parts, lambda each: each[0] + each[1])
    found = theirs(on, parts, (1, 1), kind, a0_rslora=True, svd_rank=8)
    assert off(found, expected) > 1.5  # sqrt(8) times too large
    assert off({key: matrix / 8**0.5 for key, matrix in found.items()}, expected) < 1e-6
    assert off(our_deltas(merge(*(as_module(on, part) for part in parts))), expected) < OURS
    assert off(our_deltas(svd(merge(*(as_module(on, part) for part in parts)), rank=8)), expected) < OURS


def doras(on: Backbone) -> tuple[list[DoRAPart], list[LoRAPart], dict[tuple[int, str], Callable[[Tensor], Tensor]]]:
    """Two DoRAs, the second trained on the first: as trained, as modules hold them, and what they make of W."""
    raws: list[DoRAPart] = []
    held: list[LoRAPart] = []
    for seed in (1, 2):
        engine = get_engine("packed")(on, held, raw(DoRA(rank=4, alpha=8, sites=ATTENTION), on, seed))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in engine.parameters().items():
                if name.startswith("m."):
                    parameter.mul_(1 + 0.5 * torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
        raws.append(engine.new)  # type: ignore[attr-defined]
        part = engine.export()
        assert isinstance(part, LoRAPart)
        part.trained_on = tuple(earlier.digest() for earlier in held)
        held.append(part)

    def through(key: tuple[int, str]) -> Callable[[Tensor], Tensor]:
        def change(weight: Tensor) -> Tensor:
            for part in raws:
                a, b = part.factors(*key)  # type: ignore[misc]
                weight = weight + part.scale * b @ a
                weight = part.m[f"{key[0]}_{key[1]}"][:, None] * weight / weight.norm(dim=1, keepdim=True)
            return weight

        return change

    return raws, held, {key: through(key) for key in raws[0].keys}


def test_peft_concatenates_doras_without_a_word_and_without_their_magnitudes(on: Backbone, batch: RaggedBatch):
    raws, held, change = doras(on)
    expected = truth(on, change, batch)
    wrapped = in_peft(on, raws)
    wrapped.add_weighted_adapter(["a0", "a1"], [1.0, 1.0], "made", "cat")
    assert distance(peft_hidden(wrapped, ["made"], on, batch), expected) > 0.3
    modules = [make_module(on, f"d{i}", held[: i + 1], "") for i in range(2)]
    assert distance(ours(on, merge(*modules), batch), expected) < OURS


def test_two_active_doras_of_peft_are_no_sequence(on: Backbone, batch: RaggedBatch):
    raws, held, change = doras(on)
    expected = truth(on, change, batch)
    wrapped = in_peft(on, raws)
    assert distance(peft_hidden(wrapped, ["a0", "a1"], on, batch), expected) > 0.3
    assert distance(ours(on, stack(*(make_module(on, p.name, [p], "") for p in held)), batch), expected) < OURS


def test_p1_peft_models_cannot_activate_two_modules_by_their_own_method(on: Backbone, batch: RaggedBatch):
    parts = pair(on)
    wrapped = in_peft(on, parts)
    with pytest.raises(TypeError, match="unhashable"):
        wrapped.set_adapter(["a0", "a1"])
    expected = truth(on, combined(parts, lambda each: each[0] + each[1]), batch)
    assert distance(ours(on, stack(*(as_module(on, part) for part in parts)), batch), expected) < OURS


# adapters: Stack, Average, merge_adapter, DoRA


def lora_pair(on: Backbone) -> dict[str, LoRAPart]:
    return {f"m{seed}": raw(LoRA(rank=4, alpha=6, sites=ATTENTION), on, seed) for seed in (1, 2)}


def test_a1_average_of_adapters_divides_twice(on: Backbone, batch: RaggedBatch):
    parts = lora_pair(on)
    expected = truth(on, combined(list(parts.values()), lambda each: weighted(each, (0.5, 0.5))), batch)
    model = in_adapters(on, parts)
    assert distance(adapters_hidden(model, ac.Average("m1", "m2"), on, batch), expected) > 0.1
    workaround = ac.Average("m1", "m2", weights=[1.0, 1.0], normalize_weights=False)
    assert distance(adapters_hidden(model, workaround, on, batch), expected) < 1e-6  # its mean of what is not divided
    modules = [as_module(on, part) for part in parts.values()]
    assert distance(ours(on, average(*modules), batch), expected) < OURS


def test_a1_average_of_a_module_and_its_copy_is_not_the_module_in_adapters(on: Backbone, batch: RaggedBatch):
    first = lora_pair(on)["m1"]
    model = in_adapters(on, {"m1": first, "m2": first})
    alone = adapters_hidden(model, "m1", on, batch)
    assert distance(alone, truth(on, dense(first), batch)) < OURS
    assert distance(adapters_hidden(model, ac.Average("m1", "m2"), on, batch), alone) > 0.1
    module = as_module(on, first)
    assert distance(ours(on, average(module, module), batch), alone) < OURS


def test_a1_average_of_bottlenecks_divides_twice_too(on: Backbone, batch: RaggedBatch):
    part = random_part(Bottleneck(reduction=4), on, 1).requires_grad_(False)
    model = in_adapters(on, {"m1": part, "m2": part})
    alone = adapters_hidden(model, "m1", on, batch)
    assert distance(alone, get_engine("packed")(on, [part], None).hidden(batch)) < OURS
    assert distance(adapters_hidden(model, ac.Average("m1", "m2"), on, batch), alone) > 0.1


def test_a2_stack_of_loras_in_adapters_is_their_product(on: Backbone, batch: RaggedBatch):
    parts = lora_pair(on)
    model = in_adapters(on, parts)
    found = adapters_hidden(model, ac.Stack("m1", "m2"), on, batch)
    expected = truth(on, combined(list(parts.values()), lambda each: each[0] + each[1]), batch)
    product = truth(on, combined(list(parts.values()), lambda each: each[1] @ each[0]), batch)
    assert distance(found, expected) > 0.3 and distance(found, product) < OURS
    modules = [as_module(on, part) for part in parts.values()]
    assert distance(ours(on, stack(*modules), batch), expected) < OURS


def test_a2_stack_of_loras_in_the_feed_forward_block_crashes_in_adapters(on: Backbone, batch: RaggedBatch):
    parts = pair(on)
    model = in_adapters(on, {part.name: part for part in parts})
    with pytest.raises(RuntimeError, match="shapes"):
        adapters_hidden(model, ac.Stack("m1", "m2"), on, batch)
    expected = truth(on, combined(parts, lambda each: each[0] + each[1]), batch)
    assert distance(ours(on, stack(*(as_module(on, part) for part in parts)), batch), expected) < OURS


def test_a3_adapters_unmerges_a_module_when_the_next_one_is_activated(on: Backbone, batch: RaggedBatch):
    parts = lora_pair(on)
    model = in_adapters(on, parts)
    model.set_active_adapters("m1")
    model.merge_adapter("m1")
    first = list(parts.values())[:1]
    assert distance(running(model, on, batch), truth(on, dense(first[0]), batch)) < OURS  # merged, so far
    found = adapters_hidden(model, "m2", on, batch)
    expected = truth(on, combined(list(parts.values()), lambda each: each[0] + each[1]), batch)
    assert distance(found, expected) > 0.3
    assert distance(found, truth(on, dense(parts["m2"]), batch)) < OURS  # the second alone: the first is gone
    modules = [as_module(on, part) for part in parts.values()]
    assert distance(ours(on, merge(*modules), batch), expected) < OURS


def test_a4_of_stacked_par_bn_only_the_last_acts_in_adapters(on: Backbone, batch: RaggedBatch):
    parts = {f"m{s}": random_part(Bottleneck(variant="par_bn"), on, s, f"m{s}").requires_grad_(False) for s in (1, 2)}
    model = in_adapters(on, parts)
    found = adapters_hidden(model, ac.Stack("m1", "m2"), on, batch)
    expected = beside_the_block(on, list(parts.values()), batch)
    assert distance(found, expected) > 0.3
    assert distance(found, adapters_hidden(model, "m2", on, batch)) == 0
    assert distance(found, beside_the_block(on, [parts["m2"]], batch)) < OURS
    modules = [as_module(on, part) for part in parts.values()]
    assert distance(ours(on, stack(*modules), batch), expected) < OURS


def beside_the_block(on: Backbone, parts: Sequence[Part], batch: RaggedBatch) -> Tensor:
    """He et al. 2022, once for each module: the block's output plus 4 up(relu(down(its input))), by hooks."""
    model, inputs = copy.deepcopy(on.model), {}
    for index, layer in enumerate(model.encoder.layer):

        def remember(block: Any, arguments: tuple[Tensor, Tensor], index: int = index) -> None:
            inputs[index] = arguments[1]

        def beside(linear: Any, arguments: tuple[Tensor], z: Tensor, index: int = index) -> Tensor:
            for part in parts:
                down, down_bias, up, up_bias = (
                    part.tensors()[f"{index}.ffn.{w}"] for w in ("down.weight", "down.bias", "up.weight", "up.bias")
                )
                z = z + 4 * (torch.relu(inputs[index] @ down.T + down_bias) @ up.T + up_bias)
            return z

        layer.output.register_forward_pre_hook(remember)
        layer.output.dense.register_forward_hook(beside)
    return running(model, on, batch)


def test_a6_dora_of_adapters_scales_the_bias_and_leaves_alpha_out_of_the_norm(on: Backbone, batch: RaggedBatch):
    (part, *_), (held, *_), _ = doras(on)

    def change(key: tuple[int, str]) -> Callable[[Tensor], Tensor]:
        a, b = part.factors(*key)  # type: ignore[misc]

        def scaled(weight: Tensor) -> Tensor:
            weight = weight + part.scale * b @ a
            return part.m[f"{key[0]}_{key[1]}"][:, None] * weight / weight.norm(dim=1, keepdim=True)

        return scaled

    expected = truth(on, {key: change(key) for key in part.keys}, batch)
    model = in_adapters(on, {"m1": part})
    found = adapters_hidden(model, "m1", on, batch)
    assert distance(found, expected) > 0.1
    model.merge_adapter("m1")
    assert distance(running(model, on, batch), found) > 0.1  # merged is not unmerged either
    assert distance(ours(on, merge(make_module(on, "d", [held], "")), batch), expected) < OURS


@pytest.mark.parametrize(("strategy", "rank"), [("linear", 4), ("lora_delta_w_svd", 2)])
def test_averages_that_adapters_makes_are_not_the_mean_of_delta_w(on: Backbone, strategy: str, rank: int):
    parts = lora_pair(on)
    expected = combined(list(parts.values()), lambda each: weighted(each, (0.5, 0.5)))
    if strategy == "lora_delta_w_svd":
        expected = {key: best(matrix, rank)[0] for key, matrix in expected.items()}
    model = in_adapters(on, parts)
    model.average_adapter("made", ["m1", "m2"], combine_strategy=strategy, svd_rank=rank)
    found = {}
    for layer, site in parts["m1"].keys:
        lora = model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}").loras["made"]
        found[layer, site] = (lora.scaling * lora.lora_B @ lora.lora_A).detach().double().numpy()
    assert off(found, expected) > 0.3
    mean = average(*(as_module(on, part) for part in parts.values()))
    assert off(our_deltas(mean if strategy == "linear" else svd(mean, rank=rank)), expected) < OURS


def test_a5_adapters_cannot_train_a_nested_composition(on: Backbone):
    model = in_adapters(on, lora_pair(on) | {"m3": raw(LoRA(rank=2, sites=ATTENTION), on, 3)})
    with pytest.raises(TypeError, match="unhashable"):
        model.train_adapter(ac.Stack("m1", ac.Parallel("m2", "m3")))


# Both in one model


def test_p9_adapters_deletes_the_loras_of_peft_when_both_are_put_in_one_model(on: Backbone, batch: RaggedBatch):
    lora, bottleneck = pair(on)[0], random_part(Bottleneck(reduction=4), on, 1, "bn").requires_grad_(False)
    wrapped = in_peft(on, [lora])
    inner = wrapped.base_model.model
    with torch.no_grad():
        alone = run_vanilla(inner, on, batch, training=False, upto=None, padded=True)
    assert distance(alone, truth(on, dense(lora), batch)) < OURS
    adapters.init(inner)
    assert distance(running(inner, on, batch), truth(on, {}, batch)) < OURS  # the plain backbone: the LoRA is gone
    both = stack(as_module(on, lora), as_module(on, bottleneck, "bn"))
    with_delta = get_engine("packed")(changed(on, dense(lora)), [bottleneck], None).hidden(batch)
    assert distance(ours(on, both, batch), with_delta) < OURS
