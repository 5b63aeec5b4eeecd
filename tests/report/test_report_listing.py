"""The CSV files: their columns, and that the numbers in them are those of the tables."""

from __future__ import annotations

import csv
import io

import pytest

from adapterxl.report.listing import RECORDS, RESULTS, records_csv, results_csv
from adapterxl.report.overview import overviews
from adapterxl.report.tables import read, sections


def written(found) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(results_csv(found, overviews(found)))))


@pytest.fixture
def found(measured):
    half, better = [True, False] * 60, [True, True, True, False] * 30
    return sections(read([
        measured(f"{task}{composition}{seed}", {"en": better, "de": better if composition else half, "sw": half},
                 task=task, composition=composition, seed=seed)
        for task in ("panx", "xnli") for composition in (None, 'merge(a, "b")') for seed in (1, 2)
    ]))  # fmt: skip


def test_the_columns_are_those_documented_and_stay_where_they_are(found):
    rows = list(csv.reader(io.StringIO(results_csv(found, []))))
    assert tuple(rows[0]) == RESULTS and all(len(row) == len(RESULTS) for row in rows)
    assert RESULTS[16:20] == ("mean", "std", "low", "high") and RESULTS[-1] == "remark"
    assert records_csv(found).splitlines()[0] == ",".join(RECORDS)
    documented = (results_csv.__globals__["__doc__"] or "").replace("\n", " ")
    assert all(name in documented for name in RESULTS)


def test_a_line_holds_what_its_cell_shows(found):
    rows = {(r["task"], r["quantity"], r["language"], r["composition"]): r for r in written(found)}
    row = rows["xnli", "score", "de", 'merge(a, "b")']
    cell = found[1].groups[0].rows[1].cells[1]
    gain = {line.label: line for line in found[1].groups[0].gains.rows}["de"].cells[0]
    for name, value in (("mean", cell.mean), ("std", cell.std), ("low", cell.low), ("high", cell.high),
                        ("gain", gain.mean), ("gain_low", gain.low), ("gain_high", gain.high), ("p", gain.p),
                        ("p_holm", gain.adjusted)):  # fmt: skip
        assert float(row[name]) == pytest.approx(value, abs=5e-7), name
    assert row["difference"] == "difference shown" and row["seeds"] == "1 2" and row["n_low"] == row["n_high"] == "120"
    assert rows["xnli", "score", "sw", 'merge(a, "b")']["difference"] == "no difference shown"
    assert rows["xnli", "score", "de", ""]["gain"] == "" == rows["xnli", "score", "de", ""]["difference"]


def test_summaries_and_averages_have_lines_with_intervals(found):
    rows = written(found)
    for quantity, count in (("zero-shot mean", 4), ("worst language", 4), ("transfer gap", 4), ("mean of tasks", 2)):
        lines = [row for row in rows if row["quantity"] == quantity]
        assert len(lines) == count
        assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in lines), quantity
    assert {row["language"] for row in rows if row["quantity"] == "worst language"} == {"de", "sw"}
    last = rows[-1]
    assert (last["quantity"], last["task"], last["composition"]) == ("mean of tasks", "", 'merge(a, "b")')
    assert float(last["gain"]) == pytest.approx(0.125)


def test_directions_have_lines_and_so_has_their_mean(retrieval):
    rows = written(sections([
        retrieval({"de": (0.8, 0.6)}, method="none", trained_for=None),
        retrieval({"de": (0.9, 0.7)}, trained_for="squad"),
    ]))  # fmt: skip
    scores = [(r["language"], r["detail"], r["composition"], r["mean"], r["gain"]) for r in rows
              if r["quantity"] == "score"]  # fmt: skip
    assert scores == [
        ("de", "de->en", "", "0.800000", ""), ("de", "de->en", "squad", "0.900000", ""),
        ("de", "en->de", "", "0.600000", ""), ("de", "en->de", "squad", "0.700000", ""),
        ("de", "", "", "0.700000", ""), ("de", "", "squad", "0.800000", "0.100000"),
    ]  # fmt: skip


def test_a_gain_over_fewer_languages_than_the_mean_is_marked(make):
    found = sections([make({"de": 0.6}, expected=["de", "sw"]), make({"de": 0.7, "sw": 0.5}, composition="a")])
    means = {row["composition"]: row for row in written(found) if row["quantity"] == "zero-shot mean"}
    assert (means["a"]["mean"], means["a"]["gain"]) == ("0.600000", "0.100000")
    assert means["a"]["remark"] == "gain: 1 of 2 languages" and means[""]["remark"] == "1 of 2 languages"
