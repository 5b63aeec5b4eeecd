"""The LoRA family is closed: any sequence of LoRA, rsLoRA and DoRA is one module, and one vanilla DoRA."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tiny import backbone, distance, norm_distance, random_rows
from torch import Tensor

from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine
from adapterxl.engines.peft import PeftEngine
from adapterxl.errors import CompositionError, EngineError, UsageError
from adapterxl.modules import SITES, Bottleneck, DoRA, DoRAPart, IA3Part, LoRA, LoRAPart, Part, RsLoRA
from adapterxl.modules.lora import concatenate, site_shape
from adapterxl.ragged import RaggedBatch, pack

EXACT = 1e-10
SOME = ("query", "ffn_up", "ffn_down")


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return backbone(tiny_xlmr)


@pytest.fixture(scope="module")
def batch(on: Backbone) -> RaggedBatch:
    return pack(random_rows((5, 1, 24, 9, 9), on))


def learned(method: LoRA, on: Backbone, seed: int, below: Sequence[Part] = ()) -> Part:
    """A part as training on top of others leaves it: B is not zero, and a DoRA's magnitudes have moved."""
    generator = torch.Generator().manual_seed(seed)
    new = method.build(f"part{seed}", on, generator, on.dtype)
    with torch.no_grad():
        for b in new.b.values():
            b.normal_(0, 0.3, generator=generator)
    engine = get_engine("packed")(on, below, new)
    move(engine.parameters(), seed)
    part = engine.export()
    assert part is not None
    return part


