"""Aggregation by hand-computed numbers, and the comparisons that are refused or left out."""

from __future__ import annotations

import pytest

from adapterxl.errors import UsageError
from adapterxl.evaluation.scores import Record
from adapterxl.report.tables import read, sections


def means(row):
    return [None if cell is None else pytest.approx(cell.mean) for cell in row.cells]


def by_label(rows):
    return {row.label: row for row in rows}


@pytest.fixture
def compared(make):
    """Two compositions, two seeds. Baseline de: .50 .54, sw: .20 .20; merge de: .60 .60, sw: .24 .28."""
    found = [
        make({"en": 0.80, "de": 0.50, "sw": 0.20}, seed=1),
        make({"en": 0.82, "de": 0.54, "sw": 0.20}, seed=2),
        make({"en": 0.80, "de": 0.60, "sw": 0.24}, seed=1, composition="merge(squad)"),
        make({"en": 0.80, "de": 0.60, "sw": 0.28}, seed=2, composition="merge(squad)"),
    ]
    return sections(found)[0]


def test_the_baseline_comes_first_and_then_the_text_order(make):
    found = [make({"de": 0.5}, composition=text) for text in ("stack(a)", None, "merge(b)")]
    assert [column.label for column in sections(found)[0].columns] == [
        "no intermediate task", "merge(b)", "stack(a)",
    ]  # fmt: skip


def test_rows_are_the_source_language_first_and_then_the_others(compared):
    assert [(row.label, row.kind) for row in compared.groups[0].rows] == [
        ("en", "source"), ("de", "target"), ("sw", "target"),
    ]  # fmt: skip


def test_a_cell_is_the_mean_over_seeds_with_the_sample_deviation(compared):
    cell = by_label(compared.groups[0].rows)["de"].cells[0]
    assert cell.mean == pytest.approx(0.52)
    assert cell.std == pytest.approx(0.04 / 2**0.5)  # two values 0.04 apart, divided by n - 1 = 1
    assert cell.by_seed == ((1, 0.50), (2, 0.54))


def test_one_seed_has_no_deviation(make):
    assert sections([make({"de": 0.5})])[0].groups[0].rows[0].cells[0].std is None


def test_the_mean_worst_language_and_gap_are_those_computed_by_hand(compared):
    summary = by_label(compared.groups[0].summary)
    assert means(summary["zero-shot mean"]) == [0.36, 0.43]  # (.35 + .37) / 2 and (.42 + .44) / 2
    assert means(summary["worst language"]) == [0.20, 0.26]
    assert summary["worst language"].remarks == ("sw", "sw")
    assert means(summary["transfer gap"]) == [0.45, 0.37]
    # The spread of a mean is that of the means of single seeds: .35 and .37.
    assert summary["zero-shot mean"].cells[0].std == pytest.approx(0.02 / 2**0.5)


def test_the_best_mean_is_the_highest_and_the_best_gap_the_lowest(compared):
    rows = by_label([*compared.groups[0].rows, *compared.groups[0].summary])
    assert rows["de"].best == {1} and rows["en"].best == {0}
    assert rows["zero-shot mean"].best == {1} and rows["transfer gap"].best == {1}


def test_values_that_look_alike_are_all_best(make):
    found = [make({"de": 0.5001}), make({"de": 0.5002}, composition="a"), make({"de": 0.3}, composition="b")]
    assert sections(found)[0].groups[0].rows[0].best == {0, 1}


def test_a_single_column_has_no_best(make):
    assert not sections([make({"de": 0.5})])[0].groups[0].rows[0].best


def test_gains_are_paired_by_seed(compared):
    gains = compared.groups[0].gains
    rows = by_label(gains.rows)
    assert gains.columns == (1,)
    assert means(rows["de"]) == [0.08] and means(rows["sw"]) == [0.06] and means(rows["en"]) == [-0.01]
    assert rows["de"].cells[0].std == pytest.approx(0.04 / 2**0.5)  # differences .10 and .06
    assert means(rows["mean"]) == [0.07]
    assert rows["mean"].cells[0].std == pytest.approx(0.0)  # .07 with both seeds


