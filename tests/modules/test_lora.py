"""LoRA: settings, initial values, and the exact algebra of folding, concatenating and cutting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny import backbone, distance, frozen, random_part, random_rows
from torch import Tensor

from adapterxl.engines.encoder import encode
from adapterxl.errors import CompositionError, UsageError
from adapterxl.modules import SITES, LoRA, LoRAPart
from adapterxl.modules.lora import concatenate, cut, site_shape
from adapterxl.ragged import pack


@dataclass(frozen=True)
class Space:
    hidden: int = 12
    intermediate: int = 20
    layers: int = 3


def build(settings: LoRA, seed: int = 0, dtype: torch.dtype = torch.float64) -> LoRAPart:
    """A part with random B as well."""
    generator = torch.Generator().manual_seed(seed)
    part = settings.build("part", Space(), generator, dtype)
    with torch.no_grad():
        for b in part.b.values():
            b.normal_(generator=generator)
    return part


def applied(part: LoRAPart, layer: int, site: str, seed: int = 5) -> Tensor:
    """The part's addition to zero for some input."""
    outputs, inputs = site_shape(site, Space())
    x = torch.randn(4, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return part.add(layer, site, x, torch.zeros(4, outputs, dtype=torch.float64)).detach()


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "LoRA rank: found 0, expected a whole number from 1"),
        ({"rank": -3}, "LoRA rank: found -3"),
        ({"rank": 2.5}, "LoRA rank: found 2.5"),
        ({"rank": "8"}, "LoRA rank: found '8'"),
        ({"rank": True}, "LoRA rank: found True"),
        ({"alpha": 0}, "LoRA alpha: found 0, expected a number above 0"),
        ({"alpha": math.nan}, "LoRA alpha: found nan"),
        ({"alpha": math.inf}, "LoRA alpha: found inf"),
        ({"dropout": 1.0}, "LoRA dropout: found 1.0"),
        ({"dropout": -0.1}, "LoRA dropout: found -0.1"),
        ({"dropout": math.nan}, "LoRA dropout: found nan"),
        ({"alpha": "8"}, "LoRA alpha: found '8'"),
        ({"dropout": "0.1"}, "LoRA dropout: found '0.1'"),
        ({"dropout": None}, "LoRA dropout: found None"),
        ({"sites": "query"}, "LoRA sites: found the text 'query', expected a tuple of names"),
        ({"sites": ()}, "LoRA sites: none given; choose from query, key"),
        ({"sites": ("qeury",)}, r"No site 'qeury'. Did you mean 'query'\? Sites: query, key"),
        ({"sites": ("query", "pooler")}, "No site 'pooler'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        LoRA(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [(), (3,), (-1,), (0, 7)])
def test_layers_that_the_backbone_lacks_are_refused(layers: tuple[int, ...]):
    with pytest.raises(UsageError, match="this backbone has layers 0 to 2"):
        build(LoRA(rank=2, layers=layers))


def test_a_rank_above_the_width_is_refused():
    with pytest.raises(UsageError, match="LoRA rank 13 is above the width 12 of site 'query'"):
        build(LoRA(rank=13))


def test_the_order_of_sites_and_layers_makes_no_difference():
    assert LoRA(sites=("ffn_up", "query")) == LoRA(sites=("query", "ffn_up"))
    one, other = build(LoRA(rank=2, layers=(2, 0, 2))), build(LoRA(rank=2, layers=(0, 2)))
    assert one.digest() == other.digest() and one.layers == (0, 2)


# Initial values


def test_a_new_lora_adds_nothing(tiny_xlmr: Path):
    on = backbone(tiny_xlmr)
    new = LoRA(rank=4).build("new", on, torch.Generator().manual_seed(0), on.dtype)
    batch = pack(random_rows((5, 9), on))
    assert torch.equal(encode(on, batch, [[new]]), encode(on, batch, [()]))


def test_a_starts_uniform_within_its_bound_and_b_at_zero():
    part = LoRA(rank=10).build("new", Space(), torch.Generator().manual_seed(0), torch.float64)
    assert all((b == 0).all() for b in part.b.values())
    for key in part.keys:
        a = part.factors(*key)[0].detach()  # type: ignore[index]
        bound = 1 / math.sqrt(site_shape(key[1], Space())[1])
        assert 0.9 * bound < float(a.abs().max()) <= bound
        # Uniform in +-bound: standard deviation bound / sqrt(3); a.numel() is 120 or 200.
        assert float(a.std()) == pytest.approx(bound / math.sqrt(3), rel=0.2)
        assert abs(float(a.mean())) < 0.2 * bound


def test_the_default_acts_on_all_sites_of_all_layers_with_scale_two():
    part = build(LoRA())
    assert part.sites == tuple(SITES) and part.layers == (0, 1, 2)
    assert part.scale == 2.0 and part.rank(0, "query") == 8
    for layer, site in part.keys:
        a, b = part.factors(layer, site)  # type: ignore[misc]
        assert (b.shape[0], a.shape[1]) == site_shape(site, Space())


def test_a_seed_gives_the_same_part_again_and_another_seed_another():
    parts = [LoRA(rank=2).build("x", Space(), torch.Generator().manual_seed(s), torch.float32) for s in (1, 1, 2)]
    assert parts[0].digest() == parts[1].digest() != parts[2].digest()


def test_the_precision_of_the_weights_is_the_one_asked_for():
    part = LoRA(rank=2).build("x", Space(), torch.Generator().manual_seed(1), torch.bfloat16)
    assert {tensor.dtype for tensor in part.tensors().values()} == {torch.bfloat16}


# What it computes


@pytest.mark.parametrize("site", SITES)
def test_the_addition_is_scale_times_b_a_x(site: str):
    part = build(LoRA(rank=2, alpha=7))
    x = torch.randn(5, site_shape(site, Space())[1], dtype=torch.float64)
    y = torch.randn(5, site_shape(site, Space())[0], dtype=torch.float64)
    a, b = part.factors(1, site)  # type: ignore[misc]
    torch.testing.assert_close(part.add(1, site, x, y), y + 3.5 * x @ a.T @ b.T)


def test_a_site_or_layer_that_it_lacks_is_left_untouched():
    part = build(LoRA(rank=2, sites=("query",), layers=(1,)))
    x, y = torch.randn(3, 12, dtype=torch.float64), torch.randn(3, 12, dtype=torch.float64)
    assert part.add(0, "query", x, y) is y
    assert part.add(1, "key", x, y) is y
    assert part.adapt(1, "ffn", y, x, torch.nn.LayerNorm(12)) is y
    assert part.factors(1, "key") is None and part.rank(1, "key") == 0


def test_factors_of_different_ranks_are_refused():
    with pytest.raises(CompositionError, match=r"'x', \(0, 'query'\): A has rank 2, but B has rank 3"):
        LoRAPart("x", {(0, "query"): (torch.zeros(2, 12), torch.zeros(12, 3))})


def test_weights_have_canonical_names():
    part = build(LoRA(rank=2, sites=("ffn_up", "query"), layers=(2, 1)))
    assert list(part.tensors()) == [
        f"{layer}.{site}.{factor}" for layer in (1, 2) for site in ("query", "ffn_up") for factor in "AB"
    ]
    assert part.size() == 2 * (2 * 12 + 2 * 12 + 2 * 12 + 2 * 20)


def test_the_digest_follows_every_weight_and_the_scale_but_not_the_name():
    part = build(LoRA(rank=2))
    seen = {part.digest()}
    part.name = "other"
    assert part.digest() in seen
    with torch.no_grad():
        part.b["2_ffn_down"][0, 0] += 1e-9
    seen.add(part.digest())
    part.scales[2, "ffn_down"] = 1.0
    seen.add(part.digest())
    assert len(seen) == 3


# Algebra


def test_folding_keeps_the_addition_and_leaves_the_original_alone():
    part = build(LoRA(rank=3, alpha=2, dropout=0.5))
    before = part.digest()
    folded = part.folded()
    assert folded.scale == 1.0 and folded.dropout_p == 0.0 and part.digest() == before
    for key in part.keys:
        torch.testing.assert_close(applied(folded, *key), applied(part.eval(), *key), rtol=1e-13, atol=1e-13)
    assert folded.folded().digest() == folded.digest()


def test_a_folded_part_shares_no_memory_with_the_original():
    part = build(LoRA(rank=2, alpha=2))
    folded = part.folded()
    before = folded.digest()
    with torch.no_grad():
        for weight in part.parameters():
            weight.zero_()
    assert folded.digest() == before


def test_folding_by_a_power_of_two_is_exact():
    part = build(LoRA(rank=4, alpha=16), dtype=torch.float32)
    for (_, b), (_, folded) in zip(
        (part.factors(*key) for key in part.keys), (part.folded().factors(*key) for key in part.keys), strict=True
    ):
        assert torch.equal(b * 4, folded)


def chain() -> list[LoRAPart]:
    return [
        build(LoRA(rank=3), 1).folded(),
        build(LoRA(rank=2, sites=("query", "ffn_down"), layers=(0, 2)), 2).folded(),
        build(LoRA(rank=4, sites=("query",), layers=(1, 2)), 3).folded(),
    ]


def test_a_concatenation_adds_what_its_parts_add():
    parts = chain()
    whole = concatenate(parts, "whole")
    assert whole.rank(2, "query") == 9 and whole.rank(1, "query") == 7 and whole.rank(1, "key") == 3
    for key in whole.keys:
        expected = torch.stack([applied(part, *key) for part in parts]).sum(0)
        assert distance(applied(whole, *key), expected) < 1e-12


def test_parts_are_cut_out_of_a_concatenation_bit_for_bit():
    parts = chain()
    whole = concatenate(parts, "whole")
    for position, part in enumerate(parts):
        ranks = {}
        for layer, site in part.keys:
            begin = sum(earlier.rank(layer, site) for earlier in parts[:position])
            ranks[f"{layer}.{site}"] = (begin, begin + part.rank(layer, site))
        again = cut(whole, ranks, part.name)
        assert again.digest() == part.digest()
        for name, tensor in again.tensors().items():
            assert torch.equal(tensor, part.tensors()[name]) and tensor.is_contiguous()


@pytest.mark.parametrize(
    ("key", "ranks"),
    [("0.query", (0, 4)), ("0.query", (-1, 2)), ("0.query", (2, 2)), ("0.query", (2, 1)), ("1.key", (0, 1))],
)
def test_cutting_ranks_that_are_not_there_is_refused(key: str, ranks: tuple[int, int]):
    whole = build(LoRA(rank=3, sites=("query",), layers=(0,))).folded()
    with pytest.raises(CompositionError, match=rf"ranks {ranks[0]} to {ranks[1]} at {key} are not in the weights"):
        cut(whole, {key: ranks}, "x")


def test_parts_that_are_not_folded_are_not_concatenated():
    with pytest.raises(CompositionError, match="must be folded"):
        concatenate([build(LoRA(rank=2)).folded(), build(LoRA(rank=2))], "x")


def test_a_concatenation_shares_no_memory_with_its_parts():
    part = build(LoRA(rank=2)).folded()
    whole = concatenate([part], "whole")
    before = whole.digest()
    with torch.no_grad():
        for weight in part.parameters():
            weight.zero_()
    assert whole.digest() == before


def test_fp32_weights_on_a_bf16_backbone_compute_in_bf16(tiny_xlmr: Path):
    on = backbone(tiny_xlmr, "bf16")
    exact = backbone(tiny_xlmr, "fp64")
    part = frozen(random_part(LoRA(rank=2), exact)).float()
    batch = pack(random_rows((9, 4), on))
    states = encode(on, batch, [[part]])
    assert isinstance(states, Tensor) and states.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in part.tensors().values()} == {torch.float32}
    reference = encode(exact, batch, [[part.double()]])
    assert isinstance(reference, Tensor) and distance(states, reference) < 0.2