@torch.no_grad()
def move(parameters: dict[str, torch.nn.Parameter], seed: int) -> None:
    """Magnitudes away from the norms of the weights, where training starts."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in parameters.items():
        if name.startswith("m."):
            parameter.mul_(1 + 0.5 * torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype))


def ia3(on: Backbone, seed: int) -> IA3Part:
    generator = torch.Generator().manual_seed(seed)
    places = [(0, "key"), (0, "ffn_up"), (1, "value"), (1, "ffn_up")]
    return IA3Part("ia3", {
        key: 1 + 0.5 * torch.rand(site_shape(key[1], on)[0], generator=generator, dtype=torch.float64) for key in places
    }).requires_grad_(False)  # fmt: skip


MAKE: dict[str, Callable[[Backbone, int, Sequence[Part]], Part]] = {
    "lora": lambda on, seed, below: learned(LoRA(rank=3, alpha=5), on, seed, below),
    "some": lambda on, seed, below: learned(LoRA(rank=2, sites=SOME, layers=(0, 2)), on, seed, below),
    "rslora": lambda on, seed, below: learned(RsLoRA(rank=4, layers=(0, 1)), on, seed, below),
    "dora": lambda on, seed, below: learned(DoRA(rank=3), on, seed, below),
    "some dora": lambda on, seed, below: learned(DoRA(rank=2, alpha=7, sites=SOME, layers=(1, 2)), on, seed, below),
    "ia3": lambda on, seed, below: ia3(on, seed),
}
SEQUENCES = (
    ("lora", "some"), ("rslora", "lora"), ("lora", "rslora", "some"), ("dora",), ("dora", "some dora"),
    ("dora", "lora"), ("lora", "dora"), ("some", "some dora", "rslora"), ("some dora", "lora", "dora", "some"),
    ("dora", "dora", "dora"), ("ia3",), ("lora", "ia3"), ("ia3", "lora"), ("ia3", "dora", "lora"),
    ("some dora", "ia3", "rslora", "dora"), ("ia3", "lora", "ia3"),
)  # fmt: skip


def sequence(kinds: Sequence[str], on: Backbone) -> list[Part]:
    """Parts each trained on top of those before it."""
    parts: list[Part] = []
    for seed, kind in enumerate(kinds):
        parts.append(MAKE[kind](on, seed, tuple(parts)))
    return parts


def changed_in_place(on: Backbone, parts: Sequence[Part]) -> Backbone:
    """The backbone with its own weights and biases changed as the parts say, one after another; no module is left."""
    other = copy.copy(on)
    other.model = copy.deepcopy(on.model)
    with torch.no_grad():
        for part in parts:
            tensors = part.tensors()
            for name, tensor in tensors.items():
                layer, site, kind = name.split(".")
                linear = other.model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}")
                if kind == "A":
                    linear.weight += tensors[f"{layer}.{site}.B"] @ tensor
                    if f"{layer}.{site}.rows" in tensors:
                        linear.weight *= tensors[f"{layer}.{site}.rows"][:, None]
                elif kind == "l":
                    linear.weight *= tensor[:, None]
                    linear.bias *= tensor
    return other


def hidden(on: Backbone, parts: Sequence[Part], batch: RaggedBatch, engine: str = "packed") -> Tensor:
    return get_engine(engine)(on, parts, None).hidden(batch).detach()


@pytest.mark.parametrize("kinds", SEQUENCES, ids="-".join)
def test_a_sequence_is_the_backbone_with_changed_weights_is_one_module_is_one_vanilla_dora(
    kinds: tuple[str, ...], on: Backbone, batch: RaggedBatch
):
    parts = sequence(kinds, on)
    expected = hidden(changed_in_place(on, parts), (), batch)
    assert distance(expected, hidden(on, (), batch)) > 0.1
    assert distance(hidden(on, parts, batch), expected) < EXACT
    family = [part for part in parts if isinstance(part, LoRAPart)]
    if len(family) == len(parts):
        whole = concatenate(family, "whole")
        assert distance(hidden(on, [whole], batch), expected) < EXACT
        assert distance(hidden(on, parts, batch, "peft"), expected) < EXACT
        assert distance(hidden(on, [whole], batch, "peft"), expected) < EXACT
        assert whole.rescales == any("dora" in kind for kind in kinds)
    else:
        with pytest.raises(EngineError, match="LoRA only"):
            get_engine("peft")(on, parts, None)


def test_the_order_of_a_sequence_with_dora_matters_and_of_loras_does_not(on: Backbone, batch: RaggedBatch):
    lora, dora, other = sequence(("lora", "dora", "rslora"), on)
    assert distance(hidden(on, [lora, other], batch), hidden(on, [other, lora], batch)) < EXACT
    assert distance(hidden(on, [lora, dora], batch), hidden(on, [dora, lora], batch)) > 0.01


def test_brackets_of_a_sequence_do_not_matter(on: Backbone, batch: RaggedBatch):
    a, b, c = (part for part in sequence(("some dora", "lora", "dora"), on) if isinstance(part, LoRAPart))
    left = concatenate([concatenate([a, b], "ab"), c], "x")
    right = concatenate([a, concatenate([b, c], "bc")], "x")
    assert distance(hidden(on, [left], batch), hidden(on, [right], batch)) < EXACT


def test_what_follows_a_row_scaled_by_zero_is_refused(on: Backbone):
    dora, lora = (part for part in sequence(("dora", "lora"), on) if isinstance(part, LoRAPart))
    with torch.no_grad():
        dora.rows["0_query"][3] = 0.0
    with pytest.raises(CompositionError, match=r"'x', \(0, 'query'\): a row is scaled by 0, so 'part1' cannot follow"):
        concatenate([dora, lora], "x")


# DoRA while it is trained


def engines(on: Backbone, method: DoRA) -> tuple[object, PeftEngine]:
    """Both engines with the same weights and moved magnitudes."""
    generator = torch.Generator().manual_seed(7)
    new = method.build("new", on, generator, on.dtype)
    with torch.no_grad():
        for b in new.b.values():
            b.normal_(0, 0.3, generator=generator)
    ours, theirs = get_engine("packed")(on, (), new), PeftEngine(on, (), new)
    move(ours.parameters(), 3)
    with torch.no_grad():
        for name, parameter in theirs.parameters().items():
            if key := magnitude(name):
                parameter.copy_(ours.parameters()[f"m.{key}"])
    return ours, theirs


def magnitude(name: str) -> str:
    """Our name of one of peft's magnitude vectors; "" for its other weights."""
    found = re.search(r"layer\.(\d+)\.(.*?)\.lora_magnitude_vector", name)
    return f"{found[1]}_{next(s for s, path in SITES.items() if path == found[2])}" if found else ""