def test_gains_between_different_seeds_have_no_deviation(make):
    found = [make({"de": 0.5}, seed=1), make({"de": 0.7}, seed=2), make({"de": 0.65}, seed=3, composition="a")]
    gain = sections(found)[0].groups[0].gains.rows[0].cells[0]
    assert gain.mean == pytest.approx(0.05) and gain.std is None


def test_without_a_baseline_there_is_no_gain(make):
    gains = sections([make({"de": 0.5}, composition="a"), make({"de": 0.6}, composition="b")])[0].groups[0].gains
    assert gains.columns == () and gains.rows == () and gains.without_baseline == (0, 1)


def test_the_same_run_twice_is_refused_and_both_files_are_named(make, tmp_path):
    first = make({"de": 0.5}).save(tmp_path / "first.json")
    second = make({"de": 0.6}).save(tmp_path / "second.json")
    with pytest.raises(UsageError, match=r"first\.json and .*second\.json both score task 'xnli'.* seed 1"):
        sections(read([first, second]))


def test_no_scores_at_all_are_refused():
    with pytest.raises(UsageError, match="No scores"):
        read([])


def test_different_bases_are_never_put_together(make):
    found = sections([make({"de": 0.5}, base="aaaa"), make({"de": 0.9}, base="bbbb", composition="a")])
    assert len(found) == 2
    assert found[1].groups[0].gains.without_baseline == (0,)


def test_different_primary_metrics_are_never_put_together(make):
    assert len(sections([make({"de": 0.5}), make({"de": 0.5}, metric="f1")])) == 2


def test_different_splits_are_never_put_together(make):
    dev = [Record(language="de", split="dev", metric="accuracy", value=0.5, n=5, primary=True)]
    assert [section.split for section in sections([make({"de": 0.5}), make({}, records=dev)])] == ["dev", "test"]


def test_a_language_from_another_split_is_named(make):
    rows = [
        Record(language=language, split=split, metric="accuracy", value=0.5, n=5, primary=True)
        for language, split in (("de", "test"), ("es", "test"), ("th", "dev"))
    ]
    assert sections([make({}, records=rows)])[0].split == "test, dev for th"


def test_a_secondary_metric_has_its_own_tables(make):
    rows = [
        Record(language="de", split="test", metric=metric, value=value, n=5, primary=primary)
        for metric, value, primary in (("em", 0.4, False), ("f1", 0.6, True))
    ]
    groups = sections([make({}, records=rows)])[0].groups
    assert [(group.metric, group.primary, means(group.rows[0])) for group in groups] == [
        ("f1", True, [0.6]), ("em", False, [0.4]),
    ]  # fmt: skip


def test_methods_and_engines_are_named_only_where_they_differ(make):
    same = sections([make({"de": 0.5}), make({"de": 0.5}, composition="a")])[0]
    assert [column.label for column in same.columns] == ["no intermediate task", "a"]
    mixed = sections([make({"de": 0.5}), make({"de": 0.6}, method="bottleneck", engine="adapters")])[0]
    assert {column.label for column in mixed.columns} == {
        "no intermediate task · lora · packed", "no intermediate task · bottleneck · adapters",
    }  # fmt: skip


def test_what_was_not_trained_has_no_method_to_name(make, retrieval):
    found = [
        make({"de": 0.5}),
        retrieval({"de": (0.5, 0.5)}, method="none", trained_for=None),
        retrieval({"de": (0.6, 0.6)}, method="merge", trained_for=None, composition="merge(a, b)"),
    ]
    labels = {column.label for section in sections(found) for column in section.columns}
    assert labels == {"no intermediate task", "merge(a, b)"}


def test_a_gain_is_over_the_baseline_of_the_same_method(make):
    found = [
        make({"de": 0.5}), make({"de": 0.4}, method="bottleneck"),
        make({"de": 0.7}, composition="a", method="bottleneck"), make({"de": 0.7}, composition="a", method="dora"),
    ]  # fmt: skip
    section = sections(found)[0]
    gains = section.groups[0].gains
    assert [section.columns[position].method for position in gains.columns] == ["bottleneck"]
    assert means(gains.rows[0]) == [0.3]
    assert [section.columns[position].method for position in gains.without_baseline] == ["dora"]


