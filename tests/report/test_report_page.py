"""The page, the CSV and the terminal table: what they say, that they hold no foreign markup, that they render."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from adapterxl.errors import DataError, UsageError
from adapterxl.report import report, to_table
from adapterxl.report.formats import duration, interval, p_value, percent, points, size, verdict
from adapterxl.report.marks import mark
from adapterxl.report.plots import plot
from adapterxl.report.statistics import Estimate
from adapterxl.report.tables import read, sections

VOID = {"meta", "img", "wbr", "br"}


class Page(HTMLParser):
    """Collects tags, attributes and text; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def page_of(scores, tmp_path, **options) -> Page:
    path = report(scores, tmp_path / "report.html", **options)
    return Page(path.read_text(encoding="utf-8"))


def words(page: Page) -> str:
    return " ".join(page.text.split())


def test_the_page_says_what_was_compared(make, tmp_path):
    found = [make({"en": 0.8, "de": 0.512}), make({"en": 0.8, "de": 0.53}, composition="merge(squad)")]
    text = words(page_of(found, tmp_path))
    for part in ("base xlmr", "engine packed", "split test", "metric accuracy", "n per language 100", "seed 1",
                 "no intermediate task", "merge(squad)", "51.2", "+1.8", "zero-shot mean", "worst language",
                 "transfer gap", "One seed and no predictions: no uncertainty is shown.",
                 "2.5 MB", "1 min 5 s", "torch 2.13.0"):  # fmt: skip
        assert part in text, part


def test_the_page_is_a_whole_document_of_its_own(make, tmp_path):
    page = page_of([make({"en": 0.8, "de": 0.5})], tmp_path, title="Runs of today")
    tags = dict(page.tags)
    assert tags["html"] == {"lang": "en"}
    assert "Runs of today" in page.text and "title" in tags
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "url(" not in text and "@import" not in text


def test_every_picture_has_words_and_every_table_scrolls_by_itself(make, tmp_path):
    page = page_of([make({"en": 0.8, "de": 0.5})], tmp_path)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    names = [(tag, attributes.get("class")) for tag, attributes in page.tags]
    for position, (tag, _) in enumerate(names):
        if tag == "table":
            assert names[position - 1] == ("div", "scroll")


def test_text_from_a_scores_file_is_escaped(make, tmp_path):
    evil = "<script>alert(1)</script>&\"'"
    page = page_of(
        [make({"en": 0.8, "de": 0.5}, composition=evil, name=evil, digest=evil, task="t<i>", options={"x": evil})],
        tmp_path, title=evil,
    )  # fmt: skip
    assert not {"script", "i"} & {tag for tag, _ in page.tags}
    assert page.text.count("<script>alert(1)</script>&\"'") >= 4


def test_the_same_scores_give_the_same_bytes(make, tmp_path):
    found = [make({"en": 0.8, "de": 0.5}), make({"en": 0.8, "de": 0.6}, composition="a")]
    first = report(found, tmp_path / "a.html").read_bytes()
    assert report(found[::-1], tmp_path / "b.html").read_bytes() == first


def test_a_gain_carries_its_sign_besides_its_tint(make, tmp_path):
    found = [make({"de": 0.50, "sw": 0.5}), make({"de": 0.55, "sw": 0.48}, composition="a")]
    page = page_of(found, tmp_path)
    tints = [attributes["class"] for tag, attributes in page.tags if "gain" in (attributes.get("class") or "")]
    assert tints == ["value gain up3", "value gain down2", "value gain up1"]
    assert "+5.0" in page.text and "−2.0" in page.text and "+1.5" in page.text


def test_a_missing_baseline_is_said(make, tmp_path):
    text = words(page_of([make({"de": 0.5}, composition="merge(a)")], tmp_path))
    assert "Baseline missing for “merge(a)”" in text


def test_seeds_without_predictions_have_an_interval_and_words_for_it(make, tmp_path):
    text = words(page_of([make({"de": 0.50}, seed=seed) for seed in (1, 2)] + [make({"de": 0.54}, seed=3)], tmp_path))
    # Student's t with two degrees of freedom: 4.303 times 0.0231 / sqrt(3)
    assert "51.3" in text and "[45.6, 57.1]" in text and "seeds 1, 2, 3" in text
    assert "95 % intervals over seeds (Student’s t)" in text
    assert "No predictions beside these scores" in text


def test_missing_languages_are_said(make, tmp_path):
    found = [make({"de": 0.5}, expected=["de", "sw"], seed=1), make({"de": 0.5, "sw": 0.4}, seed=2)]
    assert "Partial: “no intermediate task” has no score for sw (seed 1)." in words(page_of(found, tmp_path))


