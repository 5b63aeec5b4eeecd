"""Frozen weights in little memory: 8 and 4 bits as bitsandbytes has them, embeddings on the CPU, a census of dtypes."""

from __future__ import annotations

import sys
import weakref
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import distance, frozen, norm_distance, random_part, random_rows
from torch import Tensor, nn

from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine, to_adapters, to_peft
from adapterxl.engines.encoder import encode
from adapterxl.engines.packed import PackedEngine, weight
from adapterxl.errors import BackboneError, EngineError, UsageError
from adapterxl.frozen import CpuEmbedding, QuantizedLinear, dense_weight
from adapterxl.modules import SITES, Bottleneck, DoRA, LoRA
from adapterxl.ragged import RaggedBatch, pack

KEPT = {8: torch.int8, 4: torch.uint8}


@pytest.fixture(scope="module")
def plain(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def four(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu", bits=4)


@pytest.fixture(scope="module")
def batch(plain: Backbone) -> RaggedBatch:
    return pack(random_rows((12, 3, 9, 3), plain))


def linear(inputs: int = 128, outputs: int = 96) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs).requires_grad_(False)


# The same numbers as the library's


def test_four_bits_give_the_outputs_and_gradients_of_the_librarys_linear() -> None:
    import bitsandbytes as bnb

    dense = linear()
    theirs = bnb.nn.Linear4bit(128, 96, quant_type="nf4", compute_dtype=torch.float32)
    theirs.load_state_dict(dense.state_dict())
    theirs.to("cpu")  # that is when it quantises
    ours, found = QuantizedLinear(dense, 4), []
    for module in (ours, theirs):
        x = torch.randn(7, 128, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = module(x)
        y.square().sum().backward()
        assert x.grad is not None
        found.append((y, x.grad))
    for mine, other in zip(*found, strict=True):
        assert distance(mine, other) < 1e-6
    assert 0.02 < norm_distance(ours.dense(torch.float32), dense.weight) < 0.15


def test_eight_bits_are_within_half_a_step_of_every_weight() -> None:
    dense = linear()
    ours = QuantizedLinear(dense, 8)
    step = dense.weight.abs().amax(1, keepdim=True) / 127
    assert bool(((ours.dense(torch.float32) - dense.weight).abs() <= 0.501 * step).all())
    x = torch.randn(5, 128, requires_grad=True)
    y = ours(x)
    torch.testing.assert_close(y, nn.functional.linear(x, ours.dense(torch.float32), dense.bias))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, ours.dense(torch.float32).sum(0).expand(5, -1))


@pytest.mark.parametrize("bits", [8, 4])
def test_nothing_is_kept_for_the_backward_pass(bits: int) -> None:
    kept: list[Tensor] = []
    x = torch.randn(50, 128, requires_grad=True) * 2
    module, alive = QuantizedLinear(linear(), bits), weakref.ref(x)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = module(x)
    del x
    assert kept == [] and alive() is None and y.requires_grad  # the library's int8 Linear keeps x beside the hooks


@pytest.mark.parametrize("bits", [8, 4])
def test_the_same_bits_are_the_same_weights_in_every_dtype(bits: int, tiny_xlmr: Path) -> None:
    found = [
        weight(Backbone(tiny_xlmr, dtype=dtype, bits=bits, device="cpu"), 1, "ffn_up") for dtype in ("fp32", "bf16")
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize(("bits", "most"), [(8, 0.02), (4, 0.4)])
def test_a_quantised_encoder_is_near_the_plain_one(
    bits: int, most: float, plain: Backbone, batch: RaggedBatch, tiny_xlmr: Path
) -> None:
    # Random weights are as hard as it gets: nothing in the layers makes up for what is rounded.
    on = Backbone(tiny_xlmr, bits=bits, device="cpu")
    found, expected = encode(on, batch, [()]), encode(plain, batch, [()])
    assert isinstance(found, Tensor) and isinstance(expected, Tensor)
    assert 1e-4 < norm_distance(found, expected) < most


# What is where


@pytest.mark.parametrize("which", ["tiny_xlmr", "tiny_bert"])
@pytest.mark.parametrize(
    ("dtype", "bits", "embeddings"), list(product(("fp32", "bf16"), (None, 8, 4), ("device", "cpu")))
)
def test_every_parameter_has_the_dtype_and_place_of_the_options(
    which: str, dtype: str, bits: int | None, embeddings: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(which)
    on = Backbone(folder, dtype=dtype, bits=bits, embeddings=embeddings, checkpointing=True, device="cpu")
    wide = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    matrices = {f"{site}.weight" for site in SITES.values()}
    for name, parameter in on.model.named_parameters():
        narrow = bits and name.startswith("encoder.") and name.split(".", 3)[3] in matrices
        assert parameter.dtype == (KEPT[bits] if narrow and bits else wide), name
        assert parameter.device.type == "cpu" and not parameter.requires_grad, name
    scales = [b for n, b in on.model.named_buffers() if n.startswith("encoder.") and b.is_floating_point()]
    assert all(scale.dtype == torch.float32 for scale in scales) and bool(scales) == bool(bits)
    assert isinstance(on.model.embeddings.word_embeddings, CpuEmbedding) == (embeddings == "cpu")
    on.model.to("meta")
    elsewhere = {name for name, p in on.model.named_parameters() if p.device.type != "meta"}
    assert elsewhere == ({"embeddings.word_embeddings.weight"} if embeddings == "cpu" else set())


@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_what_learns_is_fp32_and_learns_on_any_backbone(
    dtype: str, bits: int | None, tiny_xlmr: Path, plain: Backbone, batch: RaggedBatch
) -> None:
    on = Backbone(tiny_xlmr, dtype=dtype, bits=bits, embeddings="cpu", checkpointing=True, device="cpu")
    gradients = []
    for backbone in (on, plain):
        engine = PackedEngine(backbone, [], random_part(LoRA(rank=2), plain))
        assert {(p.dtype, p.device.type) for p in engine.parameters().values()} == {(torch.float32, "cpu")}
        hidden = engine.hidden(batch)
        assert hidden.dtype == backbone.dtype
        hidden.float().square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in engine.parameters().values() if p.grad is not None]))
    assert bool(torch.isfinite(gradients[0]).all())
    near = {None: 1e-5 if dtype == "fp32" else 0.05, 8: 0.1, 4: 1.0}[bits]
    assert norm_distance(*gradients) < near


