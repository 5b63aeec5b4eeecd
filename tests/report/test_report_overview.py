"""The heat map: which cell holds which gain, and what is averaged."""

from __future__ import annotations

import pytest

from adapterxl.evaluation.scores import Scores
from adapterxl.report.overview import overviews
from adapterxl.report.tables import read, sections


def test_tasks_are_averaged_with_and_without_retrieval(make, retrieval):
    found = [
        make({"de": 0.6}), make({"de": 0.4}, task="panx"),
        retrieval({"de": (0.1, 0.3)}, method="none", trained_for=None),
    ]  # fmt: skip
    (overview,) = overviews(sections(found))
    assert [target.name for target in overview.targets] == [
        "panx", "xnli", "tatoeba", "mean with retrieval", "mean without retrieval",
    ]  # fmt: skip
    (line,) = overview.lines
    assert line.is_reference and [cell.mean for cell in line.means] == pytest.approx([0.4, 0.6, 0.2, 0.4, 0.5])


def test_a_mean_of_tasks_needs_every_task(make):
    found = [make({"de": 0.6}), make({"de": 0.4}, task="panx"), make({"de": 0.7}, composition="a")]
    (overview,) = overviews(sections(found))
    assert overview.targets[-1].name == "mean of tasks"
    assert [line.means[-1] and line.means[-1].mean for line in overview.lines] == [pytest.approx(0.5), None]


def test_one_task_has_no_overview(make):
    assert overviews(sections([make({"de": 0.6}), make({"de": 0.7}, composition="a")])) == []


def test_a_line_has_the_gain_of_each_target_and_their_averages(make, retrieval):
    found = [
        make({"de": 0.6}), make({"de": 0.7}, composition="merge(a)"),
        make({"de": 0.4}, task="panx"), make({"de": 0.38}, task="panx", composition="merge(a)"),
        retrieval({"de": (0.1, 0.3)}, method="none", trained_for=None),
        retrieval({"de": (0.2, 0.4)}, method="merge", trained_for=None, composition="merge(a)"),
    ]  # fmt: skip
    (overview,) = overviews(sections(found))
    reference, line = overview.lines
    assert reference.gains == (None,) * 5 and line.label == "merge(a)"
    assert [cell.mean for cell in line.gains] == pytest.approx([-0.02, 0.1, 0.1, 0.06, 0.04])


def test_methods_have_lines_of_their_own_and_share_what_is_retrieved_without_training(make, retrieval):
    found = [
        make({"de": value}, composition=composition, method=method, task=task)
        for task in ("xnli", "panx")
        for method, value in (("lora", 0.6), ("bottleneck", 0.5))
        for composition in (None, "merge(a)")
    ]
    found.append(retrieval({"de": (0.2, 0.4)}, method="none", trained_for=None))
    found.append(retrieval({"de": (0.4, 0.4)}, method="merge", trained_for=None, composition="merge(a)"))
    found.append(retrieval({"de": (0.5, 0.5)}, method="merge", trained_for=None, composition="merge(b)"))
    (overview,) = overviews(sections(found))
    assert [(name, [line.label for line in lines]) for name, lines in overview.families] == [
        ("bottleneck", ["no intermediate task", "merge(a)"]),
        ("lora", ["no intermediate task", "merge(a)"]),
        ("", ["merge(b)"]),
    ]
    assert [line.means[2].mean for line in overview.lines] == pytest.approx([0.3, 0.4, 0.3, 0.4, 0.5])


def test_the_backbone_alone_counts_for_every_seed_in_an_average(measured, tmp_path):
    right = [True, True, False, True] * 10
    files = [measured(f"{task}{seed}", {"de": right}, task=task, seed=seed)
             for task in ("xnli", "panx") for seed in (1, 2)]  # fmt: skip
    found = read(files)
    backbone = found[0].model_copy(update={
        "task": "tatoeba", "seed": 0,
        "module": found[0].module.model_copy(update={"method": "none", "task": None}),
        "records": [found[0].records[0].model_copy(update={"direction": "de->en"})],
    })  # fmt: skip
    rows = [{"language": "de", "direction": "de->en", "id": f"{i:04d}", "prediction": "y" if one else "n", "gold": "y"}
            for i, one in enumerate(right)]  # fmt: skip
    found.append(Scores.load(backbone.save(tmp_path / "tatoeba.json", rows)))
    (line,) = overviews(sections(found))[0].lines
    assert [seed for seed, _ in line.means[3].by_seed] == [1, 2]
    assert line.means[3].mean == 0.75 and line.means[3].low < 0.75 < line.means[3].high


def test_a_gain_over_a_partial_reference_says_so_and_enters_no_average(make):
    found = [
        make({"de": 0.6}, expected=["de", "sw"]), make({"de": 0.7, "sw": 0.5}, composition="a"),
        make({"de": 0.4, "sw": 0.3}, task="panx"), make({"de": 0.5, "sw": 0.4}, task="panx", composition="a"),
    ]  # fmt: skip
    (overview,) = overviews(sections(found))
    line = overview.lines[1]
    assert line.remarks == ("", "", "") and line.gain_remarks == ("", "1 of 2 languages", "")
    assert line.means[2].mean == pytest.approx(0.525) and line.gains[2] is None