def test_a_limit_is_said_and_a_different_one_louder(make, tmp_path):
    alike = [make({"de": 0.5}, options={"limit": 50}), make({"de": 0.5}, composition="a", options={"limit": 50})]
    assert "At most 50 examples a language" in words(page_of(alike, tmp_path))
    other = [alike[0], make({"de": 0.5}, composition="a", options={"limit": None})]
    text = words(page_of(other, tmp_path))
    assert "Option “limit” differs: 50 for “no intermediate task”; none for “a”." in text


def test_data_of_another_task_is_said(make, tmp_path):
    one = make({"de": 0.5}, train_from="mnli")
    assert "Target training used the data of mnli, not of xnli." in words(page_of([one], tmp_path))
    text = words(page_of([one, make({"de": 0.5}, composition="a")], tmp_path))
    assert "The data of the target training differs: mnli for “no intermediate task”; xnli for “a”." in text


def test_different_numbers_of_examples_are_said(make, tmp_path):
    one = make({"de": 0.5})
    records = [one.records[0].model_copy(update={"n": 90})]
    text = words(page_of([one, make({}, records=records, composition="a")], tmp_path))
    assert "The number of examples differs between columns or seeds for de." in text and "90–100" in text


def test_different_seeds_are_said(make, tmp_path):
    text = words(page_of([make({"de": 0.5}, seed=1), make({"de": 0.5}, seed=7, composition="a")], tmp_path))
    assert "Seeds differ: 1 for “no intermediate task”; 7 for “a”." in text


def test_one_module_under_two_seeds_is_said(make, tmp_path):
    found = [make({"de": 0.5}, seed=seed, digest="sha256:same") for seed in (1, 2)]
    assert "Seeds 1 and 2 of “no intermediate task” scored one and the same module" in words(page_of(found, tmp_path))


def test_directions_stand_in_one_table(retrieval, tmp_path):
    page = page_of([retrieval({"de": (0.8, 0.6)}, method="none", trained_for=None)], tmp_path)
    assert "de→en" in page.text and "en→de" in page.text and "Nothing is trained for retrieval" in page.text
    assert ("th", {"scope": "row", "class": "lead", "rowspan": "2"}) in page.tags


def test_the_records_lie_beside_the_page_as_csv(make, tmp_path):
    scores = [make({"en": 0.8, "de": 0.5}), make({"en": 0.8, "de": 0.6}, composition="merge(a, b)", seed=3)]
    report(scores, tmp_path / "out.html")
    with open(tmp_path / "out.records.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert rows[3] | {"language": "de", "value": "0.6", "composition": "merge(a, b)", "seed": "3"} == rows[3]
    assert rows[0]["composition"] == "" and rows[0]["primary"] == "true"


def test_a_page_with_another_ending_is_refused(make, tmp_path):
    for name, ending in (("report.csv", ".csv"), ("report", ""), ("report.HTML", ".HTML")):
        with pytest.raises(UsageError, match=rf"ending '{ending}', expected \.html or \.htm .* or \.md"):
            report([make({"de": 0.5})], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_file_stops_the_report_before_anything_is_written(make, tmp_path):
    good = make({"de": 0.5}).save(tmp_path / "good.json")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.json:1"):
        report([good, tmp_path / "bad.json"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "report.csv").exists()


def test_the_terminal_table_has_values_gain_and_notes(make):
    found = [make({"en": 0.8, "de": 0.5}), make({"en": 0.8, "de": 0.55}, composition="merge([x])")]
    text = to_table(found, width=100)
    for part in ("xnli", "merge([x])", "en (source)", "50.0", "zero-shot mean", "+5.0", "One seed", "No predictions"):
        assert part in text
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 100


def test_a_plot_is_svg_with_a_row_for_each_language(make):
    rows = sections([make({"en": 0.8, "de": 0.5, "sw": 0.4})])[0].groups[0].points
    tall, small = (ElementTree.fromstring(plot(r, 1)) for r in (rows, rows[:1]))
    assert tall.tag.endswith("svg")
    assert float(tall.attrib["height"][:-2]) > float(small.attrib["height"][:-2])


def test_any_name_of_a_language_can_be_drawn(make):
    names = {r"$\frac$": 0.5, "$x$": 0.4, "a" * 200: 0.3}
    ElementTree.fromstring(plot(sections([make(names)])[0].groups[0].points, 1))


def test_marks_differ_in_colour_and_shape():
    seen = {(mark(position).colour, mark(position).shape) for position in range(43)}
    assert len(seen) == 43
    assert len({mark(position).shape for position in range(7)}) == 7
    assert [position for position in range(43) if mark(position).colour == "#000000"] == [0]


def test_black_is_kept_for_the_baseline(make):
    assert sections([make({"de": 0.5})])[0].first_mark == 0
    assert sections([make({"de": 0.5}, composition="a")])[0].first_mark == 1


@pytest.mark.parametrize(
    ("value", "shown", "signed"),
    [(0.5, "50.0", "+50.0"), (-0.0123, "−1.2", "−1.2"), (0.0004, "0.0", "0.0"), (-0.0004, "0.0", "0.0")],
)
def test_numbers_have_one_decimal_and_a_true_minus(value: float, shown: str, signed: str):
    cell = Estimate(value)
    assert (percent(cell), points(cell), interval(cell)) == (shown, signed, "")


def test_an_interval_is_written_as_its_number_is():
    cell = Estimate(0.01, low=-0.0004, high=0.0251)
    assert (interval(cell), interval(cell, signed=True), interval(None)) == ("[0.0, 2.5]", "[0.0, +2.5]", "")


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (0.001, "<0.002"), (0.0123, "0.012"), (0.456, "0.46"), (1.0, "1.00")]
)
def test_p_values_are_as_fine_as_the_resamples(value, shown):
    assert p_value(value) == shown


def test_a_verdict_never_says_that_two_are_alike():
    cells = [Estimate(0.0, adjusted=0.01), Estimate(0.0, adjusted=0.2), Estimate(0.0), None]
    assert [verdict(cell) for cell in cells] == ["difference shown", "no difference shown", "not tested", ""]


def test_what_is_not_known_is_a_dash():
    assert (percent(None), points(None), size(None), duration(None)) == ("–",) * 4


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (999_600, "1.0 MB"), (250_000_000, "250 MB")]
)
def test_sizes_are_powers_of_1000(count: int, shown: str):
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0.4 s"), (59.4, "59 s"), (59.7, "1 min 0 s"), (3_725.0, "1 h 2 min")]
)
def test_times_are_written_for_people(seconds: float, shown: str):
    assert duration(seconds) == shown


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_the_page(make, retrieval, tmp_path):
    found = [
        make({"en": 0.8, "de": 0.5 + seed / 100}, composition=text, seed=seed)
        for seed in (1, 2) for text in (None, "a")
    ]  # fmt: skip
    found.append(retrieval({"de": (0.8, 0.6)}, trained_for=None, method="none"))
    path = report(found, tmp_path / "report.html")
    picture = tmp_path / "page.png"
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", "--window-size=800,1200",
    ]  # fmt: skip
    subprocess.run([shutil.which("chromium"), *flags, path.as_uri()], check=True, capture_output=True, timeout=180)
    import matplotlib.image

    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[:2] == (1200, 800)
    dark = (pixels[..., :3].max(axis=-1) < 0.4).mean()
    assert 0.002 < dark < 0.3  # text and rules, neither an empty page nor a black one