def test_a_head_without_a_module_is_no_baseline_for_a_trained_module(make):
    section = sections([make({"de": 0.4}, method="none"), make({"de": 0.7}, composition="a")])[0]
    assert section.groups[0].gains.without_baseline == (1,)


def test_a_partial_column_is_averaged_over_what_it_has_and_wins_nothing(make):
    found = [
        make({"en": 0.8, "de": 0.5, "sw": 0.1}),
        make({"en": 0.8, "de": 0.6}, composition="a", expected=["en", "de", "sw"]),
    ]
    group = sections(found)[0].groups[0]
    mean = by_label(group.summary)["zero-shot mean"]
    assert means(mean) == [0.3, 0.6] and mean.remarks == ("", "1 of 2 languages") and not mean.best
    gain = by_label(group.gains.rows)["mean"]
    assert means(gain) == [0.1] and gain.remarks == ("1 of 2 languages",)  # over de, which both have
    assert by_label(group.rows)["sw"].cells[1] is None


def test_a_language_that_one_seed_lacks_enters_no_mean(make):
    found = [
        make({"de": 0.5, "sw": 0.1}, seed=1),
        make({"de": 0.7}, seed=2, expected=["de", "sw"]),
    ]
    group = sections(found)[0].groups[0]
    assert by_label(group.rows)["sw"].remarks == ("1 of 2 seeds",)
    assert means(by_label(group.summary)["zero-shot mean"]) == [0.6]


def test_an_expected_language_that_nobody_has_keeps_its_row(make):
    rows = by_label(sections([make({"de": 0.5}, expected=["de", "yo"])])[0].groups[0].rows)
    assert rows["yo"].cells == (None,) and rows["yo"].n is None


def test_directions_are_rows_and_are_averaged_for_the_summary(retrieval):
    group = sections([retrieval({"de": (0.8, 0.6), "sw": (0.2, 0.1)}, method="none", trained_for=None)])[0].groups[0]
    assert [(row.label, row.detail, means(row)) for row in group.rows] == [
        ("de", "de->en", [0.8]), ("de", "en->de", [0.6]), ("sw", "en->sw", [0.1]), ("sw", "sw->en", [0.2]),
    ]  # fmt: skip
    summary = by_label(group.summary)
    assert means(summary["zero-shot mean"]) == [0.425]  # (0.7 + 0.15) / 2
    assert means(summary["worst language"]) == [0.15]
    assert "transfer gap" not in summary  # English is the other side of each pair


def test_in_retrieval_what_a_module_was_trained_for_is_the_intermediate_task(retrieval):
    found = [
        retrieval({"de": (0.5, 0.5)}, method="none", trained_for=None),
        retrieval({"de": (0.7, 0.7)}, trained_for="squad"),
        retrieval({"de": (0.8, 0.8)}, trained_for="mnli", composition="merge(squad)"),
        retrieval({"de": (0.6, 0.6)}, trained_for=None, composition="merge(squad, mnli)"),
    ]
    section = sections(found)[0]
    assert [column.label for column in section.columns] == [
        "no intermediate task", "merge(squad), then mnli", "merge(squad, mnli)", "squad",
    ]  # fmt: skip
    assert means(section.groups[0].gains.rows[0]) == [0.3, 0.1, 0.2]


def test_the_backbone_alone_counts_for_every_seed(retrieval):
    found = [
        retrieval({"de": (0.5, 0.5)}, method="none", trained_for=None),
        retrieval({"de": (0.7, 0.7)}, trained_for="squad", seed=1),
        retrieval({"de": (0.6, 0.6)}, trained_for="squad", seed=2),
    ]
    gain = sections(found)[0].groups[0].gains.rows[-1].cells[0]
    assert gain.mean == pytest.approx(0.15) and gain.std == pytest.approx(0.1 / 2**0.5)


def test_a_context_in_another_language_has_a_row_but_no_part_in_the_mean(make):
    rows = [
        Record(language="de", context_language=c, split="test", metric="f1", value=v, n=5, primary=True)
        for c, v in (("de", 0.6), ("en", 0.2))
    ]
    group = sections([make({}, records=rows)])[0].groups[0]
    assert [(row.kind, row.detail) for row in group.rows] == [("target", ""), ("crossed", "context en")]
    assert means(by_label(group.summary)["zero-shot mean"]) == [0.6]
