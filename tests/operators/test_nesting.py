"""What nests in what: every pair of operators, over every kind of module, runs or is refused with a way out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from dense import BASE, KEYS, SPACE, changes, lora, module, off, one

from adapterxl.artifacts import TaskModule
from adapterxl.errors import CompositionError
from adapterxl.modules import Bottleneck, IA3Part, LoRAPart
from adapterxl.operators import OPERATORS, Expression, compose

# Operator -> kinds of parts that it takes. Everything else is refused.
TAKES = {
    "merge": {"lora", "dora", "ia3"},
    "stack": {"lora", "dora", "bottleneck", "ia3", "fusion"},
    "fuse": {"lora", "dora", "bottleneck", "ia3"},
    "average": {"lora"},
    "add": {"lora"},
    "svd": {"lora"},
    "ties": {"lora"},
    "dare": {"lora"},
    "prune": {"lora"},
}
# Operator -> kinds of parts in its result, for operators that make a part of their own; others keep their members'.
MAKES = {name: {"lora"} for name in ("average", "add", "svd", "ties", "dare", "prune")} | {"fuse": {"fusion"}}
KINDS = ("lora", "dora", "bottleneck", "ia3")
# What a refusal must name: another operator to use, or what to do with the module.
WAY_OUT = re.compile(rf"[Uu]se ({'|'.join(OPERATORS)})\b|[Pp]ut |[Ll]eave |Fuse all ")


@cache
def member(kind: str, seed: int) -> TaskModule:
    """A module of one part of a kind."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "lora":
        return one(seed, 2, dtype=torch.float32)
    if kind == "dora":
        factors = {key: pair for key in KEYS if (pair := lora(seed, 2).factors(*key)) is not None}
        rows = {key: 1 + 0.1 * torch.rand(b.shape[0], generator=generator).double() for key, (_, b) in factors.items()}
        return module(f"dora{seed}", LoRAPart("dora", factors, rows=rows))
    if kind == "ia3":
        return module(f"ia3{seed}", IA3Part("ia3", {(0, "key"): 1 + torch.rand(SPACE.hidden, generator=generator)}))
    return module(f"bn{seed}", Bottleneck(reduction=4).build("bn", SPACE, generator, torch.float32))


def over(operator: str, members: Sequence[TaskModule | Expression]) -> Expression:
    """The operator over as many of these as it takes."""
    from adapterxl.operators.expression import as_member

    return Expression(operator, tuple(as_member(m) for m in members[: OPERATORS[operator].most]))


def refused(outer: str, inner: str | None, kind: str) -> bool:
    """Whether `outer` over a module of a kind (or over `inner` of it) cannot work, by the table."""
    if inner is None:
        return kind not in TAKES[outer]
    return kind not in TAKES[inner] or not MAKES.get(inner, {kind}) <= TAKES[outer]


def build(outer: str, inner: str | None, kind: str) -> TaskModule:
    first, second, third = (member(kind, seed) for seed in (1, 2, 3))
    return made_by(over(outer, (first, third) if inner is None else (over(inner, (first, second)), third)))


def made_by(expression: Expression) -> TaskModule:
    """Its composition; of a fusion, what a training would begin with."""
    return compose(expression, untrained=True)


def test_the_table_has_every_operator():
    assert TAKES.keys() == OPERATORS.keys()
    assert {name for name, operator in OPERATORS.items() if operator.keeps_parts} == OPERATORS.keys() - MAKES.keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inner", [None, *OPERATORS])
@pytest.mark.parametrize("outer", OPERATORS)
def test_every_pair_runs_or_is_refused_at_construction_with_a_way_out(outer: str, inner: str | None, kind: str):
    if refused(outer, inner, kind):
        with pytest.raises(CompositionError) as error:
            first = member(kind, 1) if inner is None else over(inner, (member(kind, 1), member(kind, 2)))
            over(outer, (first, member(kind, 3)))
        assert WAY_OUT.search(str(error.value)), str(error.value)
        assert "\n" not in str(error.value)
        return
    made = build(outer, inner, kind)
    assert made.operator == outer and made.base == BASE
    assert f"{outer}(" in (made.composition or "") and (inner is None or f"{inner}(" in (made.composition or ""))
    if kind == "lora" and "fuse" not in (outer, inner):
        assert all(isinstance(part, LoRAPart) for part in made.parts)
        assert max(float(abs(matrix).max()) for matrix in changes(made).values()) > 0.01
    if inner is not None:
        by_hand = made_by(over(inner, (member(kind, 1), member(kind, 2))))
        assert made_by(over(outer, (by_hand, member(kind, 3)))).digest() == made.digest()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outer", OPERATORS)
def test_what_is_refused_at_construction_is_refused_by_name_too(outer: str, kind: str):
    text = f"{outer}(x)" if OPERATORS[outer].most == 1 else f"{outer}(x, y)"
    known = {"x": member(kind, 1), "y": member(kind, 2)}
    if refused(outer, None, kind):
        with pytest.raises(CompositionError, match=WAY_OUT):
            compose(text, known=known)
    else:
        compose(text, known=known, untrained=True)


@pytest.mark.parametrize("other", ["dora", "bottleneck", "ia3"])
@pytest.mark.parametrize("outer", OPERATORS)
def test_one_part_of_another_kind_is_enough_to_be_refused(outer: str, other: str):
    mixed = module("mixed", *member("lora", 1).parts, *member(other, 2).parts)
    if other in TAKES[outer]:
        made = made_by(over(outer, (mixed, member("lora", 3))))
        assert len(made.parts) == (3 if OPERATORS[outer].keeps_parts else 1)
    else:
        with pytest.raises(CompositionError, match="'mixed'"):
            over(outer, (mixed, member("lora", 3)))


@pytest.mark.parametrize("outer", [name for name, operator in OPERATORS.items() if operator.most == 1])
def test_an_operator_of_one_member_says_how_to_combine_several(outer: str):
    with pytest.raises(CompositionError, match=rf"{outer} takes 1 member, found 2.*{outer}\(merge\(m1, m2\)\)"):
        Expression(outer, tuple(over("stack", (one(s),)).members[0] for s in (1, 2)))


def test_operators_nest_as_deep_as_one_likes():
    nested = over("merge", (one(1, 1), one(2, 1)))
    for name in ("average", "svd", "add", "prune", "stack", "dare", "ties", "merge") * 2:
        nested = over(name, (nested, one(3, 1)))
    made = compose(nested)
    assert made.composition == str(nested) and off(changes(compose(nested)), changes(made)) == 0
