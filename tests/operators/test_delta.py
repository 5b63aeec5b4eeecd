"""Operators in delta-W space equal their formulas on dense float64 matrices, and peft's dense helpers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from dense import (
    KEYS,
    SPACE,
    WIDTH,
    Key,
    Matrix,
    best,
    change,
    changes,
    elected,
    largest,
    lora,
    module,
    off,
    off_by,
    one,
    weighted,
)  # fmt: skip
from peft.utils import merge_utils

from adapterxl.artifacts import TaskModule
from adapterxl.errors import CompositionError
from adapterxl.modules import Bottleneck, LoRAPart
from adapterxl.operators import add, average, compose, dare, merge, prune, svd, ties
from adapterxl.operators.dare import chances, dropped
from adapterxl.operators.expression import Expression

TOLERANCE = 1e-6
ATTENTION = tuple(key for key in KEYS if key[1] in ("query", "value"))
LOWER = tuple(key for key in KEYS if key[0] < 1)


def same(dtype: torch.dtype) -> list[TaskModule]:
    """Three of one rank and alpha, everywhere."""
    return [one(seed, 3, dtype=dtype) for seed in (1, 2, 3)]


def mixed(dtype: torch.dtype) -> list[TaskModule]:
    """Ranks, alphas, sites and layers that differ; the last holds two parts; the sites together are not all."""
    ranks = {key: 1 + (key[0] + len(key[1])) % 4 for key in LOWER}
    several = module("m4", lora(4, 2, ATTENTION, scale=0.5, dtype=dtype), lora(5, 1, KEYS[:3], scale=3, dtype=dtype))
    return [one(1, 4, ATTENTION, scale=2.0, dtype=dtype), one(2, ranks, LOWER, scale=0.3, dtype=dtype), several]


MEMBERS: dict[str, Callable[[torch.dtype], list[TaskModule]]] = {"same": same, "mixed": mixed}
DTYPES = [torch.float32, torch.float64]
cases = pytest.mark.parametrize("kind", MEMBERS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp64"])


def by_formula(members: Sequence[TaskModule], formula: Callable[[list[Matrix]], Matrix]) -> dict[Key, Matrix]:
    """A formula over the members' dense changes, at every place."""
    return {key: formula([change(m, key) for m in members]) for key in KEYS}


@cases
@dtypes
@pytest.mark.parametrize("weights", [None, (1, 1, 1), (0.2, 0, 3)])
def test_average_is_the_weighted_mean_of_the_products(kind: str, dtype: torch.dtype, weights: tuple[float, ...] | None):
    members = MEMBERS[kind](dtype)
    shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
    found = compose(average(*members, weights=weights))
    assert off(changes(found), by_formula(members, lambda each: weighted(each, shares))) <= TOLERANCE
    assert {t.dtype for t in found.parts[0].tensors().values()} == {dtype}


@cases
@dtypes
@pytest.mark.parametrize("weights", [None, (1, -1, 0.5), (-2, -0.1, 0)])
def test_add_is_the_weighted_sum_also_with_negative_weights(
    kind: str, dtype: torch.dtype, weights: tuple[float, ...] | None
):
    members = MEMBERS[kind](dtype)
    expected = by_formula(members, lambda each: weighted(each, weights or (1, 1, 1)))
    assert off(changes(add(*members, weights=weights)), expected) <= TOLERANCE


@cases
@dtypes
def test_svd_at_full_rank_is_its_member(kind: str, dtype: torch.dtype):
    members = MEMBERS[kind](dtype)
    expected = by_formula(members, lambda each: weighted(each, (1, 1, 1)))
    for whole in (svd(merge(*members)), svd(merge(*members), rank=WIDTH), svd(add(*members))):
        found = compose(whole)
        assert off(changes(found), expected) <= TOLERANCE
        assert found.parts[0].made_of is not None and not found.parts[0].made_of["lost_energy"]
        assert not any("lost" in note for note in found.notes)


@cases
@dtypes
@pytest.mark.parametrize("rank", [1, 2, 5])
def test_svd_is_the_best_matrix_of_its_rank_and_tells_the_lost_energy(kind: str, dtype: torch.dtype, rank: int):
    members = MEMBERS[kind](dtype)
    found = compose(svd(merge(*members), rank=rank))
    check_truncated(found, by_formula(members, lambda each: weighted(each, (1, 1, 1))), rank)


def check_truncated(found: TaskModule, whole: dict[Key, Matrix], rank: int) -> None:
    """The result is numpy's truncation of these matrices, and what it says of the loss is true."""
    (part,) = found.parts
    assert isinstance(part, LoRAPart) and part.made_of is not None
    lost = part.made_of["lost_energy"]
    for key in part.keys:
        expected, share = best(whole[key], rank)
        assert off_by(change(found, key), expected) <= TOLERANCE, key
        assert lost[f"{key[0]}.{key[1]}"] == pytest.approx(share, abs=2e-9)
        assert part.rank(*key) <= rank
    note = next(note for note in found.notes if "energy" in note)
    assert f"most at {max(lost, key=lambda key: lost[key])} ({max(lost.values()):.2%})" in note


