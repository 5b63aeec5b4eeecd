"""Rows choose their modules: a mixed batch is exactly its rows alone, forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import backbone, distance, norm_distance, random_part, random_rows
from torch import Tensor

from adapterxl.backbone import Backbone
from adapterxl.engines.encoder import encode
from adapterxl.modules import Bottleneck, LoRA, Part
from adapterxl.ragged import pack

LENGTHS = (5, 12, 5, 1, 30, 12, 9, 2)
GROUPS = (0, 1, 2, 3, 4, 1, 3, 4)


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def on(request: pytest.FixtureRequest) -> Backbone:
    return backbone(request.getfixturevalue(request.param))


def make_stacks(on: Backbone) -> list[list[Part]]:
    """Nothing; LoRA a; LoRA b; bottleneck c; LoRA d with bottlenecks e and f on it."""
    a, d = (random_part(LoRA(rank=4), on, seed, name) for seed, name in ((1, "a"), (4, "d")))
    b = random_part(LoRA(rank=2, sites=("query", "ffn_down"), layers=(1,)), on, 2, "b")
    c, e = (random_part(Bottleneck(reduction=8), on, seed, name) for seed, name in ((3, "c"), (5, "e")))
    f = random_part(Bottleneck(variant="double_seq_bn", layers=(0, 2)), on, 6, "f")
    return [[], [a], [b], [c], [d, e, f]]


def row_weights(rows: Sequence[Sequence[int]], hidden: int) -> list[Tensor]:
    """What each row's hidden states are weighted with in the loss; another tensor for each row."""
    return [
        torch.randn(len(row), hidden, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        for i, row in enumerate(rows)
    ]


def joint(on: Backbone, stacks: Sequence[Sequence[Part]], rows: list[list[int]], groups: Sequence[int]) -> list[Tensor]:
    batch = pack(rows, groups=groups)
    states = encode(on, batch, stacks[: max(groups) + 1])
    assert isinstance(states, Tensor)
    return [states[start : start + len(row)] for start, row in zip(batch.starts, rows, strict=True)]


def alone(on: Backbone, stack: Sequence[Part], row: list[int]) -> Tensor:
    states = encode(on, pack([row]), [stack])
    assert isinstance(states, Tensor)
    return states


def test_each_row_of_a_mixed_batch_equals_the_row_alone(on: Backbone):
    stacks, rows = make_stacks(on), random_rows(LENGTHS, on)
    found = joint(on, stacks, rows, GROUPS)
    for row, group, states in zip(rows, GROUPS, found, strict=True):
        assert distance(states, alone(on, stacks[group], row)) < 1e-10
    plain = [alone(on, (), row) for row in rows]
    for group, states, base in zip(GROUPS, found, plain, strict=True):
        assert (distance(states, base) > 0.01) == (group != 0)


def test_each_modules_gradients_come_from_its_own_rows_only(on: Backbone):
    stacks, rows = make_stacks(on), random_rows(LENGTHS, on)
    apart = copy.deepcopy(stacks)
    weights = row_weights(rows, on.hidden)
    sum((h * w).sum() for h, w in zip(joint(on, stacks, rows, GROUPS), weights, strict=True)).backward()
    for row, group, w in zip(rows, GROUPS, weights, strict=True):
        if group:
            (alone(on, apart[group], row) * w).sum().backward()
    compared = 0
    for stack, others in zip(stacks, apart, strict=True):
        for part, other in zip(stack, others, strict=True):
            for (name, p), q in zip(part.named_parameters(), other.parameters(), strict=True):
                assert p.grad is not None and q.grad is not None, (part.name, name)
                assert norm_distance(p.grad, q.grad) < 1e-10, (part.name, name)
                compared += 1
    assert compared == 3 * 6 * 2 * 2 + 2 * 2 + 3 * 4 * 2 + 2 * 2 * 4


def test_one_part_may_serve_several_groups(on: Backbone):
    _, (a,), _, (c,), _ = make_stacks(on)
    rows = random_rows((4, 7, 7), on)
    found = joint(on, [[a], [a, c], [c]], rows, [1, 0, 2])
    for states, stack, row in zip(found, ([a, c], [a], [c]), rows, strict=True):
        assert distance(states, alone(on, stack, row)) < 1e-10


def test_a_group_without_rows_changes_nothing_and_gets_no_gradient(on: Backbone):
    stacks, rows = make_stacks(on), random_rows((4, 9), on)
    found = joint(on, stacks, rows, [0, 3])
    for states, group, row in zip(found, (0, 3), rows, strict=True):
        assert distance(states, alone(on, stacks[group], row)) < 1e-10
    sum(states.sum() for states in found).backward()
    assert all(p.grad is None for group in (1, 2) for part in stacks[group] for p in part.parameters())
    assert all(p.grad is not None for part in stacks[3] for p in part.parameters())


def test_other_rows_do_not_change_a_row(on: Backbone):
    stacks, rows = make_stacks(on), random_rows(LENGTHS, on)
    others = [rows[0], *random_rows(LENGTHS[1:], on, seed=9)]
    first, second = joint(on, stacks, rows, GROUPS)[0], joint(on, stacks, others, GROUPS)[0]
    assert distance(first, second) < 1e-12


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), min_size=1, max_size=7))
def test_any_choice_of_modules_by_any_rows_is_exact(on: Backbone, choice: list[tuple[int, int]]):
    stacks = make_stacks(on)
    rows, groups = random_rows([length for length, _ in choice], on), [group for _, group in choice]
    with torch.no_grad():
        for row, group, states in zip(rows, groups, joint(on, stacks, rows, groups), strict=True):
            assert distance(states, alone(on, stacks[group], row)) < 1e-10
