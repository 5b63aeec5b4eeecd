"""Expressions: one text in Python, YAML and on the command line; errors that say where."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.errors import CompositionError
from adapterxl.operators import OPERATORS, Expression, Leaf, merge, parse, stack
from adapterxl.operators.expression import as_member, leaves

names = st.one_of(
    st.from_regex(r"[\w.-]{1,12}", fullmatch=True),
    st.text(st.characters(exclude_characters="\"'", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12),
    st.sampled_from(["out/my modules/nli", "a,b", "a(b)", "merge", "it's", 'say "x"', "über/ner"]),
)
expressions = st.recursive(
    names.map(Leaf),
    lambda inner: st.builds(
        Expression, st.sampled_from(sorted(OPERATORS)), st.lists(inner, min_size=1, max_size=4).map(tuple)
    ),
    max_leaves=12,
)


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
    ],
)
def test_spaces_quotes_and_nesting_are_read(text: str, expected: Expression | Leaf) -> None:
    assert parse(text) == expected


def test_expressions_are_values() -> None:
    assert merge("a", "b") == parse("merge(a, b)") and len({merge("a", "b"), parse("merge(a, b)")}) == 1
    assert merge("a", "b") != merge("b", "a") and merge("a", "b") != stack("a", "b")
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
        ("merge(a, rank=3)", "unexpected '=' at 14"),
        ("mrege(a, b)", "No operator 'mrege'. Did you mean 'merge'"),
        ("average(a)", "Operators: merge, stack"),
    ],
)
def test_an_error_says_what_was_found_and_where(text: str, said: str) -> None:
    with pytest.raises(CompositionError, match=said):
        parse(text)


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
