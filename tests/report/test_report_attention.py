"""What fusions listen to is shown by language, layer and site, and written as measured."""

from __future__ import annotations

import csv

import pytest

from adapterxl.evaluation.scores import Attention
from adapterxl.report import report, to_markdown
from adapterxl.report.attention import HEAD, shares
from adapterxl.report.tables import sections


@pytest.fixture
def listened(make):
    """Scores of a fusion of nli and <qa>, which at one site of layer 10 is fused with ner as well."""

    def build(seed: int, share: float):
        entries = [
            Attention(language=code, fusion="f", layer=layer, site=site, members=members, weights=weights, tokens=5)
            for code, more in (("de", 0.1), ("en", 0.0))
            for layer, site, members, weights in (
                (2, "query", ["nli", "<qa>"], [share + more, 1 - share - more]),
                (10, "ffn", ["nli", "<qa>", "ner"], [0.5, 0.25, 0.25]),
            )
        ]
        return make({"en": 0.5, "de": 0.4}, composition="fuse(nli, <qa>)", seed=seed, attention=entries)

    return build


def test_shares_are_means_over_seeds_and_places_with_the_source_language_first(listened):
    (table,) = shares(sections([listened(1, 0.2), listened(2, 0.4)])[0])
    assert table.members == ("nli", "<qa>", "ner") and table.seeds == 2
    rows = {(heading, label): cells for heading, label, cells in table.rows}
    assert [label for heading, label, _ in table.rows if heading == "language"] == ["en", "de"]
    assert [label for heading, label, _ in table.rows if heading == "layer"] == ["2", "10"]
    assert rows["language", "en"][0] == (0.2 + 0.5 + 0.4 + 0.5) / 4 and rows["language", "en"][2] == 0.25
    assert abs(rows["layer", "2"][0] - 0.35) < 1e-9 and rows["layer", "2"][2] is None


def test_the_report_draws_them_and_writes_each_as_measured(tmp_path, listened):
    page = report([listened(1, 0.2)], out=tmp_path / "report.html").read_text("utf-8")
    assert "Attention of the fusion" in page and "&lt;qa&gt;" in page and "<qa>" not in page
    with (tmp_path / "report.attention.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == HEAD and len(rows) == 2 * (2 + 3)
    assert {row["member"] for row in rows if row["layer"] == "2"} == {"nli", "<qa>"}
    assert "| language en | 35.0" in to_markdown([listened(1, 0.2)])


def test_a_report_without_fusions_has_no_such_table_and_no_such_file(tmp_path, make):
    page = report([make({"en": 0.5})], out=tmp_path / "report.html").read_text("utf-8")
    assert "Attention of the fusion" not in page and not (tmp_path / "report.attention.csv").exists()
