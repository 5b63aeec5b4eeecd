"""Predictions beside scores: when they are used, when they are not, and what is said then."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from adapterxl.errors import DataError
from adapterxl.evaluation.scores import Scores
from adapterxl.report.notes import notes, uncertainty
from adapterxl.report.predictions import ABSENT, OTHER, read_predictions
from adapterxl.report.tables import read, sections


def rights(share: float, seed: int, size: int = 200) -> list[bool]:
    return (np.random.default_rng(seed).random(size) < share).tolist()


def cells(files, label="de"):
    (section,) = sections(read(files))
    return section, {row.label: row for row in section.groups[0].rows}[label].cells


def test_predictions_give_one_seed_an_interval_over_examples_and_words_for_it(measured):
    section, (cell,) = cells([measured("a", {"de": [True, False] * 50})])
    assert cell.std is None and cell.low == pytest.approx(0.4, abs=0.02) and cell.high == pytest.approx(0.6, abs=0.02)
    assert "There is one seed: how far another seed would move a number is not in them." in uncertainty(section)
    assert notes(section) == []


def test_the_order_of_the_examples_changes_nothing(measured):
    first = measured("first", {"de": rights(0.6, 1), "sw": rights(0.4, 2)})
    other = first.with_name("other.json")
    other.write_bytes(first.read_bytes())
    lines = first.with_name("first.predictions.jsonl").read_text("utf-8").splitlines()
    random.Random(0).shuffle(lines)
    other.with_name("other.predictions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    for group in zip(*(sections(read([file]))[0].groups[0].rows for file in (first, other)), strict=True):
        assert group[0].cells == group[1].cells and group[0].cells[0].low is not None


def test_missing_predictions_are_no_error_and_are_said(measured, make):
    files = [measured("a", {"de": rights(0.6, 1)}), measured("b", {"de": rights(0.6, 2)}, composition="b")]
    files[1].with_name("b.predictions.jsonl").unlink()
    section, found = cells(files)
    assert found[0].low is not None and found[1].low is None
    assert any("No predictions beside the scores of “b” (seed 1)" in note for note in notes(section))
    gain = section.groups[0].gains.rows[0].cells[0]
    assert gain.p is None and gain.shown is None
    assert read_predictions(make({"de": 0.5})).missing == ABSENT


def test_predictions_of_another_run_are_not_used_and_their_file_is_named(measured):
    file = measured("a", {"de": rights(0.6, 1)})
    other = measured("b", {"de": rights(0.7, 2)}).with_name("b.predictions.jsonl")
    file.with_name("a.predictions.jsonl").write_bytes(other.read_bytes())
    assert read_predictions(Scores.load(file)).missing == OTHER
    section, (cell,) = cells([file])
    assert cell.low is None
    assert any("a.json do not give all of its values" in note for note in notes(section))


def test_too_few_predictions_are_not_used(measured):
    file = measured("a", {"de": [True] * 12, "sw": [True] * 12})
    lines = file.with_name("a.predictions.jsonl")
    lines.write_text("".join(lines.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    found = read_predictions(Scores.load(file))
    assert found.missing == OTHER and [place[0] for _, place in found.counted] == ["de"]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"language": "de", "id": 7, "prediction": "a", "gold": "a"}',
     '{"language": "de", "id": "x", "gold": "a"}', '{"language": [], "id": "x", "prediction": "a", "gold": "a"}',
     "[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_no_prediction_is_refused_with_its_number(measured, line):
    file = measured("a", {"de": [True]})
    with open(file.with_name("a.predictions.jsonl"), "a", encoding="utf-8") as lines:
        lines.write(line + "\n")
    with pytest.raises(DataError, match=r"a\.predictions\.jsonl:2: found .*, expected a JSON object") as error:
        sections(read([file]))
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_handful_of_examples_gets_no_interval_and_that_is_said(measured):
    section, (cell,) = cells([measured("a", {"de": [True] * 9, "sw": [True] * 9})])
    assert (cell.low, cell.high) == (None, None)
    assert any("fewer than 10 examples" in note for note in notes(section))


def test_one_language_of_few_examples_does_not_hide_the_intervals_of_the_others(measured):
    section, (cell,) = cells([measured("a", {"de": rights(0.6, 1), "sw": [True] * 9})])
    assert cell.low is not None and uncertainty(section).startswith("The ranges are 95 % intervals over the test")


def test_predictions_that_are_not_text_or_do_not_fit_the_metric_are_refused(measured):
    file = measured("a", {"de": [True] * 10})
    lines = file.with_name("a.predictions.jsonl")
    row = json.dumps({"language": "de", "id": "x", "prediction": 3, "gold": "yes"}) + "\n"
    lines.write_text(row * 10, "utf-8")
    with pytest.raises(DataError, match=r"a\.predictions\.jsonl: de: accuracy: the prediction of row 0 .* is 3"):
        sections(read([file]))
    lines.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"a\.predictions\.jsonl: cannot be read"):
        sections(read([file]))


def test_seeds_that_scored_different_examples_are_said_and_fall_back_to_seeds_alone(measured):
    files = [
        measured(f"s{seed}", {"de": rights(0.6, seed), "sw": rights(0.4, seed)}, seed=seed, prefix=prefix)
        for seed, prefix in ((1, ""), (2, ""), (3, "x"))
    ]
    section, (cell,) = cells(files)
    values = [scores.records[0].value for _, scores in section.scores]
    half = 4.302653 * np.std(values, ddof=1) / 3**0.5
    assert (cell.low, cell.high) == pytest.approx((np.mean(values) - half, np.mean(values) + half))
    assert any("“no intermediate task” in de and sw scored different examples" in note for note in notes(section))


def test_a_gain_over_other_examples_is_not_paired_and_that_is_said(measured):
    base = measured("base", {"de": rights(0.6, 1)})
    same = measured("same", {"de": rights(0.6, 1)}, composition="a")
    other = measured("other", {"de": rights(0.6, 1)}, composition="b", prefix="x")
    section = sections(read([base, same, other]))[0]
    paired, unpaired = section.groups[0].gains.rows[0].cells
    assert (paired.low, paired.high, paired.p) == (0.0, 0.0, 1.0)
    assert unpaired.low < -0.05 < 0.05 < unpaired.high
    assert any("On “b” in de, a composition and its baseline scored different" in note for note in notes(section))


def test_a_gain_in_one_language_is_corrected_for_the_others(measured):
    worse, better = [True, False] * 100, [True, True, True, False] * 50
    languages = ("ar", "de", "ru", "sw")
    files = [
        measured("base", dict.fromkeys(languages, worse)),
        measured("a", dict.fromkeys(languages, worse) | {"sw": better}, composition="a"),
    ]
    gains = {row.label: row.cells[0] for row in sections(read(files))[0].groups[0].gains.rows}
    assert gains["de"].p == gains["de"].adjusted == 1.0 and gains["de"].shown is False
    assert gains["sw"].adjusted == pytest.approx(4 * gains["sw"].p) and gains["sw"].shown is True


def test_directions_of_retrieval_share_their_examples(measured, tmp_path):
    right = rights(0.5, 3)
    base = Scores.load(measured("base", {"de": right}))
    records = [base.records[0].model_copy(update={"direction": way}) for way in ("de->en", "en->de")]
    rows = [
        {"language": "de", "direction": way, "id": f"{i:04d}", "prediction": "y" if one else "n", "gold": "y"}
        for way in ("de->en", "en->de") for i, one in enumerate(right)
    ]  # fmt: skip
    file = base.model_copy(update={"records": records}).save(tmp_path / "both.json", rows)
    group = sections(read([file]))[0].groups[0]
    both, mean = group.rows[0].cells[0], group.points[0].cells[0]
    assert (mean.low, mean.high) == (both.low, both.high)  # two equal directions are one measurement
