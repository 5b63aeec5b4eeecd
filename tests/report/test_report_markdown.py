"""The report as Markdown: whole tables, plain ASCII, nothing in a name has an effect."""

from __future__ import annotations

import re

import pytest

from adapterxl.cli import main
from adapterxl.report import report, to_markdown
from adapterxl.report.markdown import text


def tables(markdown: str) -> list[list[list[str]]]:
    """Cells of every table, split where a pipe is not escaped."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE):
        found.append([re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()])
    return found


@pytest.fixture
def compared(measured):
    half, better = [True, False] * 60, [True, True, True, False] * 30
    return [
        measured(f"{task}{composition}", {"en": better, "de": better if composition else half, "sw": half},
                 task=task, composition=composition)
        for task in ("panx", "xnli") for composition in (None, "merge(a)")
    ]  # fmt: skip


def test_it_has_results_gains_and_averages_with_intervals(compared):
    markdown = to_markdown(compared)
    assert re.search(r"\| de \| 120 \| 50\.0 \(4\d\.\d to 5\d\.\d\) \|", markdown)
    assert re.search(r"\| de \| \+25\.0 \(\+\d+\.\d to \+\d+\.\d\), difference shown \|", markdown)
    assert "+0.0" not in markdown and "| sw | 0.0 (0.0 to 0.0), no difference shown |" in markdown
    assert "mean of tasks" in markdown and "zero-shot mean" in markdown and "worst language" in markdown
    assert "# Zero-shot transfer: panx and xnli" in markdown and "There is one seed" in markdown


def test_every_table_is_a_rectangle_with_a_line_of_dashes(compared):
    found = tables(to_markdown(compared))
    assert len(found) == 9  # two of all tasks; scores, gains and modules of each task; digests
    for table in found:
        assert len({len(row) for row in table}) == 1
        assert all(re.fullmatch(r" -{3}:? ", cell) for cell in table[1])


def test_it_is_ascii_apart_from_names(compared):
    to_markdown(compared).encode("ascii")


def test_nothing_in_a_name_has_an_effect(make):
    evil = "a|b\n# c <script> [x](y) `d` *e* _f_ ![g](h) \\ &amp; ~~i~~"
    found = [make({"de": 0.5}), make({"de": 0.6}, composition=evil, name=evil, task="xnli", options={"x": evil})]
    markdown = to_markdown(found, title=evil)
    assert "<script>" not in markdown and "\n# c" not in markdown
    assert not re.search(r"(?<!\\)[`*_\[\]~!]", markdown)
    assert all(len({len(row) for row in table}) == 1 for table in tables(markdown))


def test_digests_are_whole_and_each_stands_once(make):
    found = [make({"de": 0.5}, digest="ab" * 32, base="cd" * 32), make({"de": 0.6}, task="panx", base="cd" * 32)]
    markdown = to_markdown(found)
    assert "| xnli: no intermediate task, seed 1 | " + "ab" * 32 + " |" in markdown
    assert markdown.count("| base xlmr | " + "cd" * 32 + " |") == 1


def test_escapes_are_those_of_markdown():
    assert text("a|b_c <d>\n– “e” $f$") == 'a\\|b\\_c &lt;d&gt; - "e" \\$f\\$'


def test_a_name_in_md_gives_markdown_with_the_numbers_beside_it(compared, tmp_path):
    out = report(compared, tmp_path / "card.md", title="Card")
    assert out.read_text("utf-8") == to_markdown(compared, title="Card")
    assert (tmp_path / "card.csv").is_file() and (tmp_path / "card.records.csv").is_file()


def test_the_command_writes_what_the_name_says_and_prints_the_table(compared, tmp_path, capsys):
    assert main(["report", *map(str, compared), "--out", str(tmp_path / "r.md")]) == 0
    assert "gain of the mean" in capsys.readouterr().out
    assert (tmp_path / "r.md").read_text("utf-8").startswith("# Zero-shot transfer")
    assert main(["report", *map(str, compared), "--out", str(tmp_path / "r.pdf")]) == 1
    error = capsys.readouterr().err
    assert "expected .html or .htm for a page or .md for Markdown" in error and error.count("\n") == 1