def test_autocast_around_it_changes_nothing(tiny_xlmr: Path, plain: Backbone, batch: RaggedBatch) -> None:
    engine = PackedEngine(Backbone(tiny_xlmr, dtype="bf16", device="cpu"), [], random_part(LoRA(rank=2), plain))
    with torch.autocast("cpu", torch.bfloat16):
        found = engine.hidden(batch)
    assert found.dtype == torch.bfloat16 and torch.equal(found, engine.hidden(batch))


def test_embeddings_on_the_cpu_send_each_distinct_row_once_and_change_nothing(
    tiny_xlmr: Path, plain: Backbone, batch: RaggedBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    rows = CpuEmbedding.rows
    monkeypatch.setattr(CpuEmbedding, "rows", lambda self, ids: sent.append(len(ids)) or rows(self, ids))
    on = Backbone(tiny_xlmr, embeddings="cpu", device="cpu")
    for engine in ("packed", "peft", "adapters"):
        part = random_part(LoRA(rank=2, sites=("query", "ffn_up")), plain)
        found, expected = (get_engine(engine)(one, [], part).hidden(batch) for one in (on, plain))
        assert torch.equal(found, expected), engine
    assert sent == [len(set(batch.input_ids.tolist()))] * 3


def test_the_identity_of_a_backbone_is_that_of_its_files(tiny_xlmr: Path, plain: Backbone, four: Backbone) -> None:
    small = Backbone(tiny_xlmr, bits=8, dtype="bf16", embeddings="cpu", device="cpu")
    assert small.describe() == plain.describe() == four.describe()
    assert small.options() == {"bits": 8, "embeddings": "cpu"} and plain.options() == {}


# DoRA rescales the weights that are there


def test_a_fresh_dora_on_four_bits_changes_nothing_and_starts_at_the_norms_of_those_weights(
    four: Backbone, batch: RaggedBatch
) -> None:
    part = DoRA(rank=2).build("fresh", four, torch.Generator().manual_seed(0), torch.float32)
    engine = PackedEngine(four, [], part)
    assert distance(engine.hidden(batch), PackedEngine(four, [], None).hidden(batch)) < 1e-5
    linear = four.model.encoder.layer[2].output.dense
    torch.testing.assert_close(engine.parameters()["m.2_ffn_down"].detach(), dense_weight(linear).norm(dim=1))


# What is refused


def test_without_the_extra_one_line_names_it(tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UsageError, match=r'bitsandbytes, .*: pip install "adapterxl\[quant\]"\.$'):
        Backbone(tiny_xlmr, bits=4, device="cpu")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": 3}, "found 3, expected 8, 4, or none"),
        ({"bits": 4, "dtype": "fp64"}, "fp64 is for checks"),
        ({"embeddings": "disk"}, "No place 'disk'.*device, cpu"),
    ],
)
def test_options_that_are_not_there_are_refused(options: dict[str, Any], said: str, tiny_xlmr: Path) -> None:
    with pytest.raises(UsageError, match=said):
        Backbone(tiny_xlmr, device="cpu", **options)