@pytest.mark.parametrize("method", [DoRA(rank=4), DoRA(rank=2, alpha=9, sites=("key", "ffn_down"), layers=(1, 2))])
def test_dora_in_training_is_peft_forward_and_backward(on: Backbone, batch: RaggedBatch, method: DoRA):
    ours, theirs = engines(on, method)
    states = [engine.hidden(batch) for engine in (ours, theirs)]
    assert distance(*states) < EXACT
    weights = torch.randn(states[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for state in states:
        (state * weights).sum().backward()
    compared = 0
    for name, parameter in theirs.parameters().items():
        if key := magnitude(name):
            mine = ours.parameters()[f"m.{key}"]
        else:
            layer, path, letter = re.search(r"layer\.(\d+)\.(.*?)\.lora_([AB])", name).groups()  # type: ignore[union-attr]
            site = next(s for s, found in SITES.items() if found == path)
            mine = ours.parameters()[f"{letter.lower()}.{layer}_{site}"]
        assert mine.grad is not None and parameter.grad is not None
        assert norm_distance(mine.grad, parameter.grad) < EXACT, name
        compared += 1
    assert compared == len(ours.parameters()) == 3 * len(method.layers or range(3)) * len(method.sites)
    mine, other = ours.export(), theirs.export()
    assert mine.tensors().keys() == other.tensors().keys()
    for name, tensor in mine.tensors().items():
        assert norm_distance(tensor, other.tensors()[name]) < EXACT, name


def test_a_new_dora_does_nothing_whatever_is_below_it(on: Backbone, batch: RaggedBatch):
    below = [*sequence(("some dora", "ia3", "lora"), on), learned(LoRA(rank=2), on, 9)]
    new = DoRA(rank=2).build("new", on, torch.Generator().manual_seed(1), on.dtype)
    assert distance(get_engine("packed")(on, below, new).hidden(batch).detach(), hidden(on, below, batch)) < EXACT


@pytest.mark.parametrize("below", [("lora",), ("dora", "some"), ("ia3", "some dora")])
def test_a_learned_dora_does_what_it_did_in_training(below: tuple[str, ...], on: Backbone, batch: RaggedBatch):
    frozen = sequence(below, on)
    new = DoRA(rank=3, sites=SOME).build("new", on, torch.Generator().manual_seed(2), on.dtype)
    engine = get_engine("packed")(on, frozen, new)
    move(engine.parameters(), 5)
    with torch.no_grad():
        for name, parameter in engine.parameters().items():
            if name.startswith("b."):
                parameter.add_(0.2)
    part = engine.export()
    assert type(part) is LoRAPart and part.rescales and not isinstance(part, DoRAPart)
    assert distance(hidden(on, [*frozen, part], batch), engine.hidden(batch)) < EXACT


def test_the_norm_of_a_dora_is_that_of_all_below_it_and_gives_no_gradient(on: Backbone):
    below = sequence(("dora", "some"), on)
    new = DoRA(rank=2, alpha=6).build("new", on, torch.Generator().manual_seed(3), on.dtype)
    with torch.no_grad():
        for b in new.b.values():
            b.fill_(0.1)
    engine = get_engine("packed")(on, below, new)
    part, other = engine.new, changed_in_place(on, below)  # type: ignore[attr-defined]
    for layer, site in part.keys:
        a, b = part.factors(layer, site)
        weight = other.model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}").weight
        norms = part.norms(layer, site)
        assert distance(norms, (weight + 3 * b @ a).norm(dim=1)) < EXACT and not norms.requires_grad


def test_a_bottleneck_between_changes_nothing_of_the_family(on: Backbone, batch: RaggedBatch):
    lora, dora = sequence(("lora", "dora"), on)
    between = Bottleneck(reduction=4).build("bn", on, torch.Generator().manual_seed(4), on.dtype).requires_grad_(False)
    expected = hidden(changed_in_place(on, [lora, dora]), [between], batch)
    assert distance(hidden(on, [lora, between, dora], batch), expected) < EXACT


@pytest.mark.parametrize("others", [("dora", "lora"), ("lora", "dora"), ("dora", "dora")])
def test_peft_never_runs_a_dora_beside_another_module(others: tuple[str, str], on: Backbone):
    (frozen,) = sequence(others[:1], on)
    method = DoRA(rank=2) if others[1] == "dora" else LoRA(rank=2)
    new = method.build("new", on, torch.Generator().manual_seed(0), on.dtype)
    with pytest.raises(EngineError, match="DoRA together with another module wrongly.*use --engine packed"):
        get_engine("peft")(on, [frozen], new)


def test_settings_with_patterns_are_values():
    assert LoRA(rank_pattern={"1": 3}) == LoRA(rank_pattern={"1": 3}) != LoRA()
    assert len({LoRA(rank_pattern={"1": 3}), LoRA(rank_pattern={"1": 3}), LoRA()}) == 2


# rsLoRA, and ranks and alphas by place


def test_rslora_scales_by_the_root_of_the_rank(on: Backbone):
    build = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    part = RsLoRA(rank=16, rank_pattern={"key": 4}).build("x", on, **build)  # type: ignore[arg-type]
    assert part.scales[0, "query"] == 4.0 and part.scales[0, "key"] == 8.0
    assert RsLoRA(rank=9, alpha=6).build("x", on, **build).scale == 2.0  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [LoRA, RsLoRA, DoRA])
