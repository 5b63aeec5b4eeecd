"""Properties of the algebra over random ranks, sites, layers, dtypes, weights and nesting.

Each one is tried on 50 random inputs in the default run, and on 500 in the slow suite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dense import KEYS, SPACE, WIDTH, Key, Matrix, best, changes, elected, largest, lora, module, off_by, weighted
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from adapterxl.artifacts import TaskModule
from adapterxl.modules import IA3Part, LoRAPart, Part
from adapterxl.modules.base import through_site
from adapterxl.modules.lora import concatenate, cut, site_shape
from adapterxl.operators import Expression, Leaf, add, average, compose, dare, merge, parse, prune, stack, svd, ties

FULL = {"rank": WIDTH}


def holds(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Make a property a test that takes the number of examples; the larger number is for the slow suite."""

    def decorate(claim: Callable[..., None]) -> Callable[[int], None]:
        def test(examples: int) -> None:
            rules = settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
            rules(given(*strategies)(claim))()

        test.__doc__ = claim.__doc__
        return pytest.mark.parametrize("examples", [50, pytest.param(500, marks=pytest.mark.slow)])(test)

    return decorate


# Random modules: what hypothesis draws is their shape; their weights come from a seed.

Group = tuple[list[TaskModule], list[float]]
dtypes = st.sampled_from([torch.float32, torch.float64])
factor = st.floats(-3, 3).map(lambda x: round(x, 3))
share = st.floats(0, 3).map(lambda x: round(x, 3))
density = st.floats(0.05, 1)
seeds = st.integers(0, 2**32)


@st.composite
def parts(draw: st.DrawFn, seed: int | None = None) -> LoRAPart:
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True))
    ranks = dict(zip(keys, draw(st.tuples(*[st.integers(1, 5)] * len(keys))), strict=True))
    scale = draw(st.sampled_from([1.0, 0.25, 3.0]))
    return lora(draw(seeds) if seed is None else seed, ranks, keys, scale=scale, dtype=draw(dtypes))


@st.composite
def modules(draw: st.DrawFn) -> TaskModule:
    """One part or two; modules of other names have other weights."""
    number = draw(st.integers(0, 10**6))
    count = draw(st.integers(1, 2))
    return module(f"m{number}", *(draw(parts(2 * number + index)) for index in range(count)))


@st.composite
def groups(draw: st.DrawFn, values: st.SearchStrategy[float] = factor) -> Group:
    """One to three modules, none twice, and a weight for each; not all weights are 0."""
    members = draw(st.lists(modules(), min_size=1, max_size=3, unique_by=lambda member: member.name))
    weights = draw(st.lists(values, min_size=len(members), max_size=len(members)).filter(any))
    return members, weights


def precision(*members: TaskModule) -> float:
    """Relative error that rounding may leave: that of the widest dtype, in which results are."""
    wide = any(p.dtype == torch.float64 for member in members for part in member.parts for p in part.parameters())
    return 1e-9 if wide else 1e-6


def agree(found: dict[Key, Matrix], expected: dict[Key, Matrix], size: dict[Key, float], tolerance: float) -> None:
    """Equal up to `tolerance` times the size of what was summed, which may cancel."""
    for key in KEYS:
        assert np.linalg.norm(found[key] - expected[key]) <= tolerance * size[key] + 1e-30, key


def sizes(members: list[TaskModule], weights: list[float]) -> dict[Key, float]:
    every = [changes(member) for member in members]
    return {key: sum(abs(w) * np.linalg.norm(c[key]) for c, w in zip(every, weights, strict=True)) for key in KEYS}


def mixed(members: list[TaskModule], weights: list[float]) -> dict[Key, Matrix]:
    every = [changes(member) for member in members]
    return {key: weighted([c[key] for c in every], weights) for key in KEYS}


# Sums


@holds(groups())
def test_add_is_the_weighted_sum_of_delta_w(group: Group):
    members, weights = group
    found = changes(add(*members, weights=weights))
    agree(found, mixed(members, weights), sizes(members, weights), precision(*members))


@holds(groups(share))
def test_average_is_the_weighted_mean_and_lies_within_its_members(group: Group):
    members, weights = group
    shares = [weight / sum(weights) for weight in weights]
    found = changes(average(*members, weights=weights))
    agree(found, mixed(members, shares), sizes(members, shares), precision(*members))
    every = [changes(member) for member in members]
    for key in KEYS:
        largest_norm = max(np.linalg.norm(each[key]) for each in every)
        assert np.linalg.norm(found[key]) <= largest_norm * (1 + 1e-6)


