"""Bottlenecks: settings, widths, initial values, and the published formula of each variant."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from adapterxl.errors import UsageError
from adapterxl.modules import VARIANTS, Bottleneck, BottleneckPart
from adapterxl.modules.bottleneck import from_tensors

WEIGHTS = ("down.weight", "down.bias", "up.weight", "up.bias")


@dataclass(frozen=True)
class Space:
    hidden: int = 48
    intermediate: int = 96
    layers: int = 3


def build(settings: Bottleneck, seed: int = 0, noise: float = 0.0) -> BottleneckPart:
    generator = torch.Generator().manual_seed(seed)
    part = settings.build("part", Space(), generator, torch.float64)
    with torch.no_grad():
        for weight in part.parameters():
            weight.add_(noise * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return part


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "seq"}, r"No bottleneck variant 'seq'.*Variants: seq_bn, double_seq_bn, par_bn"),
        ({"variant": "seq_nb"}, r"Did you mean 'seq_bn'\?"),
        ({"reduction": 0}, "Bottleneck reduction: found 0, expected a whole number from 1"),
        ({"reduction": 2.5}, "Bottleneck reduction: found 2.5"),
        ({"reduction": True}, "Bottleneck reduction: found True"),
        ({"dropout": "0.1"}, "Bottleneck dropout: found '0.1'"),
        ({"dropout": 1}, "Bottleneck dropout: found 1,"),
        ({"dropout": math.nan}, "Bottleneck dropout: found nan"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        Bottleneck(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [(), (3,), (-1,)])
def test_layers_that_the_backbone_lacks_are_refused(layers: tuple[int, ...]):
    with pytest.raises(UsageError, match="this backbone has layers 0 to 2"):
        build(Bottleneck(layers=layers))


@pytest.mark.parametrize(
    ("variant", "reduction", "width"),
    [
        ("seq_bn", None, 3),
        ("double_seq_bn", None, 3),
        ("par_bn", None, 24),
        ("seq_bn", 5, 9),
        ("seq_bn", 1000, 1),
        ("par_bn", 1, 48),
    ],
)
def test_the_width_is_hidden_over_reduction_and_at_least_one(variant: str, reduction: int | None, width: int):
    assert build(Bottleneck(variant=variant, reduction=reduction)).width == width


@pytest.mark.parametrize(
    ("variant", "places"), [("seq_bn", ["ffn"]), ("double_seq_bn", ["attention", "ffn"]), ("par_bn", ["ffn"])]
)
def test_each_variant_sits_at_its_places_in_the_chosen_layers(variant: str, places: list[str]):
    part = build(Bottleneck(variant=variant, layers=(2, 0)))
    assert part.layers == (0, 2)
    expected = [f"{layer}.{place}.{weight}" for layer in (0, 2) for place in places for weight in WEIGHTS]
    assert list(part.tensors()) == expected


@pytest.mark.parametrize("variant", ["seq_bn", "double_seq_bn"])
def test_sequential_variants_start_small_with_zero_biases(variant: str):
    part = build(Bottleneck(variant=variant, reduction=2))
    for name, tensor in part.tensors().items():
        if name.endswith("bias"):
            assert (tensor == 0).all()
        else:  # 1152 values: the standard error of the deviation is 2 %
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.1)
            assert abs(float(tensor.mean())) < 0.003


def test_par_bn_starts_as_nothing():
    part = build(Bottleneck(variant="par_bn"))
    z, h = torch.randn(5, 48, dtype=torch.float64), torch.randn(5, 48, dtype=torch.float64)
    assert torch.equal(part.adapt(0, "ffn", z, h, nn.LayerNorm(48)), z)
    down = part.tensors()["0.ffn.down.weight"]
    assert 0.9 / math.sqrt(48) < float(down.abs().max()) <= 1 / math.sqrt(48)


def test_a_seed_gives_the_same_part_again_and_another_seed_another():
    digests = [build(Bottleneck(), seed).digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def by_hand(variant: str, t: dict[str, Tensor], place: str, z: Tensor, h: Tensor, norm: nn.LayerNorm) -> Tensor:
    down_w, down_b, up_w, up_b = (t[f"1.{place}.{name}"] for name in WEIGHTS)
    u = {"seq_bn": norm(z + h), "double_seq_bn": z, "par_bn": h}[variant]
    low = u @ down_w.T + down_b
    low = low * torch.sigmoid(low) if variant == "double_seq_bn" else low.clamp(min=0)
    return z + {"par_bn": 4.0}.get(variant, 1.0) * (low @ up_w.T + up_b)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_computes_its_published_formula(variant: str):
    part = build(Bottleneck(variant=variant), noise=0.3)
    norm = nn.LayerNorm(48, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.normal_(1.0, 0.3)
        norm.bias.normal_()
    z, h = torch.randn(5, 48, dtype=torch.float64), torch.randn(5, 48, dtype=torch.float64)
    for place in VARIANTS[variant].places:
        expected = by_hand(variant, part.tensors(), place, z, h, norm)
        torch.testing.assert_close(part.adapt(1, place, z, h, norm), expected)


def test_a_place_or_layer_that_it_lacks_is_left_untouched():
    part = build(Bottleneck(layers=(1,)), noise=0.3)
    z, h, norm = torch.randn(2, 48), torch.randn(2, 48), nn.LayerNorm(48)
    assert part.adapt(0, "ffn", z, h, norm) is z
    assert part.adapt(1, "attention", z, h, norm) is z
    assert part.add(1, "query", h, z) is z


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_part_is_built_again_from_its_tensors(variant: str):
    part = build(Bottleneck(variant=variant, layers=(0, 2)), noise=0.3)
    assert from_tensors("again", variant, part.tensors()).digest() == part.digest()


def test_the_digest_follows_the_variant():
    tensors = build(Bottleneck(reduction=2), noise=0.3).tensors()
    assert from_tensors("x", "seq_bn", tensors).digest() != from_tensors("x", "par_bn", tensors).digest()
