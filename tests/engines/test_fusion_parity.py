"""AdapterFusion equals the adapters library, forward, gradients, penalty; what the libraries do not run is refused."""

from __future__ import annotations

from typing import Any

import adapters
import pytest
import torch
from adapters.composition import Fuse
from tiny import backbone, distance, frozen, norm_distance, random_part, random_rows
from torch import Tensor

from adapterxl.backbone import Backbone, share_structure
from adapterxl.engines import Engine, get_engine
from adapterxl.errors import EngineError
from adapterxl.modules import Bottleneck, FusionPart, LoRA, Part
from adapterxl.ragged import pack

LENGTHS = (5, 1, 24, 2, 9, 5, 70)


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def on(request: pytest.FixtureRequest) -> Backbone:
    return backbone(request.getfixturevalue(request.param))


def begun(on: Backbone, *methods: Bottleneck, noise: float = 0.3) -> FusionPart:
    """A fusion that is being trained: away from its initial values, so that all it learns has a gradient."""
    members = [[frozen(random_part(method, on, seed, f"m{seed}"))] for seed, method in enumerate(methods)]
    labels = [f"m{index}" for index in range(len(members))]
    generator = torch.Generator().manual_seed(9)
    part = FusionPart("fuse", members, labels, "adapterfusion").begun(on, generator, on.dtype)
    with torch.no_grad():
        for weight in part.learnable().values():
            weight.add_(noise * torch.randn(weight.shape, generator=generator).to(weight.dtype))
    return part


SEQ = (Bottleneck(reduction=4), Bottleneck(reduction=8))
# Parts below and above the fusion, its members, the new method.
CASES: dict[str, tuple[tuple[Any, ...], tuple[Bottleneck, ...], tuple[Any, ...], Any]] = {
    "two": ((), SEQ, (), None),
    "three": ((), (*SEQ, Bottleneck(reduction=2)), (), None),
    "houlsby": ((), (Bottleneck(variant="double_seq_bn"), Bottleneck(variant="double_seq_bn", reduction=4)), (), None),
    "some-layers": ((), (Bottleneck(layers=(0, 2)), Bottleneck(reduction=4, layers=(0, 2))), (), None),
    "new-on-top": ((), SEQ, (), Bottleneck(reduction=2)),
    "above-one": ((Bottleneck(reduction=2),), SEQ, (), None),
    "below-one": ((), SEQ, (Bottleneck(reduction=2),), Bottleneck(reduction=4)),
    "lora-below": ((LoRA(rank=2, sites=("query", "ffn_down")),), SEQ, (), None),
    "lora-on-top": ((), SEQ, (), LoRA(rank=2, sites=("query", "ffn_down"))),
}


def parts_of(name: str, on: Backbone) -> tuple[list[Part], Part | None]:
    below, members, above, new = CASES[name]
    stack: list[Part] = [frozen(random_part(m, on, 20 + i, f"below{i}")) for i, m in enumerate(below)]
    stack.append(begun(on, *members))
    stack += [frozen(random_part(m, on, 30 + i, f"above{i}")) for i, m in enumerate(above)]
    return stack, None if new is None else random_part(new, on, 40, "new")


def gradients(engine: Engine) -> dict[str, Tensor]:
    """Gradients under canonical names: put in the place of the weights, they come out of the exported parts."""
    with torch.no_grad():
        for name, parameter in engine.parameters().items():
            assert parameter.grad is not None, name
            parameter.copy_(parameter.grad)
    new = engine.export()
    found = {} if new is None else {f"new.{key}": tensor for key, tensor in new.tensors().items()}
    return found | {f"{i}.{key}": t for i, part in engine.fusions().items() for key, t in part.tensors().items()}


@pytest.mark.parametrize("padded", [False, True], ids=["packed", "padded"])
@pytest.mark.parametrize("name", CASES)
def test_adapterfusion_and_its_gradients_equal_the_library(on: Backbone, name: str, padded: bool) -> None:
    stack, new = parts_of(name, on)
    ours, theirs = get_engine("packed")(on, stack, new), get_engine("adapters")(on, stack, new, padded=padded)  # type: ignore[call-arg]
    rows = random_rows(LENGTHS, on)
    types = [[int(i > 3) for i in range(len(row))] for row in rows] if on.uses_token_types else None
    batch = pack(rows, types)
    found, expected = ours.hidden(batch), theirs.hidden(batch)
    assert distance(found, expected) < 1e-10
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for engine, hidden in ((ours, found), (theirs, expected)):
        penalty = engine.penalty()
        assert penalty is not None and penalty > 0.01
        ((hidden * weights).sum() + penalty).backward()
    assert float(ours.penalty() - theirs.penalty()) == pytest.approx(0, abs=1e-10)  # type: ignore[operator]
    mine, other = gradients(ours), gradients(theirs)
    assert mine.keys() == other.keys() and mine
    for key in mine:
        if key.endswith("key.bias"):  # learns nowhere: its gradient is zero
            assert not mine[key].any() and not other[key].any()
        else:
            assert norm_distance(mine[key], other[key]) < 1e-10, key


def test_the_penalty_is_the_librarys(on: Backbone) -> None:
    part = begun(on, *SEQ)
    engine: Any = get_engine("adapters")(on, [part], None)
    expected = engine.model.get_fusion_regularization_loss()
    assert float(part.penalty()) == pytest.approx(float(expected), rel=1e-12)  # type: ignore[arg-type]
    values = [tensor for name, tensor in part.tensors().items() if name.endswith("value.weight")]
    eye = torch.eye(on.hidden, dtype=torch.float64)
    assert float(expected) == pytest.approx(0.01 * sum(float(((v - eye) ** 2).sum()) for v in values), rel=1e-12)
    done = part.finished({})
    assert get_engine("packed")(on, [done], None).penalty() is None
    assert get_engine("adapters")(on, [done], None).penalty() is None


