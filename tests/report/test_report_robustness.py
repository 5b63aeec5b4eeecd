"""Robustness in a report: the spread of languages, and perturbed input beside the clean one."""

from __future__ import annotations

from statistics import stdev

import pytest

from adapterxl.report import to_table
from adapterxl.report.notes import notes
from adapterxl.report.overview import overviews
from adapterxl.report.tables import read, sections

NOISE = {"perturbation": "characters=0.1"}


def test_the_spread_is_the_deviation_of_the_target_languages_seed_by_seed(make):
    found = [
        make({"en": 0.9, "de": 0.5, "sw": 0.2, "th": 0.2}),
        make({"en": 0.9, "de": 0.6, "sw": 0.6, "th": 0.6}, seed=2),
    ]
    rows = {row.label: row.cells[0] for row in sections(found)[0].groups[0].summary}
    assert list(rows) == ["zero-shot mean", "worst language", "spread of languages", "transfer gap"]
    assert rows["spread of languages"].by_seed == ((1, pytest.approx(stdev([0.5, 0.2, 0.2]))), (2, 0.0))
    assert "spread of languages" in to_table(found)


def test_the_interval_of_a_spread_holds_the_spread(measured):
    right = {"en": [True] * 40, "de": [True] * 30 + [False] * 10, "sw": [True, False] * 20, "th": [True, False] * 20}
    rows = {row.label: row.cells[0] for row in sections(read([measured("s", right)]))[0].groups[0].summary}
    spread = rows["spread of languages"]
    assert spread.mean == pytest.approx(stdev([0.75, 0.5, 0.5]))
    assert spread.low < spread.mean < spread.high and spread.sample.draws.mean() == pytest.approx(spread.mean, abs=0.01)


def test_one_language_has_no_spread(make):
    labels = [row.label for row in sections([make({"en": 0.9, "de": 0.5})])[0].groups[0].summary]
    assert "spread of languages" not in labels


def test_a_perturbed_copy_is_a_column_of_its_own_with_its_difference_to_the_clean_one(measured):
    right = {"en": [True] * 20, "de": [True] * 16 + [False] * 4}
    wrong = {"en": [True] * 20, "de": [True] * 10 + [False] * 10}
    files = [
        measured("base", wrong), measured("clean", right, composition="merge(a)"),
        measured("noisy", wrong, composition="merge(a)", options=NOISE), measured("base2", wrong, options=NOISE),
    ]  # fmt: skip
    (section,) = sections(read(files))
    labels = [column.label for column in section.columns]
    assert labels == [
        "no intermediate task", "no intermediate task · input characters=0.1", "merge(a)",
        "merge(a) · input characters=0.1",
    ]  # fmt: skip
    gains = section.groups[0].gains
    assert gains.columns == (1, 2, 3) and not gains.without_baseline
    german = next(row for row in gains.rows if row.label == "de")
    assert [cell.mean for cell in german.cells] == pytest.approx([0.0, 0.3, -0.3])
    assert german.cells[2].p is not None, "paired by example"
    assert any("perturbed copy of the input (characters=0.1)" in note for note in notes(section))
    assert not any("not measured alike" in note for note in notes(section))
    assert "input" in to_table(files)


def test_a_perturbed_copy_alone_has_no_difference_and_no_place_in_an_overview(make):
    noisy = make({"en": 0.9, "de": 0.5}, options=NOISE)
    (section,) = sections([noisy])
    assert section.groups[0].gains.without_baseline == (0,)
    assert overviews(sections([noisy, make({"en": 0.9, "de": 0.5}, task="udpos", options=NOISE)])) == []
    both = sections([noisy, make({"en": 0.9, "de": 0.7}), make({"en": 0.9, "de": 0.5}, task="udpos")])
    (overview,) = overviews(both)
    assert [line.label for line in overview.lines] == ["no intermediate task"]
    assert overview.lines[0].means[:2] and {round(cell.mean, 2) for cell in overview.lines[0].means[:2]} == {0.5, 0.7}