def test_the_closest_pattern_counts_place_then_site_then_layer(method: type[LoRA], on: Backbone):
    made = method(
        rank=2, alpha=1, rank_pattern={"1": 3, "ffn_up": 4, "1.ffn_up": 5, "2.key": 6}, alpha_pattern={"1": 7, "key": 9}
    ).build("x", on, torch.Generator().manual_seed(0), torch.float64)
    ranks = {key: made.rank(*key) for key in made.keys}
    assert ranks[0, "query"] == 2 and ranks[1, "query"] == 3 and ranks[0, "ffn_up"] == 4
    assert ranks[1, "ffn_up"] == 5 and ranks[2, "key"] == 6 and ranks[2, "ffn_up"] == 4
    alphas = {(0, "query"): 1, (1, "query"): 7, (1, "key"): 9, (0, "key"): 9}
    for key, alpha in alphas.items():
        assert made.scales[key] == pytest.approx(alpha / (ranks[key] ** 0.5 if method is RsLoRA else ranks[key]))


@pytest.mark.parametrize("method", [LoRA(rank=2, rank_pattern={"ffn_up": 5, "1": 3}, alpha_pattern={"2.value": 11}),
                                    DoRA(rank=3, rank_pattern={"0.query": 1}, alpha_pattern={"key": 9})])  # fmt: skip
def test_patterns_run_in_peft_as_in_ours(method: LoRA, on: Backbone, batch: RaggedBatch):
    part = learned(method, on, 4)
    expected = hidden(changed_in_place(on, [part]), (), batch)
    assert distance(hidden(on, [part], batch), expected) < EXACT
    assert distance(hidden(on, [part], batch, "peft"), expected) < EXACT


PLACELESS = ("pooler", "x.query", "3.pooler", "1x", "", "1.", ".query", "²", "-1", 1)


@pytest.mark.parametrize("pattern", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize(
    ("key", "said"),
    [
        *((key, r'expected a site \("ffn_up"\), a layer \("3"\) or both') for key in PLACELESS),
        *((key, "this module does not act there") for key in ("7", "01", "0.query", "1.key", "key")),
    ],
)
def test_a_pattern_for_no_place_is_refused(pattern: str, key: object, said: str, on: Backbone):
    with pytest.raises(UsageError, match=f"LoRA pattern {re.escape(repr(key))}: .*{said}"):
        LoRA(rank=2, sites=("query", "value"), layers=(1, 2), **{pattern: {key: 3}}).build(  # type: ignore[arg-type]
            "x", on, torch.Generator().manual_seed(0), torch.float64
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"rank_pattern": {"query": 0}}, "LoRA rank of query: found 0"),
     ({"rank_pattern": {"1": True}}, "LoRA rank of 1: found True"),
     ({"alpha_pattern": {"1.key": -1}}, "LoRA alpha of 1.key: found -1, expected a number above 0"),
     ({"alpha_pattern": {"key": "2"}}, "LoRA alpha of key: found '2'"),
     ({"rank_pattern": {"query": 99}}, "LoRA rank 99 is above the width 32 of site 'query'")],
)  # fmt: skip
def test_a_value_of_a_pattern_that_cannot_work_is_refused(settings: dict[str, object], said: str, on: Backbone):
    with pytest.raises(UsageError, match=said):
        LoRA(**settings).build("x", on, torch.Generator().manual_seed(0), torch.float64)  # type: ignore[arg-type]
