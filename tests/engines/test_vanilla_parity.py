"""The packed engine computes what peft and adapters compute, forward and backward, for every kind of module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import backbone, distance, frozen, norm_distance, random_part, random_rows
from torch import Tensor

from adapterxl.backbone import Backbone
from adapterxl.engines import Engine, get_engine
from adapterxl.modules import Bottleneck, LoRA, Method
from adapterxl.ragged import pack

LENGTHS = (5, 1, 24, 2, 9, 5, 70)
# Forward: largest difference relative to the root mean square. Gradients: relative norm of the difference, per tensor.
TOLERANCE = {"fp64": 1e-10, "fp32": 1e-5}

# Engine, frozen methods in order, new method.
Case = tuple[str, tuple[Method, ...], Method | None]
CASES: dict[str, Case] = {
    "peft-lora-everywhere": ("peft", (), LoRA(rank=4)),
    "peft-lora-subset": ("peft", (), LoRA(rank=3, alpha=7, sites=("query", "ffn_down"), layers=(0, 2))),
    "peft-lora-one-site": ("peft", (), LoRA(rank=1, sites=("attention_output",), layers=(1,))),
    "peft-frozen-and-new": ("peft", (LoRA(rank=4, alpha=16),), LoRA(rank=2, sites=("query", "value"))),
    "peft-chain": (
        "peft",
        (LoRA(rank=4, alpha=16), LoRA(rank=2, sites=("value", "ffn_up"), layers=(0, 2)), LoRA(rank=3, sites=("key",))),
        LoRA(rank=3, sites=("value", "ffn_up"), layers=(1, 2)),
    ),
    "peft-frozen-only": ("peft", (LoRA(rank=2), LoRA(rank=3, layers=(1,))), None),
    "peft-nothing": ("peft", (), None),
    "adapters-lora-attention": ("adapters", (), LoRA(rank=4, alpha=3, sites=("query", "key", "value"))),
    "adapters-lora-all-it-has": ("adapters", (), LoRA(rank=4, sites=("query", "key", "value", "ffn_up", "ffn_down"))),
    "adapters-lora-subset": ("adapters", (), LoRA(rank=2, sites=("value", "ffn_down"), layers=(1,))),
    "adapters-lora-ffn": ("adapters", (), LoRA(rank=2, sites=("ffn_up",), layers=(0, 2))),
    "adapters-seq": ("adapters", (), Bottleneck(reduction=8)),
    "adapters-seq-subset": ("adapters", (), Bottleneck(reduction=8, layers=(0, 2))),
    "adapters-double": ("adapters", (), Bottleneck(reduction=4, variant="double_seq_bn")),
    "adapters-double-subset": ("adapters", (), Bottleneck(reduction=4, variant="double_seq_bn", layers=(1,))),
    "adapters-par": ("adapters", (), Bottleneck(variant="par_bn")),
    "adapters-par-subset": ("adapters", (), Bottleneck(reduction=4, variant="par_bn", layers=(0, 1))),
    "adapters-stack": (
        "adapters",
        (Bottleneck(reduction=4), Bottleneck(reduction=8, variant="double_seq_bn")),
        Bottleneck(reduction=2),
    ),
    "adapters-stack-of-subsets": (
        "adapters",
        (Bottleneck(reduction=4, layers=(0, 2)), Bottleneck(reduction=8, variant="double_seq_bn", layers=(1, 2))),
        Bottleneck(reduction=2, variant="double_seq_bn", layers=(0, 1)),
    ),
    "adapters-stack-frozen-only": ("adapters", (Bottleneck(), Bottleneck(variant="double_seq_bn")), None),
    "adapters-bottleneck-on-lora": ("adapters", (LoRA(rank=2, sites=("query", "ffn_down")),), Bottleneck()),
    "adapters-lora-on-bottleneck": ("adapters", (Bottleneck(),), LoRA(rank=2, sites=("query", "ffn_down"))),
    "adapters-par-on-lora": ("adapters", (LoRA(rank=2, sites=("query", "ffn_down")),), Bottleneck(variant="par_bn")),
    "adapters-nothing": ("adapters", (), None),
}


def engines(case: Case, on: Backbone, padded: bool) -> tuple[Engine, Engine]:
    """The packed engine and the vanilla one, with the same weights."""
    name, below, method = case
    stack = [frozen(random_part(m, on, seed, f"below{seed}")) for seed, m in enumerate(below)]
    new = None if method is None else random_part(method, on, 99, "new")
    return get_engine("packed")(on, stack, new), get_engine(name)(on, stack, new, padded=padded)  # type: ignore[call-arg]


def gradients(engine: Engine) -> dict[str, Tensor]:
    """Gradients under canonical names: put in the place of the weights, they come out of `export`."""
    with torch.no_grad():
        for name, parameter in engine.parameters().items():
            assert parameter.grad is not None, name
            parameter.copy_(parameter.grad)
    part = engine.export()
    return {} if part is None else part.tensors()


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("dtype", ["fp64", "fp32"])
@pytest.mark.parametrize("padded", [False, True], ids=["packed", "padded"])
@pytest.mark.parametrize("name", CASES)
def test_hidden_states_and_gradients_equal_the_vanilla_library(folder: Path, name: str, padded: bool, dtype: str):
    on = backbone(folder, dtype)
    ours, theirs = engines(CASES[name], on, padded)
    rows = random_rows(LENGTHS, on)
    types = [[int(i > 3) for i in range(len(row))] for row in rows] if on.uses_token_types else None
    batch = pack(rows, types)
    found, expected = ours.hidden(batch), theirs.hidden(batch)
    assert distance(found, expected) < TOLERANCE[dtype]
    if CASES[name][2] is None:
        assert not found.requires_grad and not expected.requires_grad
        return
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for hidden in (found, expected):
        (hidden * weights.to(hidden.dtype)).sum().backward()
    mine, other = gradients(ours), gradients(theirs)
    assert list(mine) == list(other) and mine
    for key in mine:
        assert norm_distance(mine[key], other[key]) < TOLERANCE[dtype], key


@pytest.mark.parametrize("name", ["peft-chain", "adapters-stack-of-subsets", "adapters-par"])
def test_every_layer_equals_the_vanilla_library(folder: Path, name: str):
    on = backbone(folder)
    ours, theirs = engines(CASES[name], on, padded=True)
    batch = pack(random_rows(LENGTHS, on))
    for layer in range(on.layers + 1):
        assert distance(ours.hidden(batch, upto=layer), theirs.hidden(batch, upto=layer)) < 1e-10, f"layer {layer}"


@pytest.mark.parametrize("name", ["peft-chain", "adapters-stack", "adapters-lora-subset"])
def test_all_engines_export_the_same_part(tiny_xlmr: Path, name: str):
    ours, theirs = engines(CASES[name], backbone(tiny_xlmr), padded=False)
    mine, other = ours.export(), theirs.export()
    assert mine is not None and other is not None
    assert mine.digest() == other.digest()
    assert (mine.name, mine.task, mine.trained_on) == (other.name, other.task, other.trained_on)


@pytest.mark.parametrize("name", ["peft-chain", "adapters-stack"])
def test_an_exported_part_is_apart_from_the_engine(tiny_xlmr: Path, name: str):
    for engine in engines(CASES[name], backbone(tiny_xlmr), padded=False):
        part = engine.export()
        assert part is not None and not any(p.requires_grad for p in part.parameters())
        before = part.digest()
        with torch.no_grad():
            for parameter in engine.parameters().values():
                parameter.zero_()
        assert part.digest() == before


@pytest.mark.parametrize("name", CASES)
def test_no_engine_changes_the_backbone(tiny_xlmr: Path, name: str):
    on = backbone(tiny_xlmr)
    weights = {key: tensor.clone() for key, tensor in on.model.state_dict().items()}
    batch = pack(random_rows((3, 8), on))
    before = get_engine("packed")(on, [], None).hidden(batch)
    for engine in engines(CASES[name], on, padded=True):
        engine.hidden(batch, training=True)
    assert torch.equal(get_engine("packed")(on, [], None).hidden(batch), before)
    assert on.model.state_dict().keys() == weights.keys()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in on.model.state_dict().items())


@pytest.mark.parametrize("engine", ["packed", "peft", "adapters"])
def test_no_engine_changes_the_parts_that_it_is_given(tiny_xlmr: Path, engine: str):
    on = backbone(tiny_xlmr)
    sites = ("query", "ffn_down")
    below = [frozen(random_part(LoRA(rank=2, sites=sites), on, 1))] if engine != "adapters" else []
    new = random_part(LoRA(rank=2, sites=sites), on, 2)
    before = [part.digest() for part in (*below, new)]
    built = get_engine(engine)(on, below, new)
    built.hidden(pack(random_rows((3, 8), on)), training=True).sum().backward()
    with torch.no_grad():
        for parameter in built.parameters().values():
            parameter.zero_()
    assert [part.digest() for part in (*below, new)] == before
    assert all(p.grad is None for p in new.parameters())


@pytest.mark.parametrize("name", ["peft-frozen-and-new", "adapters-stack"])
def test_only_the_new_part_learns(tiny_xlmr: Path, name: str):
    for engine in engines(CASES[name], backbone(tiny_xlmr), padded=False):
        part = engine.export()
        assert part is not None
        learning = engine.parameters()
        assert sum(p.numel() for p in learning.values()) == part.size()
        assert all(p.requires_grad for p in learning.values())
        if hasattr(engine, "model"):
            assert {id(p) for p in engine.model.parameters() if p.requires_grad} == {id(p) for p in learning.values()}