@holds(groups(), st.randoms(use_true_random=False))
def test_the_order_of_members_with_their_weights_changes_nothing(group: Group, draw: Any):
    members, weights = group
    order = list(range(len(members)))
    draw.shuffle(order)
    turned, heavy = [members[i] for i in order], [weights[i] for i in order]
    size = sizes(members, weights)
    agree(changes(add(*turned, weights=heavy)), changes(add(*members, weights=weights)), size, 2 * precision(*members))
    one = changes(ties(*turned, weights=heavy, density=1, **FULL))
    other = changes(ties(*members, weights=weights, density=1, **FULL))
    assert all(close_but_few(one[key], other[key], size[key], precision(*members)) for key in KEYS)


def close_but_few(one: Matrix, other: Matrix, size: float, tolerance: float) -> bool:
    """Equal but for rounding; a sum near zero may elect the other sign, at few entries."""
    return bool((np.abs(one - other) > 10 * tolerance * size + 1e-30).mean() <= 0.02)


@holds(groups())
def test_adding_and_taking_away_gives_back_what_was_there(group: Group):
    members, _ = group
    first = members[0]
    whole = add(merge(*members), *members[1:], weights=[1, *(-1 for _ in members[1:])])
    agree(changes(whole), changes(first), sizes(members, [1] * len(members)), 3 * precision(*members))


# Sequences


@holds(groups())
def test_merge_is_the_sum_of_all_parts_whatever_the_brackets(group: Group):
    members, _ = group
    ones = [1.0] * len(members)
    whole = compose(merge(*members))
    agree(changes(whole), mixed(members, ones), sizes(members, ones), 1e-12)
    nested = merge(merge(*members[:2]), *members[2:]) if len(members) > 1 else merge(merge(*members))
    assert compose(nested).digest() == whole.digest() == compose(stack(*members)).digest()


@holds(st.lists(parts(), min_size=1, max_size=4))
def test_every_part_of_a_merge_can_be_cut_out_again_bit_for_bit(given_parts: list[LoRAPart]):
    held = [part.folded() for part in given_parts]
    assume(len({tensor.dtype for part in held for tensor in part.tensors().values()}) == 1)
    whole = concatenate(held, "whole")
    taken = dict.fromkeys(whole.keys, 0)
    for part in held:
        ranks = {f"{k[0]}.{k[1]}": (taken[k], taken[k] + part.rank(*k)) for k in part.keys}
        taken |= {k: taken[k] + part.rank(*k) for k in part.keys}
        assert cut(whole, ranks, part.name).digest() == part.digest()
    assert all(whole.rank(*key) == taken[key] for key in whole.keys)


@st.composite
def sequences(draw: st.DrawFn) -> list[Part]:
    """LoRAs, learned DoRAs and IA3s at one place."""
    key = (0, "ffn_up")
    made: list[Part] = []
    for kind in draw(st.lists(st.sampled_from(["lora", "dora", "ia3"]), min_size=1, max_size=5)):
        seed = draw(seeds)
        part = lora(seed, draw(st.integers(1, 6)), [key])
        rows = 0.5 + torch.rand(SPACE.intermediate, generator=torch.Generator().manual_seed(seed)).double()
        if kind == "ia3":
            made.append(IA3Part("ia3", {key: rows}).requires_grad_(False))
        else:
            pair = part.factors(*key)
            assert pair is not None
            made.append(LoRAPart(kind, {key: pair}, rows={key: rows} if kind == "dora" else None).requires_grad_(False))
    return made


