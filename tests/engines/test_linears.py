"""Query, key and value in one product, and weights with modules merged in, give what each Linear and part gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import make_part
from tiny import backbone, distance, frozen, random_part, random_rows
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from adapterxl.backbone import Backbone, fingerprint
from adapterxl.engines.packed import PackedEngine
from adapterxl.modules import Bottleneck, DoRA, FusionPart, LoRA, LoRAPart, Method, Part
from adapterxl.modules.ia3 import IA3Part
from adapterxl.ragged import pack

QKV = ("query", "key", "value")


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def rescaling(on: Backbone, seed: int) -> Part:
    """A trained DoRA."""
    part = frozen(random_part(LoRA(rank=2), on, seed))
    assert isinstance(part, LoRAPart)
    generator = torch.Generator().manual_seed(seed)
    factors = {key: part.factors(*key) for key in part.keys}
    rows = {
        key: 1 + 0.2 * torch.randn(b.shape[0], generator=generator, dtype=b.dtype) for key, (_, b) in factors.items()
    }  # type: ignore[misc]
    return LoRAPart("d", factors, rows=rows).requires_grad_(False)  # type: ignore[arg-type]


def ia3(on: Backbone, seed: int) -> Part:
    generator = torch.Generator().manual_seed(seed)
    widths = {"key": on.hidden, "value": on.hidden, "ffn_up": on.intermediate}
    keys = [(layer, site) for layer in range(on.layers) for site in widths]
    scales = {key: 1 + 0.2 * torch.randn(widths[key[1]], generator=generator, dtype=on.dtype) for key in keys}
    return IA3Part("i", scales).requires_grad_(False)


def fusion(on: Backbone) -> Part:
    members = [[make_part(LoRA(rank=2, layers=(1, 2)), name, on, seed)] for seed, name in ((8, "a"), (9, "b"))]
    part = FusionPart("f", members, "ab", "lowrank").begun(on, torch.Generator().manual_seed(1), on.dtype)
    return part.finished({name: torch.randn_like(weight) for name, weight in part.tensors().items()})


def stacks(on: Backbone) -> dict[str, list[Part]]:
    lora = frozen(random_part(LoRA(rank=3), on, 1))
    some = frozen(random_part(LoRA(rank=2, sites=("value", "ffn_down"), layers=(1,)), on, 2))
    bottleneck = frozen(random_part(Bottleneck(variant="double_seq_bn"), on, 3))
    return {
        "lora": [lora],
        "few sites": [some],
        "sequence": [lora, rescaling(on, 4), ia3(on, 5), some],
        "bottleneck between": [lora, bottleneck, some],
        "before and after a fusion": [rescaling(on, 6), fusion(on), lora],
        "nothing": [],
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp64", 1e-11), ("fp32", 1e-4)])
def test_merged_weights_give_what_the_parts_give_and_the_backbone_stays(
    folder: Path, dtype: str, tolerance: float
) -> None:
    on = Backbone(folder, dtype=dtype, device="cpu")
    batch = pack(random_rows((7, 1, 12, 7), on))
    for name, parts in stacks(on).items():
        engine = PackedEngine(on, parts, None)
        before = {key: tensor.clone() for key, tensor in on.model.state_dict().items()}
        expected = engine.hidden(batch)
        engine.merge()
        assert bool(engine.merged) == bool(parts), name
        assert not any(part.kind in ("lora", "ia3") for part in engine.plan[0]) or "fusion" in name
        assert distance(engine.hidden(batch), expected) < tolerance, name
        assert all(torch.equal(before[key], tensor) for key, tensor in on.model.state_dict().items()), name
    assert distance(PackedEngine(on, [], None).hidden(batch), backbone_states(on, batch)) < tolerance


def backbone_states(on: Backbone, batch: Any) -> Tensor:
    ids, types, mask, index = batch.padded(on.config.pad_token_id)
    with torch.no_grad():
        states: Tensor = on.model(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state
    return states.flatten(0, 1)[index]


class Quantised(nn.Linear):
    """Stands for a Linear of another library: not ours to take apart."""


def test_nothing_is_merged_in_half_precision_into_other_linears_or_while_something_learns(folder: Path) -> None:
    half = Backbone(folder, dtype="bf16", device="cpu")
    full = Backbone(folder, device="cpu")
    lora: Sequence[Method] = (LoRA(rank=2),)
    for on, new in ((half, None), (full, random_part(LoRA(rank=2), full)), (full, None)):
        if new is None and on is full:
            for layer in on.model.encoder.layer:
                layer.output.dense.__class__ = layer.attention.self.key.__class__ = Quantised
        engine = PackedEngine(on, [frozen(random_part(method, on)) for method in lora], new)
        plan = engine.plan
        engine.merge()
        assert engine.merged == {} and engine.plan is plan


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("sites", "graph", "expected"),
    [((), True, 4), (QKV, True, 1 + 1 + 3 + 3), (("query",), True, 6 + 2), (("query",), False, 4 + 2)],
)
def test_query_key_and_value_are_one_product_unless_one_alone_would_keep_the_rest(
    tiny_xlmr: Path, sites: Sequence[str], graph: bool, expected: int
) -> None:
    on = Backbone(tiny_xlmr, device="cpu")
    batch = pack(random_rows((7, 5), on))
    part = random_part(LoRA(rank=2, sites=tuple(sites)), on) if sites else None
    engine = PackedEngine(on, [], part)
    with torch.set_grad_enabled(graph), Products() as counter:
        engine.hidden(batch)
    assert counter.count == on.layers * expected


def test_the_linears_keep_names_values_and_memory_when_they_lie_side_by_side(folder: Path) -> None:
    on, same = Backbone(folder, device="cpu"), Backbone(folder, device="cpu")
    engine = PackedEngine(on, [], None)
    for (name, tensor), (other, expected) in zip(
        on.model.state_dict().items(), same.model.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(tensor, expected)
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in on.model.parameters()}
    assert sum(storages.values()) == sum(p.nbytes for p in on.model.parameters())
    assert on.fingerprint == fingerprint(folder)
    batch = pack(random_rows((4, 9), on))
    expected = engine.hidden(batch)
    on.model.to(torch.float64).to(torch.float32)  # each parameter has a storage of its own again
    torch.testing.assert_close(engine.hidden(batch), expected)
    with torch.no_grad():
        on.model.encoder.layer[0].attention.self.key.weight.mul_(2.0)  # nothing stale is used
    assert not torch.allclose(engine.hidden(batch), expected)
    torch.testing.assert_close(engine.hidden(batch), backbone_states(on, batch), rtol=1e-4, atol=1e-5)


def test_dora_learns_the_same_whether_its_first_products_are_joined(tiny_xlmr: Path) -> None:
    on = backbone(tiny_xlmr)
    batch = pack(random_rows((4, 9), on))
    found = []
    for joined in (True, False):
        engine = PackedEngine(on, [], random_part(DoRA(rank=2), on, 3))
        if not joined:
            engine.new.add_sites = lambda *a, part=engine.new: Part.add_sites(part, *a)  # type: ignore[union-attr, method-assign, assignment, misc]
        engine.hidden(batch).square().sum().backward()
        found.append([p.grad for p in engine.parameters().values()])
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None and distance(one, other) < 1e-9


def test_precision_is_the_backbones_whatever_autocast_is_open(tiny_xlmr: Path) -> None:
    batch = pack(random_rows((4, 9), Backbone(tiny_xlmr, device="cpu")))
    for dtype in ("fp32", "bf16"):
        on = Backbone(tiny_xlmr, device="cpu", dtype=dtype)
        engine = PackedEngine(on, [], random_part(LoRA(rank=2), on, 3))
        plain = engine.hidden(batch)
        with torch.autocast("cpu", torch.bfloat16):
            found = engine.hidden(batch)
            found.float().square().sum().backward()
        assert found.dtype == on.dtype and torch.equal(found, plain)
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in engine.parameters().values())
