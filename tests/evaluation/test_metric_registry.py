"""Metrics are found by their files, looked up by name, and refuse input that does not fit."""

from __future__ import annotations

import pkgutil
import random
import subprocess
import sys

import pytest

import adapterxl.evaluation.metrics as package
from adapterxl.errors import DataError, UsageError
from adapterxl.evaluation.metrics import Metric, all_metrics, get_metric
from adapterxl.evaluation.metrics.base import stacked
from adapterxl.tasks.base import KINDS

ONE_ROW = {  # a valid row of each metric: (prediction, gold), fully right
    "accuracy": ("neutral", "neutral"),
    "best_exact_match": (("42", -1.0), ("42",)),
    "best_f1": (("42", -1.0), ("42",)),
    "bucc": (("t1",), ("t1",)),
    "exact_match": ("42", ("42",)),
    "f1": ("42", ("42",)),
    "macro_f1": ("neutral", "neutral"),
    "map_at_20": (("7", "8"), ("7", "8")),
    "masked_accuracy": (["dog"], ["dog"]),
    "mlqa": ("42", ("42",)),
    "mlqa_exact_match": ("42", ("42",)),
    "mlqa_f1": ("42", ("42",)),
    "mrr_at_20": (("7", "8"), ("7",)),
    "own_language_at_20": (("de:7", "de:8"), ("de:7",)),
    "qqp": ("duplicate", "duplicate"),
    "recall_at_1": (("7", "8"), ("7",)),
    "recall_at_10": (("7", "8"), ("8",)),
    "recall_at_100": (("7", "8"), ("8",)),
    "recall_at_20": (("7", "8"), ("8",)),
    "recall_at_5": (("7", "8"), ("8",)),
    "retrieval_accuracy": ("7", "7"),
    "span_f1": (["B-PER"], ["B-PER"]),
    "squad": ("42", ("42",)),
    "squad_v2": (("42", -1.0), ("42",)),
    "token_accuracy": (["NOUN"], ["NOUN"]),
    "udpos_f1": (["NOUN"], ["NOUN"]),
    "weighted_f1": ("neutral", "neutral"),
}
NAMES = list(ONE_ROW)


def test_every_file_of_the_package_gives_its_metrics():
    assert list(all_metrics()) == NAMES
    assert all(get_metric(name).name == name for name in NAMES)


def test_every_metric_states_its_source_and_the_kinds_it_scores():
    for metric in all_metrics().values():
        assert metric.summary and metric.source
        assert metric.kinds and set(metric.kinds) <= set(KINDS)


def test_a_misspelt_metric_gets_a_suggestion():
    with pytest.raises(UsageError, match=r"'acuracy'\. Did you mean 'accuracy'\? Known metrics: .*span_f1"):
        get_metric("acuracy")


def _with_module(monkeypatch: pytest.MonkeyPatch, **attributes: object) -> None:
    """Let the package seem to hold exactly one module, `extra`, with these attributes."""
    module = type(sys)(f"{package.__name__}.extra")
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(package.pkgutil, "iter_modules", lambda _: [pkgutil.ModuleInfo(None, "extra", False)])


def test_a_file_without_a_metric_fails_loudly(monkeypatch):
    _with_module(monkeypatch)
    with pytest.raises(UsageError, match="extra: expected a Metric named METRIC"):
        all_metrics.__wrapped__()


def test_two_metrics_of_one_name_are_refused(monkeypatch):
    metric = Metric("twice", ("tag",), "-", "-", lambda predictions, golds: 0.0)
    _with_module(monkeypatch, METRICS=(metric, metric))
    with pytest.raises(UsageError, match="already a metric 'twice'"):
        all_metrics.__wrapped__()


@pytest.mark.parametrize("name", NAMES)
def test_a_right_answer_scores_one(name):
    prediction, gold = ONE_ROW[name]
    assert get_metric(name).compute([prediction] * 3, [gold] * 3, "de") == 1.0