@holds(sequences(), seeds, st.booleans())
def test_a_sequence_on_a_linear_is_that_linear_with_changed_weights(chain: list[Part], seed: int, has_bias: bool):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(SPACE.intermediate, SPACE.hidden, generator=generator, dtype=torch.float64)
    bias = torch.randn(SPACE.intermediate, generator=generator, dtype=torch.float64) if has_bias else None
    x = torch.randn(7, SPACE.hidden, generator=generator, dtype=torch.float64)
    before = torch.nn.functional.linear(x, weight, bias)
    found = through_site(chain, 0, "ffn_up", x, before, bias)
    w, b = weight.numpy(), 0 if bias is None else bias.numpy()
    for part in chain:
        if isinstance(part, LoRAPart):
            down, up = (t.numpy() for t in part.factors(0, "ffn_up") or ())
            w = w + up @ down
        rows = part.row_scale(0, "ffn_up")  # type: ignore[union-attr]
        w = w if rows is None else rows.numpy()[:, None] * w
        b = rows.numpy() * b if isinstance(part, IA3Part) else b
    assert off_by(found.numpy(), x.numpy() @ w.T + b) <= 1e-10
    family = [part for part in chain if isinstance(part, LoRAPart)]
    if len(family) == len(chain):
        whole = concatenate(family, "whole").requires_grad_(False)
        assert off_by(through_site([whole], 0, "ffn_up", x, before, bias).numpy(), found.numpy()) <= 1e-10


# Truncation


@holds(modules(), st.integers(1, WIDTH))
def test_svd_is_the_best_of_its_rank_and_its_loss_is_true(member: TaskModule, rank: int):
    result, whole = compose(svd(member, rank=rank)), changes(member)
    found, made = changes(result), result.parts[0].made_of
    assert made is not None
    for key, matrix in whole.items():
        expected, lost = best(matrix, rank)
        assert np.linalg.norm(found[key] - expected) <= 10 * precision(member) * np.linalg.norm(matrix) + 1e-30
        assert made["lost_energy"].get(f"{key[0]}.{key[1]}", 0.0) == pytest.approx(lost, abs=1e-8)
        assert np.linalg.matrix_rank(found[key], tol=1e-5) <= rank


@holds(modules(), st.integers(1, 5), st.integers(1, 5))
def test_truncating_again_changes_nothing_and_less_first_neither(member: TaskModule, rank: int, more: int):
    once = svd(member, rank=rank)
    whole = {key: float(np.linalg.norm(matrix)) for key, matrix in changes(member).items()}
    expected = changes(once)
    for again in (svd(once, rank=rank), svd(once), svd(svd(member, rank=rank + more), rank=rank)):
        agree(changes(again), expected, whole, 1e-4 if precision(member) > 1e-8 else 1e-7)


@holds(modules(), factor.filter(bool))
def test_operators_follow_a_factor(member: TaskModule, by: float):
    scaled = add(member, weights=[by])
    size = {key: abs(by) * float(np.linalg.norm(matrix)) for key, matrix in changes(member).items()}
    for operator in (
        average,
        lambda m: svd(m),
        lambda m: dare(m, density=0.5, **FULL),
        lambda m: ties(m, density=1, **FULL),
    ):
        expected = {key: by * matrix for key, matrix in changes(operator(member)).items()}
        agree(changes(operator(scaled)), expected, size, 10 * precision(member))


# Dense operators


@holds(modules(), density)
def test_prune_keeps_exactly_the_largest_entries(member: TaskModule, kept: float):
    whole, found = changes(member), changes(prune(member, density=kept, **FULL))
    for key, matrix in whole.items():
        expected = largest(matrix, kept)
        assert np.linalg.norm(found[key] - expected) <= 10 * precision(member) * np.linalg.norm(matrix) + 1e-30
        assert np.linalg.norm(found[key]) <= np.linalg.norm(matrix) * (1 + 1e-6)


@holds(groups(), density)
def test_ties_is_the_formula_and_lies_within_its_members(group: Group, kept: float):
    members, weights = group
    every, size = [changes(member) for member in members], sizes(members, weights)
    found = changes(ties(*members, weights=weights, density=kept, **FULL))
    for key in KEYS:
        each = [w * c[key] for c, w in zip(every, weights, strict=True)]
        expected = elected([c[key] for c in every], weights, kept)
        slack = 10 * precision(*members) * size[key] + 1e-30
        assert close_but_few(found[key], expected, size[key], precision(*members)), key
        assert (found[key] <= np.max([*each, np.zeros_like(expected)], axis=0) + slack).all()
        assert (found[key] >= np.min([*each, np.zeros_like(expected)], axis=0) - slack).all()


@holds(modules(), density, st.integers(0, 2**40))
def test_dare_keeps_or_drops_each_entry_and_the_seed_decides(member: TaskModule, kept: float, seed: int):
    whole, found = changes(member), changes(dare(member, density=kept, seed=seed, **FULL))
    for key, matrix in whole.items():
        slack = 10 * precision(member) * np.linalg.norm(matrix) / kept + 1e-30
        dropped, scaled = np.abs(found[key]) <= slack, np.abs(found[key] - matrix / kept) <= slack
        assert (dropped | scaled).all()
    assert (
        compose(dare(member, density=kept, seed=seed)).digest()
        == compose(dare(member, density=kept, seed=seed)).digest()
    )