def test_weights_that_are_loaded_keep_their_precision_and_may_change_their_place(
    tiny_xlmr: Path, plain: Backbone, batch: RaggedBatch
) -> None:
    on = Backbone(tiny_xlmr, device="cpu")
    with pytest.raises(UsageError, match="The weights are loaded"):
        on.adapt(bits=4)
    for place in ("cpu", "device"):
        on.adapt(embeddings=place, checkpointing=place == "cpu", dtype_name="fp32")
        assert isinstance(on.model.embeddings.word_embeddings, CpuEmbedding) == (place == "cpu")
        found, expected = encode(on, batch, [()]), encode(plain, batch, [()])
        assert isinstance(found, Tensor) and isinstance(expected, Tensor) and torch.equal(found, expected)


def test_a_backbone_may_wait_for_its_precision(tiny_xlmr: Path, four: Backbone) -> None:
    on = Backbone(tiny_xlmr, device="cpu", load=False)
    assert not on.loaded and on.fingerprint == four.fingerprint and on.layers == 3
    on.adapt(bits=4, dtype_name="bf16")
    assert isinstance(on.model.encoder.layer[0].output.dense, QuantizedLinear) and on.loaded


def test_nothing_is_merged_into_quantised_weights(four: Backbone, plain: Backbone) -> None:
    with pytest.raises(BackboneError, match="in 4 bits, and nothing is ever merged"):
        four.check_mergeable()
    plain.check_mergeable()


@pytest.mark.parametrize(("engine", "method"), [("adapters", Bottleneck()), ("adapters", LoRA()), ("peft", DoRA())])
def test_engines_that_cannot_run_it_say_so(engine: str, method: Any, four: Backbone, plain: Backbone) -> None:
    with pytest.raises(EngineError, match="in 4 bits.*use --engine packed"):
        get_engine(engine)(four, [], random_part(method, plain))


def test_a_vanilla_model_is_not_loaded_in_bits_without_a_word(four: Backbone) -> None:
    from samples import make_module

    module = make_module(four, "one", [frozen(random_part(LoRA(rank=2, sites=("query",)), four))])
    for load in (to_peft, to_adapters):
        with pytest.raises(EngineError, match="in 4 bits, but a vanilla model"):
            load(module, on=four)