@cases
@dtypes
@pytest.mark.parametrize("density", [0.05, 0.3, 0.75, 1.0])
def test_prune_keeps_the_largest_entries_of_each_matrix(kind: str, dtype: torch.dtype, density: float):
    whole = merge(*MEMBERS[kind](dtype))
    expected = {key: largest(matrix, density) for key, matrix in changes(whole).items()}
    assert off(changes(prune(whole, density=density, rank=WIDTH)), expected) <= TOLERANCE
    if density == 0.3:
        check_truncated(compose(prune(whole, density=density, rank=2)), expected, 2)


@cases
@dtypes
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 2.0, 1.0), (1.0, -1.0, 0.4)])
@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
def test_ties_trims_elects_a_sign_and_averages_those_that_agree(
    kind: str, dtype: torch.dtype, weights: tuple[float, ...], density: float
):
    members = MEMBERS[kind](dtype)
    # A member that does not act at a place is zero there, which agrees with nobody.
    expected = by_formula(members, lambda each: elected(each, weights, density))
    found = compose(ties(*members, weights=weights, density=density, rank=WIDTH))
    assert off(changes(found), expected) <= TOLERANCE
    if density == 0.2:
        check_truncated(compose(ties(*members, weights=weights, rank=3)), expected, 3)


@cases
@dtypes
@pytest.mark.parametrize("weights", [None, (0.7, -0.2, 0.0)])
def test_dare_drops_entries_and_scales_the_others_up(kind: str, dtype: torch.dtype, weights: tuple[float, ...] | None):
    members = MEMBERS[kind](dtype)
    density, seed = 0.4, 3
    expected = {}
    for key in KEYS:
        each = [change(member, key) for member in members]
        kept = [dropped(torch.ones(m.shape), density, chances(seed, i, key)).numpy() > 0 for i, m in enumerate(each)]
        each = [np.where(mask, matrix / density, 0.0) for mask, matrix in zip(kept, each, strict=True)]
        expected[key] = weighted(each, weights or (1 / 3,) * 3)
    found = compose(dare(*members, weights=weights, density=density, seed=seed, rank=WIDTH))
    assert off(changes(found), expected) <= TOLERANCE
    if weights is None:
        check_truncated(compose(dare(*members, density=density, seed=seed, rank=2)), expected, 2)


@pytest.mark.parametrize("operator", [ties, dare])
def test_working_on_a_site_a_few_rows_at_a_time_changes_nothing(
    operator: Callable[..., Expression], monkeypatch: pytest.MonkeyPatch
):
    members = MEMBERS["mixed"](torch.float64)
    whole = changes(compose(operator(*members, density=0.4, rank=WIDTH)))
    monkeypatch.setattr("adapterxl.operators.delta._CACHED", 3 * WIDTH)
    assert off(changes(compose(operator(*members, density=0.4, rank=WIDTH))), whole) <= 1e-12


def test_dare_keeps_its_share_and_drops_other_entries_for_another_seed_member_or_place():
    ones = torch.ones(300, 200, dtype=torch.float64)
    places: list[tuple[int, int, Key]] = [
        (0, 0, (0, "key")), (1, 0, (0, "key")), (0, 1, (0, "key")), (0, 0, (1, "key")), (0, 0, (0, "value")),
    ]  # fmt: skip
    draws = [dropped(ones, 0.3, chances(*place)) for place in places]
    for draw in draws:
        assert set(draw.unique().tolist()) == {0.0, 1 / 0.3}
        assert float(draw.mean()) == pytest.approx(1, abs=0.03)  # five standard deviations: 0.031
    for i, draw in enumerate(draws):
        assert torch.equal(draw, dropped(ones, 0.3, chances(0, 0, (0, "key")))) == (i == 0)
        for other in draws[i + 1 :]:
            both = ((draw > 0) & (other > 0)).double().mean()
            assert float(both) == pytest.approx(0.09, abs=0.01)  # independent: 0.3 * 0.3


def test_the_mean_of_dare_over_seeds_is_the_average():
    members = [one(1, 2, KEYS[:1]), one(2, 3, KEYS[:1])]
    draws = [change(compose(dare(*members, density=0.5, seed=seed, rank=WIDTH)), KEYS[0]) for seed in range(300)]
    assert off_by(np.mean(draws, axis=0), change(compose(average(*members)), KEYS[0])) < 0.1  # 1 / sqrt(300) = 0.06


# peft's own dense helpers, on the same matrices