@holds(groups(share))
def test_density_one_is_no_dropping_and_no_trimming(group: Group):
    members, weights = group
    size = sizes(members, weights)
    one = changes(dare(*members, weights=weights, density=1, **FULL))
    agree(one, changes(add(*members, weights=weights)), size, 10 * precision(*members))
    alone = sizes(members[:1], [1])
    agree(changes(prune(members[0], density=1)), changes(members[0]), alone, 10 * precision(members[0]))
    agree(changes(ties(members[0], density=1)), changes(members[0]), alone, 10 * precision(members[0]))


# Nesting

Tree = Expression | Leaf


@st.composite
def trees(draw: st.DrawFn, known: tuple[str, ...] = ("a", "b", "c")) -> Expression:
    """Operators over operators over three names: those that are exact, in any order and depth."""

    @st.composite
    def over(pick: st.DrawFn, inner: st.SearchStrategy[Tree]) -> Expression:
        name = pick(st.sampled_from(["average", "add", "svd", "merge", "stack"]))
        members = pick(st.lists(inner, min_size=1, max_size=1 if name == "svd" else 3))
        if name in ("merge", "stack"):  # the same part counts once there, so members must not share any
            members = members[:1]
        weights = tuple(pick(st.lists(st.integers(1, 4), min_size=len(members), max_size=len(members))))
        options = {"average": {"weights": weights}, "add": {"weights": tuple(-w for w in weights)}}.get(name, {})
        return Expression(name, tuple(members), tuple(options.items()))

    leaf: st.SearchStrategy[Tree] = st.sampled_from([Leaf(name) for name in known])
    return draw(over(st.recursive(leaf, over, max_leaves=5)))


def evaluated(tree: Tree, known: dict[str, TaskModule], absolute: bool = False) -> dict[Key, Matrix]:
    """A tree by numpy: every operator in it is a weighted sum; or of absolute values: how large rounding may be."""
    if isinstance(tree, Leaf):
        found = changes(known[tree.reference])
        return {key: np.abs(matrix) for key, matrix in found.items()} if absolute else found
    options = dict(tree.options)
    weights = np.array(options.get("weights", (1,) * len(tree.members)), dtype=float)
    weights = weights / weights.sum() if tree.operator == "average" else weights
    inner = [evaluated(member, known, absolute) for member in tree.members]
    return {key: weighted([i[key] for i in inner], np.abs(weights) if absolute else weights) for key in KEYS}


@holds(trees(), st.lists(modules(), min_size=3, max_size=3, unique_by=lambda member: member.name))
def test_a_tree_of_operators_is_what_its_formula_says(tree: Expression, three: list[TaskModule]):
    known = dict(zip("abc", three, strict=True))
    size = {key: 1 + float(np.linalg.norm(matrix)) for key, matrix in evaluated(tree, known, absolute=True).items()}
    agree(changes(compose(tree, known=known)), evaluated(tree, known), size, 1e-5)


@holds(trees(), st.lists(modules(), min_size=3, max_size=3, unique_by=lambda member: member.name))
def test_the_text_of_a_tree_composes_to_the_same_weights(tree: Expression, three: list[TaskModule]):
    known = dict(zip("abc", three, strict=True))
    assert parse(str(tree)) == tree
    assert compose(str(tree), known=known).digest() == compose(tree, known=known).digest()


@holds(groups(share))
def test_a_result_has_the_widest_dtype_the_sites_of_all_and_the_ranks_together(
    group: Group,
):
    members, _ = group
    held = [part for member in members for part in member.parts if isinstance(part, LoRAPart)]
    for make in (average, add, ties, dare):
        (part,) = compose(make(*members)).parts
        assert isinstance(part, LoRAPart) and set(part.keys) == {key for p in held for key in p.keys}
        wide = any(t.dtype == torch.float64 for p in held for t in p.tensors().values())
        assert {t.dtype for t in part.tensors().values()} == {torch.float64 if wide else torch.float32}
        for key in part.keys:
            together = sum(p.rank(*key) for p in held)
            assert part.rank(*key) == (
                together if make in (add, average) else min(together, *site_shape(key[1], SPACE))
            )
