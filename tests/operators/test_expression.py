"""Expressions: one text in Python, YAML and on the command line; errors that say where."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.errors import CompositionError
from adapterxl.operators import OPERATORS, Expression, Leaf, add, average, dare, merge, parse, prune, stack, svd, ties
from adapterxl.operators.base import Value
from adapterxl.operators.expression import as_member, leaves

names = st.one_of(
    st.from_regex(r"[\w.-]{1,12}", fullmatch=True),
    st.text(st.characters(exclude_characters="\"'", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12),
    st.sampled_from(["out/my modules/nli", "a,b", "a(b)", "merge", "it's", 'say "x"', "über/ner"]),
)
numbers = st.one_of(st.integers(1, 9), st.floats(1e-6, 1e6))


def option_values(members: int) -> dict[str, st.SearchStrategy[Value]]:
    """Values that fit an option, by its name; an operator's new option needs a line here."""
    return {
        "weights": st.lists(numbers, min_size=members, max_size=members).map(tuple),
        "rank": st.integers(1, 300),
        "density": st.one_of(st.just(1), st.just(0.2), st.floats(1e-3, 1)),
        "seed": st.integers(0, 2**40),
        "kind": st.sampled_from(["lowrank", "adapterfusion"]),
    }


@st.composite
def compositions(draw: st.DrawFn, inner: st.SearchStrategy[Expression | Leaf]) -> Expression:
    """An operator over members that it takes, with some of its options."""
    operator = OPERATORS[draw(st.sampled_from(sorted(OPERATORS)))]
    allowed = inner.filter(lambda member: isinstance(member, Leaf) or member.operator not in operator.refuses)
    members = draw(st.lists(allowed, min_size=operator.least, max_size=min(4, operator.most or 4)))
    values = option_values(len(members))
    given = {o.name: draw(values[o.name]) for o in operator.options if draw(st.booleans())}
    if given.get("kind") == "adapterfusion":
        given.pop("rank", None)  # it has none
    return Expression(operator.name, tuple(members), tuple(given.items()))


expressions = st.recursive(names.map(Leaf), compositions, max_leaves=12)


@settings(deadline=None)
@given(expressions)
def test_the_text_of_an_expression_reads_back_as_the_same_expression(expression: Expression | Leaf) -> None:
    again = parse(str(expression))
    assert again == expression and hash(again) == hash(expression) and str(again) == str(expression)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_refused_in_one_line(text: str) -> None:
    try:
        parse(text)
    except CompositionError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nli", Leaf("nli")),
        ("  merge( nli ,ner )  ", merge("nli", "ner")),
        ("stack('out/my nli', merge(a, b))", stack("out/my nli", merge("a", "b"))),
        ('merge("a,b", "c(d)")', Expression("merge", (Leaf("a,b"), Leaf("c(d)")))),
        ('"merge"', Leaf("merge")),
        ("add(a, b, weights=[1, -0.5])", add("a", "b", weights=[1, -0.5])),
        ("add( a,b , weights = [ 1.0,-.5e0 ] )".replace("-.5", "-0.5"), add("a", "b", weights=(1, -0.5))),
        ("svd(average(a, b), rank=4)", svd(average("a", "b"), rank=4)),
        ("ties(a, density=0.5, rank=8)", ties("a", rank=8, density=0.5)),
        ("dare(a, b, seed=7)", dare("a", "b", seed=7)),
        ("prune(merge(a, b), density=1)", prune(merge("a", "b"), density=1.0)),
    ],
)
def test_spaces_quotes_and_nesting_are_read(text: str, expected: Expression | Leaf) -> None:
    assert parse(text) == expected