SAMPLES = {  # rows of every sort: right, wrong, half right, empty, without an answer
    "accuracy": [("a", "a"), ("a", "b"), ("", "")],
    "exact_match": [("the 42", ["42", "x"]), ("a b", ["a b c"]), ("", []), ("x", []), ("?", ["!"])],
    "retrieval_accuracy": [("1", "1"), ("2", "1")],
    "span_f1": [(["B-PER", "I-PER", None], ["B-PER", "I-PER", "O"]), (["O"], ["B-LOC"]), (["O"], ["O"]), ([], [])],
    "token_accuracy": [(["N", None], ["N", "V"]), ([], []), (["V"], ["V"])],
}  # fmt: skip
SAMPLES["masked_accuracy"] = SAMPLES["token_accuracy"]
LABELS = [("a", "a"), ("a", "b"), ("b", "b"), ("c", "b"), ("", "")]
RANKINGS = [(("1", "2"), ("1",)), (("1", "2"), ("2", "3")), ((), ("1",)), (("1", "1"), ("1",)), (("2",), ("1", "2"))]
SAMPLES |= dict.fromkeys(("f1", "squad", "mlqa", "mlqa_exact_match", "mlqa_f1"), SAMPLES["exact_match"])
SAMPLES |= dict.fromkeys(("macro_f1", "weighted_f1"), LABELS)
SAMPLES |= dict.fromkeys((name for name in NAMES if "_at_" in name), RANKINGS)
SAMPLES["qqp"] = [(a, b) for a in ("duplicate", "different") for b in ("duplicate", "different")]
SAMPLES["bucc"] = [(("t1",), ("t1",)), (("t2",), ()), ((), ("t3",)), (("t4", "t5"), ("t5", "t6"))]
SAMPLES["udpos_f1"] = [(["NOUN", "NOUN", None], ["NOUN", "NOUN", "X"]), (["SYM", "SYM"], ["SYM", "X"]), ([], [])]


@pytest.mark.parametrize("name", [name for name in NAMES if not get_metric(name).tuned])
def test_counts_have_a_row_an_example_and_their_sums_give_the_value_of_any_sample(name):
    metric, generator = get_metric(name), random.Random(1)
    for _ in range(50):
        rows = SAMPLES[name] + generator.choices(SAMPLES[name], k=generator.randint(0, 9))
        predictions, golds = zip(*rows, strict=True)
        counts = metric.rows(predictions, golds, "de")
        assert counts.ndim == 2 and len(counts) == len(rows)
        value = metric.compute(predictions, golds, "de")
        assert metric.value(counts.sum(axis=0)) == pytest.approx(value, abs=1e-12)
        # twice the sample is the same value, and so is another order
        assert metric.compute(predictions[::-1] * 2, golds[::-1] * 2, "de") == pytest.approx(value, abs=1e-12)
        once = generator.randrange(len(rows))  # leaving an example out is the same as leaving its counts out
        left = [pair for place, pair in enumerate(rows) if place != once]
        assert metric.value(counts.sum(axis=0) - counts[once]) == pytest.approx(
            metric.compute(*zip(*left, strict=True), "de"), abs=1e-12
        )


@pytest.mark.parametrize("name", NAMES)
def test_unequal_lengths_are_refused_and_never_cut(name):
    prediction, gold = ONE_ROW[name]
    for found, expected in ((1, 2), (3, 2), (0, 1)):
        with pytest.raises(DataError, match=f"{name}: found {found} predictions for {expected} gold"):
            get_metric(name).compute([prediction] * found, [gold] * expected, "de")


@pytest.mark.parametrize("name", NAMES)
def test_empty_input_is_refused(name):
    with pytest.raises(DataError, match=f"{name}: nothing to score"):
        get_metric(name).compute([], [], "de")


@pytest.mark.parametrize("name", NAMES)
def test_one_string_in_place_of_a_list_is_refused(name):
    prediction, gold = ONE_ROW[name]
    with pytest.raises(DataError, match=f"{name}: predictions is one string"):
        get_metric(name).compute("a", [gold], "de")
    with pytest.raises(DataError, match=f"{name}: golds is one string"):
        get_metric(name).compute([prediction], "a", "de")


@pytest.mark.parametrize("name", [name for name in NAMES if get_metric(name).by_language])
def test_a_metric_with_rules_by_language_asks_for_it(name):
    with pytest.raises(UsageError, match=f"{name}: no language was given; expected that of the answers"):
        get_metric(name).compute(["a"], [("a",)])


@pytest.mark.parametrize("name", ["mlqa", "mlqa_exact_match", "mlqa_f1"])
def test_mlqa_knows_its_own_languages_only(name):
    with pytest.raises(DataError, match="mlqa: found the language 'th', expected one of en, es, hi"):
        get_metric(name).compute(["a"], [("a",)], "th")


def test_tables_of_unequal_width_are_stacked_with_zeros_that_change_no_value():
    macro = get_metric("macro_f1")
    golds, seeds = ["a", "b", "b"], (["a", "b", "a"], ["a", "c", "b"])
    tables = stacked([macro.counts(predictions, golds) for predictions in seeds])
    assert tables.shape == (2, 3, 9)
    assert macro.value(tables.sum(axis=1)) == pytest.approx([macro.compute(one, golds) for one in seeds], abs=1e-12)


def test_metrics_need_no_torch():
    code = (
        "import sys, adapterxl.evaluation.spans; from adapterxl.evaluation.metrics import all_metrics; "
        "all_metrics(); assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
