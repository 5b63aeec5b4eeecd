"""Identities of the algebra: what must be equal, whatever the weights are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from dense import KEYS, WIDTH, changes, lora, module, off, one

from adapterxl.artifacts import TaskModule
from adapterxl.operators import Expression, add, average, compose, dare, merge, prune, stack, svd, ties
from adapterxl.operators.expression import Member

EXACT = 1e-12  # float64 members


@pytest.fixture(params=["same", "mixed"])
def abc(request: pytest.FixtureRequest) -> list[TaskModule]:
    if request.param == "same":
        return [one(seed, 2) for seed in (1, 2, 3)]
    several = module("c", lora(3, 2, KEYS[3:9], scale=0.5), lora(4, 1, KEYS[:5]))
    return [one(1, 4, KEYS[::2], scale=2.0), one(2, 1, KEYS[4:]), several]


def equal(one: Member, other: Member, tolerance: float = EXACT) -> bool:
    return off(changes(one), changes(other)) <= tolerance


@pytest.mark.parametrize("make", [merge, stack, average, add, ties])
def test_the_order_of_members_changes_nothing(make: Callable[..., Expression], abc: list[TaskModule]):
    a, b, c = abc
    for order in ((b, a, c), (c, b, a)):
        assert equal(make(*order), make(a, b, c), 1e-8)


@pytest.mark.parametrize("make", [average, add, ties])
def test_weights_go_with_their_members(make: Callable[..., Expression], abc: list[TaskModule]):
    a, b, c = abc
    assert equal(make(c, a, b, weights=[3, 1, 2]), make(a, b, c, weights=[1, 2, 3]), 1e-8)


def test_one_member_alone_is_itself(abc: list[TaskModule]):
    for a in abc:
        for whole in (merge(a), stack(a), average(a), add(a), average(a, weights=[7]), add(a, weights=[1]), svd(a)):
            assert equal(whole, a), str(whole)
        assert equal(dare(a, density=1), a, 1e-8) and equal(prune(a, density=1), a, 1e-8)
        assert equal(ties(a, density=1), a, 1e-8)


def test_the_average_of_a_module_and_itself_is_the_module(abc: list[TaskModule]):
    for a in abc:
        assert equal(average(a, a), a) and equal(average(a, a, a, weights=[1, 0, 5]), a)


def test_a_weight_of_zero_leaves_a_member_out(abc: list[TaskModule]):
    a, b, c = abc
    assert equal(average(a, b, c, weights=[1, 0, 1]), average(a, c))
    assert equal(add(a, b, c, weights=[1, 1, 0]), add(a, b))
    assert equal(ties(a, b, weights=[1, 0], density=0.3, rank=WIDTH), ties(a, density=0.3, rank=WIDTH), 1e-8)


def test_only_the_proportions_of_an_average_count(abc: list[TaskModule]):
    assert equal(average(*abc, weights=[1, 2, 3]), average(*abc, weights=[0.5, 1, 1.5]))
    assert equal(average(*abc, weights=[4, 4, 4]), average(*abc))


def test_a_negative_weight_takes_a_module_away_again(abc: list[TaskModule]):
    a, b, _ = abc
    negative = changes(add(a, weights=[-1]))
    assert off({key: -matrix for key, matrix in negative.items()}, changes(a)) <= EXACT
    assert equal(add(merge(a, b), b, weights=[1, -1]), a)
    assert equal(add(add(a, weights=[-1]), weights=[-1]), a)
    nothing = changes(add(a, a, weights=[1, -1]))
    assert max(float(abs(matrix).max()) for matrix in nothing.values()) <= EXACT


@pytest.mark.parametrize("make", [merge, stack, add])
def test_brackets_do_not_matter_where_sums_are_taken(make: Callable[..., Expression], abc: list[TaskModule]):
    a, b, c = abc
    assert equal(make(make(a, b), c), make(a, b, c)) and equal(make(a, make(b, c)), make(a, b, c))


def test_merging_keeps_the_parts_themselves_whatever_the_brackets(abc: list[TaskModule]):
    a, b, c = abc
    assert compose(merge(merge(a, b), c)).digest() == compose(merge(a, merge(b, c))).digest()


def test_merge_stack_and_add_are_one_sum(abc: list[TaskModule]):
    assert equal(merge(*abc), stack(*abc)) and equal(merge(*abc), add(*abc))
    third = changes(average(*abc))
    assert off({key: 3 * matrix for key, matrix in third.items()}, changes(merge(*abc))) <= EXACT


def test_an_average_of_averages_is_their_weighted_average(abc: list[TaskModule]):
    a, b, c = abc
    assert equal(average(average(a, b), c, weights=[2, 1]), average(a, b, c))


def test_truncating_twice_is_truncating_once(abc: list[TaskModule]):
    for rank in (1, 2, 5):
        once = svd(merge(*abc), rank=rank)
        assert equal(svd(once, rank=rank), once, 1e-10) and equal(svd(once), once, 1e-10)
        assert equal(svd(svd(merge(*abc), rank=5), rank=rank), once, 1e-10)  # the leading vectors lead still


def test_truncating_commutes_with_scaling(abc: list[TaskModule]):
    a = merge(*abc)
    assert equal(svd(add(a, weights=[-3]), rank=2), add(svd(a, rank=2), weights=[-3]), 1e-10)


def test_dropping_nothing_is_averaging(abc: list[TaskModule]):
    assert equal(dare(*abc, density=1, rank=WIDTH), average(*abc), 1e-8)
    assert equal(dare(*abc, density=1, weights=[1, -2, 0.5], rank=WIDTH), add(*abc, weights=[1, -2, 0.5]), 1e-8)


def test_pruning_nothing_is_the_svd_at_that_rank(abc: list[TaskModule]):
    for rank in (1, 3, WIDTH):
        assert equal(prune(merge(*abc), density=1, rank=rank), svd(merge(*abc), rank=rank), 1e-8)


def test_pruning_twice_is_pruning_once(abc: list[TaskModule]):
    once = prune(merge(*abc), density=0.3, rank=WIDTH)
    assert equal(prune(once, density=0.3, rank=WIDTH), once, 1e-8)


def test_ties_of_one_member_is_pruning_it(abc: list[TaskModule]):
    for density in (0.1, 0.5, 1):
        for rank in (2, WIDTH):
            assert equal(ties(abc[2], density=density, rank=rank), prune(abc[2], density=density, rank=rank), 1e-8)


def test_ties_of_a_module_and_itself_is_the_module_trimmed(abc: list[TaskModule]):
    a = abc[0]
    assert equal(ties(a, a, a, density=0.4, rank=WIDTH), prune(a, density=0.4, rank=WIDTH), 1e-8)


def test_ties_of_opposites_is_nothing(abc: list[TaskModule]):
    a = abc[0]
    assert all(not matrix.any() for matrix in changes(ties(a, add(a, weights=[-1]), density=1)).values())


def test_nesting_is_composing_by_hand(abc: list[TaskModule]):
    a, b, c = abc
    inner = compose(average(a, b, weights=[1, 2]))
    for outer in (merge, stack, average, add, ties, dare):
        assert compose(outer(average(a, b, weights=[1, 2]), c)).digest() == compose(outer(inner, c)).digest()
    assert compose(svd(average(a, b, weights=[1, 2]), rank=1)).digest() == compose(svd(inner, rank=1)).digest()


def test_a_text_of_nested_operators_is_the_same_composition(abc: list[TaskModule]):
    known = dict(zip("abc", abc, strict=True))
    a, b, c = abc
    made = svd(add(ties(a, b, density=0.5), c, weights=[1, -0.5]), rank=2)
    found = compose("svd(add(ties(a, b, density=0.5), c, weights=[1, -0.5]), rank=2)", known=known)
    assert found.digest() == compose(made).digest()
    assert found.composition == str(made)


@pytest.mark.parametrize("make", [merge, add])
def test_float32_members_keep_the_identities_to_float32(make: Callable[..., Expression]):
    a, b = one(1, 3, dtype=torch.float32), one(2, 2, dtype=torch.float32)
    assert equal(add(make(a, b), b, weights=[1, -1]), a, 1e-6) and equal(average(a, a), a, 1e-6)