def test_initial_values_and_dropout_are_the_librarys(on: Backbone) -> None:
    model: Any = share_structure(on.model)
    adapters.init(model)
    for name in ("aa", "bb"):
        model.add_adapter(name, config="seq_bn")
    model.add_adapter_fusion(Fuse("aa", "bb"))
    theirs = model.encoder.layer[1].output.adapter_fusion_layer["aa,bb"]
    ours = {n.removeprefix("1.ffn."): t for n, t in begun(on, *SEQ, noise=0.0).tensors().items() if n[0] == "1"}
    assert torch.equal(ours["value.weight"].float(), theirs.value.weight.float())
    for name in ("query", "key"):
        assert not ours[f"{name}.bias"].any() and not getattr(theirs, name).bias.any()
        for weight in (ours[f"{name}.weight"], getattr(theirs, name).weight):
            assert float(weight.std()) == pytest.approx(0.02, rel=0.1)
    assert theirs.dropout.p == on.config.attention_probs_dropout_prob
    assert theirs.T == 1.0


def test_both_engines_give_the_same_finished_fusion_over_the_very_members(on: Backbone) -> None:
    stack, new = parts_of("new-on-top", on)
    given = stack[0]
    assert isinstance(given, FusionPart)
    before = [part.digest() for parts in given.members for part in parts]
    for name in ("packed", "adapters"):
        engine = get_engine(name)(on, stack, new)
        engine.hidden(pack(random_rows((3, 8), on)), training=True).sum().backward()
        fusion = engine.fusions()[0]
        with torch.no_grad():
            for parameter in engine.parameters().values():
                parameter.zero_()
        assert fusion.trained and fusion.dropout_p == 0.0 and fusion.made_of is None
        assert fusion.tensors().keys() == given.tensors().keys()
        assert all(torch.equal(tensor, given.tensors()[key]) for key, tensor in fusion.tensors().items())
        assert [part.digest() for parts in fusion.members for part in parts] == before
        assert [[id(p) for p in parts] for parts in fusion.members] == [[id(p) for p in ps] for ps in given.members]
        assert not any(p.requires_grad for p in fusion.parameters())
        # And a trained one is frozen.
        again = get_engine(name)(on, [fusion], None)
        assert not again.parameters() and not again.fusions()
        assert not again.hidden(pack(random_rows((3, 8), on))).requires_grad


@pytest.mark.parametrize("name", ["packed", "adapters"])
def test_only_the_fusion_and_the_new_part_learn(on: Backbone, name: str) -> None:
    stack, new = parts_of("below-one", on)
    engine = get_engine(name)(on, stack, new)
    assert isinstance(stack[0], FusionPart) and new is not None
    keys = {f"fusion0.{key}" for key in stack[0].learnable()}
    assert keys <= engine.parameters().keys() and not any("key.bias" in key for key in keys)
    count = sum(p.numel() for p in engine.parameters().values())
    assert count == sum(p.numel() for p in stack[0].learnable().values()) + new.size()
    assert all(p.requires_grad for p in engine.parameters().values())
    model = engine.model if name == "adapters" else torch.nn.ModuleList(engine.plan[0])  # type: ignore[attr-defined]
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in engine.parameters().values()}
    assert not any(p.requires_grad for p in stack[0].parameters())  # what was given is left alone


def test_par_bn_is_refused_since_the_library_adds_the_blocks_input_twice(on: Backbone) -> None:
    """Beside the refusal: of two equal members, the library's fusion is not one of them, and by exactly that."""
    model: Any = share_structure(on.model)
    adapters.init(model)
    for name in ("aa", "bb"):
        model.add_adapter(name, config=adapters.ParBnConfig())
    model.add_adapter_fusion(Fuse("aa", "bb"))
    model.set_active_adapters(Fuse("aa", "bb"))
    model.double()
    seen: dict[str, Tensor] = {}
    output = model.encoder.layer[0].output
    output.register_forward_pre_hook(lambda _, given: seen.update(h=given[1]))
    output.dense.register_forward_hook(lambda *given: seen.update(z=given[2]))
    output.register_forward_hook(lambda *given: seen.update(out=given[2]))
    with torch.no_grad():
        model.eval()(input_ids=torch.tensor([random_rows((9,), on)[0]]))
        wrong = output.LayerNorm(seen["z"] + 2 * seen["h"])  # the adapters start as nothing
        right = output.LayerNorm(seen["z"] + seen["h"])
    assert distance(seen["out"], wrong) < 1e-6 and distance(seen["out"], right) > 0.1


def test_engines_refuse_the_fusions_that_their_library_does_not_have(on: Backbone) -> None:
    members = [[frozen(random_part(LoRA(rank=2), on, seed))] for seed in (1, 2)]
    low = FusionPart("fuse", members, "ab", "lowrank").begun(on, torch.Generator(), on.dtype)
    with pytest.raises(EngineError, match="peft library has no fusion; use --engine packed"):
        get_engine("peft")(on, [low], None)
    with pytest.raises(EngineError, match="no low-rank fusion; use --engine packed"):
        get_engine("adapters")(on, [low], None)
    with pytest.raises(EngineError, match="par_bn in a stack"):
        get_engine("adapters")(on, [begun(on, *SEQ)], random_part(Bottleneck(variant="par_bn"), on))