def test_expressions_are_values() -> None:
    assert merge("a", "b") == parse("merge(a, b)") and len({merge("a", "b"), parse("merge(a, b)")}) == 1
    assert merge("a", "b") != merge("b", "a") and merge("a", "b") != stack("a", "b")
    assert add("a", weights=[2]) != add("a") and svd("a", rank=2) != svd("a", rank=3)
    assert [leaf.reference for leaf in leaves(parse("merge(a, stack(b, c), d)"))] == ["a", "b", "c", "d"]
    with pytest.raises(AttributeError):
        merge("a").operator = "stack"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ends where a module or an operator"),
        ("merge(", "ends where a module"),
        ("merge(a", "ends where ',' or '\\)'"),
        ("merge(a,)", "found '\\)' at character 9"),
        ("merge()", "found '\\)' at character 7"),
        ("merge(a b)", "found 'b' at character 9, expected ',' or '\\)'"),
        ("merge(a) b", "found 'b' at character 10, expected the end"),
        ("merge(a))", "found '\\)' at character 9"),
        ("(a)", "found '\\(' at character 1"),
        ('merge("a)', "unexpected '\"' at 7"),
        ("merge(a, rank=3)", "merge has no option 'rank'. It has none"),
        (
            "ties(a, densty=0.5)",
            "ties has no option 'densty'. Did you mean 'density'\\? Its options: density, weights, rank",
        ),
        ("ties(a, density=2)", "ties, density: found 2, expected a number above 0, at most 1"),
        ("ties(a, density=true)", "density: found true"),
        ("svd(a, rank=0)", "rank: found 0, expected a whole number from 1"),
        ("svd(a, rank=2.5)", "rank: found 2.5"),
        ("svd(a, rank=two)", "rank: found two"),
        ("svd(a, rank=NaN)", "rank: found nan"),
        ("dare(a, seed=-1)", "seed: found -1, expected a whole number from 0"),
        ("add(a, b, weights=[1])", "weights: found \\[1\\], expected a number for each member"),
        ("add(a, b, weights=[0, 0])", "expected a number for each member, not all 0"),
        ("add(a, b, weights=3)", "weights: found 3"),
        ("add(a, weights=[1e999])", "weights: found \\[inf\\]"),
        (f"add(a, weights=[{'9' * 400}])", "weights: found"),
        (f"svd(a, rank={'9' * 5000})", "rank: found"),
        (f"add(a, weights={'[' * 9999}])", "weights: found"),
        ("average(a, b, weights=[1, -1])", "a number from 0 for each member.*add takes negative ones"),
        ("svd(a, rank=3, rank=4)", "rank is given twice"),
        ("svd(rank=3, a)", "found 'a' at character 13, expected an option; members stand before them"),
        ("svd(rank=3)", "svd\\(\\) has no members"),
        ("svd(a, b)", "svd takes 1 member, found 2. Combine them first, such as svd\\(merge\\(a, b\\)\\)"),
        ("rank=3", "found 'rank=3' at character 1"),
        ("mrege(a, b)", "No operator 'mrege'. Did you mean 'merge'"),
        ("xyz(a)", "Operators: merge, stack, fuse, average, add, svd, ties, dare, prune"),
    ],
)
def test_an_error_says_what_was_found_and_where(text: str, said: str) -> None:
    with pytest.raises(CompositionError, match=said):
        parse(text)


def test_one_composition_has_one_text() -> None:
    assert str(ties("a", "b", density=0.2)) == "ties(a, b)" and dare("a", seed=0, density=0.5) == dare("a")  # defaults
    assert str(ties("a", rank=4, density=0.5)) == str(parse("ties(a, rank=4, density=0.5)"))  # any order of options
    one, other = add("a", "b", weights=[1, -0.0]), add("a", "b", weights=[1.0, 0])
    assert one == other and hash(one) == hash(other) and str(one) == str(other) == "add(a, b, weights=[1, 0])"


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    with pytest.raises(CompositionError, match="deep"):
        parse("merge(" * 5000 + "a" + ")" * 5000)


def test_long_text_is_an_expression_and_not_a_file_name() -> None:
    text = f"merge({', '.join('a' * 60 + str(n) for n in range(100))})"
    assert str(as_member(text)) == text


def test_a_folder_may_have_brackets_or_spaces_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nli (2)").mkdir()
    assert as_member("nli (2)") == Leaf("nli (2)")
    assert as_member('"nli (2)"') == as_member(str(Leaf("nli (2)"))) == Leaf("nli (2)")
    with pytest.raises(CompositionError, match="both kinds of quotes"):
        Leaf("'\"")


def test_an_operator_needs_members() -> None:
    with pytest.raises(CompositionError, match="no members"):
        merge()