@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])  # its share is cut to whole entries, ours rounded: equal here
def test_ties_and_prune_equal_the_dense_helpers_of_peft(density: float):
    members, weights = same(torch.float64), (1.0, -2.0, 0.5)
    ones = torch.ones(len(members), dtype=torch.float64)
    theirs: dict[str, Callable[[list[torch.Tensor]], torch.Tensor]] = {
        "ties": lambda each: merge_utils.ties(each, ones, density),
        "prune": lambda each: merge_utils.magnitude_prune(each[:1], ones[:1], density),
        "add": lambda each: merge_utils.task_arithmetic(each, torch.tensor(weights, dtype=torch.float64)),
    }
    ours = {
        "ties": ties(*members, density=density, rank=WIDTH),
        "prune": prune(members[0], density=density, rank=WIDTH),
        "add": add(*members, weights=weights),
    }
    for name, formula in theirs.items():
        expected = by_formula(members, lambda each, f=formula: f([torch.from_numpy(m) for m in each]).numpy())
        assert off(changes(ours[name]), expected) <= TOLERANCE, name


# What results are


@pytest.mark.parametrize("make", [average, add, ties, dare])
def test_a_result_acts_where_any_member_acts_at_the_rank_of_all_of_them_together(make: Callable[..., Expression]):
    members = mixed(torch.float32)
    (part,) = compose(make(*members)).parts
    assert isinstance(part, LoRAPart)
    together = {key: [p.rank(*key) for m in members for p in m.parts if isinstance(p, LoRAPart)] for key in KEYS}
    assert part.keys == tuple(key for key in KEYS if sum(together[key]))
    assert all(part.rank(*key) == min(sum(together[key]), WIDTH) for key in part.keys)
    assert not any(p.requires_grad for p in part.parameters())


def test_a_result_tells_what_it_was_made_of():
    members = mixed(torch.float32)
    made = compose(ties(*members, weights=[1, 2, 1], rank=3)).parts[0].made_of
    assert made is not None and made["operator"] == "ties" and made["options"] == {"weights": [1, 2, 1], "rank": 3}
    assert made["members"] == [[part.digest() for part in member.parts] for member in members]


def test_the_same_composition_gives_the_same_weights_bit_for_bit():
    for make in (average, add, ties, dare, lambda *m: svd(merge(*m), rank=2), lambda *m: prune(merge(*m))):
        assert compose(make(*mixed(torch.float32))).digest() == compose(make(*mixed(torch.float32))).digest()


def test_float32_members_are_combined_in_float64_and_rounded_once():
    a, b = one(1, 2, dtype=torch.float32), one(2, 2, dtype=torch.float64)
    (narrow,), (wide,) = compose(average(a, a)).parts, compose(average(a, b)).parts
    assert {t.dtype for t in narrow.tensors().values()} == {torch.float32}
    assert {t.dtype for t in wide.tensors().values()} == {torch.float64}


def test_a_member_whose_scale_is_not_folded_counts_with_it():
    raw = TaskModule("raw", "", "", (lora(1, 2, scale=3.0),), None, one(1).base)
    assert off(changes(average(raw)), changes(one(1, 2, scale=3.0))) <= 1e-12


def test_a_module_that_does_nothing_is_combined_too():
    nothing = LoRAPart(
        "n", {key: (a, torch.zeros_like(b)) for key in KEYS for a, b in [lora(1, 2).factors(*key) or ()]}
    )
    zero = module("zero", nothing)
    for whole in (svd(zero, rank=1), prune(zero), ties(zero), dare(zero), average(zero), ties(zero, zero, rank=1)):
        found = compose(whole)
        assert all(not matrix.any() for matrix in changes(found).values()) and not found.notes
        assert all(torch.isfinite(tensor).all() for tensor in found.parts[0].tensors().values())


# What is refused


@pytest.mark.parametrize("make", [average, add, svd, ties, dare, prune])
def test_what_is_no_change_of_a_weight_matrix_is_refused(make: Callable[..., Expression]):
    generator = torch.Generator().manual_seed(1)
    bottleneck = module("bn", Bottleneck().build("bn", SPACE, generator, torch.float32))
    rows = {key: torch.full((b.shape[0],), 1.1) for key in KEYS for _, b in [lora(1).factors(*key) or ()]}
    factors = {key: pair for key in KEYS if (pair := lora(1, dtype=torch.float32).factors(*key)) is not None}
    dora = module("dora", LoRAPart("dora", factors, rows=rows))
    with pytest.raises(CompositionError, match="'bn' has a bottleneck part.*Use stack or fuse"):
        make(bottleneck)
    with pytest.raises(CompositionError, match=r"'dora' rescales the backbone's weights \(DoRA\).*Use merge.*or stack"):
        make(dora)
    with pytest.raises(CompositionError, match="'bare' has nothing to combine: it is a head alone"):
        compose(make(module("bare")))
