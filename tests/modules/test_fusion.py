"""Fusion by formula: low-rank against a dense float64 oracle, identities, sizes, what is recorded, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import backbone, distance, frozen, random_part, random_rows
from torch import Tensor, nn

from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine
from adapterxl.engines.encoder import encode
from adapterxl.engines.packed import join_frozen
from adapterxl.errors import CompositionError
from adapterxl.modules import SITES, Bottleneck, BottleneckPart, FusionPart, IA3Part, LoRA, LoRAPart, Part
from adapterxl.modules.attention_record import recording
from adapterxl.modules.bottleneck import VARIANTS
from adapterxl.ragged import pack


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return backbone(tiny_xlmr)


def lora(on: Backbone, seed: int, **settings: object) -> LoRAPart:
    part = frozen(random_part(LoRA(**({"rank": 3} | settings)), on, seed, f"lora{seed}"))  # type: ignore[arg-type]
    assert isinstance(part, LoRAPart)
    return part


def bottleneck(on: Backbone, seed: int, **settings: object) -> BottleneckPart:
    part = frozen(random_part(Bottleneck(**settings), on, seed, f"bn{seed}"))  # type: ignore[arg-type]
    assert isinstance(part, BottleneckPart)
    return part


def dora(on: Backbone, seed: int) -> LoRAPart:
    """A finished DoRA: a LoRA that rescales rows."""
    plain = lora(on, seed)
    generator = torch.Generator().manual_seed(seed)
    factors = {key: pair for key in plain.keys if (pair := plain.factors(*key)) is not None}
    rows = {key: 1 + 0.2 * torch.randn(b.shape[0], generator=generator).double() for key, (_, b) in factors.items()}
    return LoRAPart("dora", factors, rows=rows).requires_grad_(False)


def ia3(on: Backbone, seed: int) -> IA3Part:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"key": on.hidden, "value": on.hidden, "ffn_up": on.intermediate}
    scales = {
        (layer, site): 1 + 0.2 * torch.randn(size, generator=generator).double()
        for layer in range(on.layers)
        for site, size in sizes.items()
    }
    return IA3Part("ia3", scales).requires_grad_(False)


def fusion(
    on: Backbone, members: Sequence[Sequence[Part]], variant: str = "lowrank", rank: int = 3, seed: int = 0
) -> FusionPart:
    """A trained fusion with weights that tell members apart."""
    labels = [f"m{index}" for index in range(len(members))]
    generator = torch.Generator().manual_seed(seed)
    begun = FusionPart("fuse", members, labels, variant, rank=rank).begun(on, generator, on.dtype)
    noise = {name: t + 0.5 * torch.randn(t.shape, generator=generator).double() for name, t in begun.tensors().items()}
    return begun.finished({name: t.to(on.dtype) for name, t in noise.items() if name in begun.learnable()})


def inputs(on: Backbone, tokens: int = 7, wide: bool = False, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, on.intermediate if wide else on.hidden, generator=generator, dtype=torch.float64)


def by_formula(x: Tensor, y: Tensor, changes: Sequence[Tensor], q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """ARCHITECTURE section 6, token by token in plain loops: outputs and shares."""
    out, shares = y.clone(), torch.zeros(len(x), len(changes), dtype=torch.float64)
    for t in range(len(x)):
        scores = [float((x[t] @ q) @ (d[t] @ k)) / q.shape[1] ** 0.5 for d in changes]
        exponentials = torch.tensor(scores, dtype=torch.float64).exp()
        shares[t] = exponentials / exponentials.sum()
        for p, d in zip(shares[t], changes, strict=True):
            out[t] = out[t] + p * d[t]
    return out, shares


@pytest.mark.parametrize("site", SITES)
def test_low_rank_fusion_of_loras_is_the_formula_with_dense_matrices(on: Backbone, site: str) -> None:
    members = [[lora(on, 1)], [lora(on, 2, rank=5)], [lora(on, 3, rank=1), lora(on, 4, rank=2)]]
    part = fusion(on, members)
    x = inputs(on, wide=site == "ffn_down")
    y = inputs(on, wide=site == "ffn_up", seed=4)
    changes = []
    for parts in members:
        dense = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64)
        for one in parts:
            a, b = one.factors(1, site)  # type: ignore[misc]
            dense += b @ a
        changes.append(x @ dense.T)
    expected, shares = by_formula(x, y, changes, *(part.tensors()[f"1.{site}.{name}"] for name in "QK"))
    assert shares.std(0).min() > 0.01  # the members are told apart
    joined = part.over([join_frozen(parts) for parts in members])  # as the engine runs it: one LoRA a member
    with recording() as seen:
        found = part.add(1, site, x, y)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(joined.add(1, site, x, y), expected, rtol=1e-12, atol=1e-12)
    assert seen.means()[0].weights == pytest.approx(shares.mean(0).tolist(), rel=1e-12)


def test_low_rank_fusion_of_dora_ia3_and_lora_is_the_formula(on: Backbone) -> None:
    first, second, third = dora(on, 1), ia3(on, 2), lora(on, 3)
    part = fusion(on, [[first], [second], [third]])
    x, bias = inputs(on), inputs(on, 1, seed=5)[0]
    weight = inputs(on, on.hidden, seed=6)
    y = x @ weight.T + bias
    a, b = first.factors(0, "value")  # type: ignore[misc]
    rows, scales = first.row_scale(0, "value"), second.row_scale(0, "value")
    assert rows is not None and scales is not None
    changes = [
        x @ (rows[:, None] * (weight + b @ a)).T + bias - y,
        scales * y - y,
        x @ (third.factors(0, "value")[1] @ third.factors(0, "value")[0]).T,  # type: ignore[index]
    ]
    expected, _ = by_formula(x, y, changes, *(part.tensors()[f"0.value.{name}"] for name in "QK"))
    torch.testing.assert_close(part.add(0, "value", x, y, bias), expected, rtol=1e-12, atol=1e-12)
    assert part.moved_bias(0, "value", bias) is bias


@pytest.mark.parametrize("variants", [("seq_bn", "double_seq_bn"), ("double_seq_bn", "par_bn"), ("seq_bn", "seq_bn")])
def test_low_rank_fusion_of_bottlenecks_is_the_formula(on: Backbone, variants: tuple[str, str]) -> None:
    members = [[bottleneck(on, seed, variant=v)] for seed, v in enumerate(variants)]
    part = fusion(on, members)
    z, residual, norm = inputs(on), inputs(on, seed=4), nn.LayerNorm(on.hidden, dtype=torch.float64)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    changes = []
    with torch.no_grad():
        for (one,) in members:
            u = {"seq_bn": norm(z + residual), "double_seq_bn": z, "par_bn": residual}[one.variant]
            names = ("down.weight", "down.bias", "up.weight", "up.bias")
            down_w, down_b, up_w, up_b = (one.tensors()[f"2.ffn.{name}"] for name in names)
            inner = u @ down_w.T + down_b
            inner = inner * torch.sigmoid(inner) if one.variant == "double_seq_bn" else inner.clamp(min=0)
            changes.append((inner @ up_w.T + up_b) * VARIANTS[one.variant].scaling)
        x = norm(z + residual)
        expected, _ = by_formula(x, z, changes, *(part.tensors()[f"2.ffn.{name}"] for name in "QK"))
        torch.testing.assert_close(part.adapt(2, "ffn", z, residual, norm), expected, rtol=1e-12, atol=1e-12)


def members_of(kind: str, on: Backbone) -> list[list[Part]]:
    return {
        "lora": [[lora(on, 1)], [lora(on, 2, rank=2)], [lora(on, 3), lora(on, 4)]],
        "bottleneck": [[bottleneck(on, 1)], [bottleneck(on, 2, reduction=4)], [bottleneck(on, 3)]],
        "mixed": [[lora(on, 1), bottleneck(on, 1)], [dora(on, 2), bottleneck(on, 2)], [ia3(on, 3), lora(on, 3)]],
    }[kind]  # type: ignore[return-value]


CASES = [("lora", "lowrank"), ("bottleneck", "lowrank"), ("mixed", "lowrank"), ("bottleneck", "adapterfusion")]


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_permuted_members_have_permuted_shares_and_give_the_same_output(on: Backbone, kind: str, variant: str) -> None:
    members, batch = members_of(kind, on), pack(random_rows((3, 9), on))
    part = fusion(on, members, variant)
    turned = FusionPart("fuse", members[1:] + members[:1], ["m1", "m2", "m0"], variant).begun(
        on, torch.Generator(), on.dtype
    )
    turned = turned.finished(part.tensors())
    assert turned.digest() != part.digest()
    with recording() as one:
        expected = encode(on, batch, [[part]])
    with recording() as other:
        found = encode(on, batch, [[turned]])
    assert isinstance(found, Tensor) and isinstance(expected, Tensor)
    assert distance(found, expected) < 1e-10
    assert len(one.means()) == len(part.shared)
    for ours, theirs in zip(one.means(), other.means(), strict=True):
        assert (ours.layer, ours.site, ours.tokens) == (theirs.layer, theirs.site, 12)
        assert dict(zip(ours.members, ours.weights, strict=True)) == pytest.approx(
            dict(zip(theirs.members, theirs.weights, strict=True)), rel=1e-9
        )
        assert sum(ours.weights) == pytest.approx(1) and max(ours.weights) - min(ours.weights) > 1e-6


@pytest.mark.parametrize("kind", ["lora", "bottleneck", "mixed"])
def test_equal_members_are_as_one_of_them(on: Backbone, kind: str) -> None:
    member, batch = members_of(kind, on)[0], pack(random_rows((3, 9), on))
    found = encode(on, batch, [[fusion(on, [member, member, member])]])
    assert distance(found, encode(on, batch, [member])) < 1e-10  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["lora", "bottleneck", "mixed"])
def test_a_new_low_rank_fusion_is_the_mean_of_its_members(on: Backbone, kind: str) -> None:
    members, batch = members_of(kind, on)[:2], pack(random_rows((3, 9), on))
    begun = FusionPart("fuse", members, ["a", "b"], "lowrank").begun(on, torch.Generator().manual_seed(1), on.dtype)
    with recording() as seen:
        encode(on, batch, [[begun]])
    assert seen.means() and all(one.weights == (0.5, 0.5) for one in seen.means())
    # And it can leave that point: K has a gradient from the first step, Q from the second.
    part = begun.learn()
    encode(on, batch, [[part]]).sum().backward()  # type: ignore[union-attr]
    assert all((p.grad != 0).any() == name.endswith("K") for name, p in part.learnable().items() if p.grad is not None)


def test_where_one_member_acts_it_acts_as_it_is(on: Backbone) -> None:
    a, b = lora(on, 1, sites=("query", "value")), lora(on, 2, sites=("query",), layers=(1, 2))
    part = fusion(on, [[a], [b, ia3(on, 3)]])
    x, y = inputs(on), inputs(on, seed=4)
    assert torch.equal(part.add(0, "query", x, y), a.add(0, "query", x, y))
    assert torch.equal(part.add(0, "key", x, y), ia3(on, 3).add(0, "key", x, y))
    moved = part.moved_bias(0, "key", y[0])
    assert moved is not None and torch.equal(moved, ia3(on, 3).moved_bias(0, "key", y[0]))  # type: ignore[arg-type]
    assert part.add(0, "ffn_down", x, y) is y and part.adapt(0, "ffn", y, x, nn.Identity()) is y
    shared = {(0, "value"), (1, "query"), (1, "value"), (2, "query"), (2, "value")}
    assert set(part.shared) == shared == {(int(k[0]), k[2:-2]) for k in part.tensors()}
    assert part.layers == (0, 1, 2)


@pytest.mark.parametrize(("kind", "variant"), CASES)
def test_other_rows_and_their_lengths_do_not_matter(on: Backbone, kind: str, variant: str) -> None:
    part, tokens = fusion(on, members_of(kind, on), variant), random_rows((5, 1, 24, 5), on)
    batch = pack(tokens)
    together = get_engine("packed")(on, [part], None).hidden(batch)
    for row, start in zip(tokens, batch.starts, strict=True):
        alone = get_engine("packed")(on, [part], None).hidden(pack([row]))
        assert distance(together[start : start + len(row)], alone) < 1e-10
    grouped = pack(tokens, groups=[0, 1, 0, 1])
    mixed = encode(on, grouped, [[], [part]])
    assert isinstance(mixed, Tensor)
    start = grouped.starts[3]
    assert distance(mixed[start : start + 5], together[batch.starts[3] : batch.starts[3] + 5]) < 1e-10


def test_joined_members_compute_the_same(on: Backbone) -> None:
    part, batch = fusion(on, members_of("lora", on)), pack(random_rows((3, 9), on))
    engine = get_engine("packed")(on, [part], None)
    assert [len(parts) for parts in engine.frozen[0].members] == [1, 1, 1]  # type: ignore[attr-defined]
    assert distance(engine.hidden(batch), encode(on, batch, [[part]])) < 1e-10  # type: ignore[arg-type]


def test_nothing_is_kept_for_layers_below_the_lowest_that_learns(on: Backbone) -> None:
    a, b = lora(on, 1), lora(on, 2, layers=(2,))
    begun = FusionPart("fuse", [[a], [b]], ["a", "b"], "lowrank").begun(on, torch.Generator(), on.dtype).learn()
    assert begun.layers == (0, 1, 2) and begun.learns_from == 2
    states = encode(on, pack(random_rows((3, 9), on)), [[begun]], keep_all=True)
    assert [state.requires_grad for state in states] == [False, False, False, True]


def test_the_backward_pass_keeps_ranks_and_not_what_each_member_adds(on: Backbone) -> None:
    members = [[lora(on, seed, sites=("ffn_up",), layers=(2,))] for seed in range(6)]
    batch = pack(random_rows((40, 60), on))

    def kept(parts: Sequence[Part]) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            encode(on, batch, [parts], training=True)
        return sum(sizes.values())

    def fused(count: int) -> int:
        begun = FusionPart("f", members[:count], "abcdef"[:count], "lowrank").begun(on, torch.Generator(), on.dtype)
        return kept([begun.learn()])

    # Four more members: their ranks and scores, some dozen numbers a token; outputs would be 64 each.
    assert (fused(6) - fused(2)) / batch.tokens < 4 * 24


@pytest.mark.parametrize(
    ("hidden", "layers", "kind", "rank", "mib"),
    [(768, 12, "lora", 3, 1.9), (768, 12, "lora", 8, 5.1), (1024, 24, "lora", 3, 5.1), (768, 12, "bottleneck", 3, 0.2)],
)
def test_sizes_of_low_rank_fusions_at_the_dimensions_of_xlmr(
    hidden: int, layers: int, kind: str, rank: int, mib: float
) -> None:
    """Counted by shape. At XLM-R-base sizes the default rank stays below 2 MiB, however many members."""
    on = SimpleNamespace(hidden=hidden, intermediate=4 * hidden, layers=layers)
    method = LoRA(rank=1) if kind == "lora" else Bottleneck(reduction=hidden)
    members = [[method.build("m", on, torch.Generator().manual_seed(n), torch.bfloat16)] for n in range(2)]
    begun = FusionPart("f", members, "ab", "lowrank", rank=rank).begun(on, torch.Generator(), torch.float32)
    found = sum(t.numel() * t.element_size() for t in begun.tensors().values()) / 2**20
    assert found == pytest.approx(mib, abs=0.06)
    if hidden == 768 and rank == 3:
        assert FusionPart("f", members, "ab", "lowrank").rank == 3 and found < 2
        assert begun.size() - 2 * members[0][0].size() == sum(t.numel() for t in begun.tensors().values())


def test_the_digest_covers_members_settings_and_weights_but_no_name(on: Backbone) -> None:
    a, b, c = lora(on, 1), lora(on, 2), lora(on, 3)
    part = fusion(on, [[a], [b]])
    same = fusion(on, [[a], [b]])
    same.name, same.labels = "other", ("x", "y")
    assert same.digest() == part.digest()
    untrained = FusionPart("fuse", [[a], [b]], "ab", "lowrank")
    others = [fusion(on, [[a], [c]]), fusion(on, [[b], [a]]), fusion(on, [[a], [b]], rank=2), untrained]
    others.append(fusion(on, [[a], [b]], seed=1))
    assert len({one.digest() for one in (part, *others)}) == 6
    assert part.trained and not untrained.trained and untrained.tensors() == {}


def test_members_that_cannot_be_fused_are_refused_with_the_alternative(on: Backbone) -> None:
    a, b = lora(on, 1), bottleneck(on, 2)
    refused = [
        ([[a]], "lowrank", "at least 2 members; use a single module as it is"),
        ([[a], []], "lowrank", "a head alone. Leave it out"),
        ([[a], [fusion(on, [[a], [b, a]])]], "lowrank", r"fuse\(a, b, c\)"),
        ([[a], [b]], "lowrank", "nothing to weigh. Use stack"),
        ([[a], [b]], "adapterfusion", "one bottleneck of each member, found: lora. Use kind=lowrank"),
        ([[b], [b, b]], "adapterfusion", "found: bottleneck, bottleneck. Use kind=lowrank"),
        ([[b], [bottleneck(on, 3, variant="double_seq_bn")]], "adapterfusion", "'bn3' .double_seq_bn. are not. Use"),
        ([[b], [bottleneck(on, 3, layers=(0, 2))]], "adapterfusion", "in the same layers.* Use kind=lowrank"),
        ([[bottleneck(on, s, variant="par_bn")] for s in (1, 2)], "adapterfusion", "par_bn.* Use kind=lowrank"),
        ([[a], [a]], "fulrank", "No fusion variant 'fulrank'. Variants: lowrank, adapterfusion"),
    ]
    for members, variant, said in refused:
        with pytest.raises(CompositionError, match=said):
            FusionPart("fuse", members, [str(i) for i in range(len(members))], variant)  # type: ignore[arg-type]


def test_an_untrained_fusion_runs_nowhere(on: Backbone) -> None:
    part = FusionPart("fuse", [[lora(on, 1)], [lora(on, 2)]], "ab", "lowrank")
    with pytest.raises(CompositionError, match="untrained fusion: it has no weights yet"):
        encode(on, pack(random_rows((3,), on)), [[part]])


def test_records_inside_one_another_are_apart(on: Backbone) -> None:
    part, batch = fusion(on, members_of("lora", on)), pack(random_rows((3, 4), on))
    with recording() as outer:
        encode(on, batch, [[part]])
        with recording() as inner:
            encode(on, batch, [[part]])
        encode(on, batch, [[part]])
    encode(on, batch, [[part]])
    assert {one.tokens for one in outer.means()} == {14} and {one.tokens for one in inner.means()} == {7}
    assert [(one.layer, one.site) for one in inner.means()] == [(i, site) for i in range(3) for site in SITES]