def test_every_mean_and_gain_of_the_page_has_its_interval_and_its_verdict(measured, tmp_path):
    half, better = [True, False] * 60, [True, True, True, False] * 30
    files = [
        measured(f"{task}{composition}", {"en": better, "de": better if composition else half, "sw": half},
                 task=task, composition=composition)
        for task in ("panx", "xnli") for composition in (None, "merge(a)")
    ]  # fmt: skip
    page = page_of(files, tmp_path)
    classes = [attributes.get("class") or "" for _, attributes in page.tags]
    numbers = [place for place, name in enumerate(classes) if name.startswith("number")]
    assert len(numbers) > 30
    for place in numbers:
        assert "range" in classes[place + 1 : place + 3]  # the interval follows, after the sign of a shown gain
    shown = [attributes for _, attributes in page.tags if attributes.get("aria-label") == "difference shown"]
    text = words(page)
    assert len(shown) == 2 * 2 + 2 + 1  # de and the mean of each task; in the heat map the two tasks and their mean
    assert text.count("▲") == len(shown) + 4 and "no difference shown" in text  # and in the lede and three keys
    assert "no effect" not in text and "equal" not in text


def test_the_heat_map_has_intermediate_tasks_down_and_targets_across(make, tmp_path):
    found = [make({"de": 0.5, "sw": 0.4}, task=task, composition=c) for task in ("panx", "xnli") for c in (None, "a")]
    text = words(page_of(found, tmp_path))
    assert re.search(r"intermediate tasks ?panx.*xnli.*mean of tasks ?no intermediate task ?45\.0 % ?reference", text)


def test_digests_are_whole_in_the_provenance(make, tmp_path):
    text = words(page_of([make({"de": 0.5}, digest="sha256:" + "ab" * 32, base="cd" * 32)], tmp_path))
    assert "ab" * 32 in text and "cd" * 32 in text


def test_the_terminal_table_shows_the_interval_of_the_mean_within_100_columns(measured):
    files = [
        measured(f"c{place}", {"en": [True] * 40, "de": [True, False] * 20}, composition=composition)
        for place, composition in enumerate([None, "merge(squad)", "merge(mnli)", "merge(squad, mnli)", "stack(a, b)"])
    ]
    text = to_table(files, width=100)
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("difference") >= 4 and text.count("shown") >= 4  # below each gain, folded
    shown = {interval(row.cells[0]) for row in sections(read(files))[0].groups[0].summary}
    assert sum(map(text.count, shown)) == 15  # mean, worst language and gap of five columns
