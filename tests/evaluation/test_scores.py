"""Scores files: what is computed, what is written, and that a bad file is refused by naming its place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapterxl.errors import DataError, UsageError
from adapterxl.evaluation.scores import BaseInfo, ModuleInfo, Record, Scores, language_values, zero_shot_mean


def record(language: str, value: float, **changes: Any) -> Record:
    fields = {"split": "test", "metric": "f1", "n": 10, "primary": True}
    return Record(language=language, value=value, **(fields | changes))


def scores(*records: Record, expected: tuple[str, ...] = ("en", "de"), **changes: Any) -> Scores:
    return Scores.build(
        task="panx",
        base=BaseInfo(name="xlmr", fingerprint="aa11"),
        module=ModuleInfo(name="panx", method="lora", task="panx", parts=["panx"]),
        seed=1,
        engine="packed",
        records=records or (record("en", 0.8), record("de", 0.5)),
        expected_languages=expected,
        versions={"torch": "2.13.0"},
        seconds=2.5,
        **changes,
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return scores().save(tmp_path / "scores.json")


def changed(path: Path, **fields: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")
    return path


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        Scores.load(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    for part in parts:
        assert part in message


def test_the_mean_leaves_the_source_language_out():
    assert zero_shot_mean([record("en", 0.9), record("de", 0.6), record("sw", 0.2)], "en") == {"f1": 0.4}


def test_another_source_language_leaves_another_language_out():
    means = zero_shot_mean([record("en", 0.9), record("de", 0.6), record("sw", 0.25)], "de")
    assert means == {"f1": pytest.approx(0.575)}


def test_directions_are_averaged_before_languages():
    records = [
        record("de", 0.8, direction="de->en"),
        record("de", 0.6, direction="en->de"),
        record("sw", 0.1, direction="sw->en"),
    ]
    assert zero_shot_mean(records, "en") == {"f1": pytest.approx((0.7 + 0.1) / 2)}


def test_metrics_are_never_averaged_together():
    means = zero_shot_mean([record("de", 0.5), record("de", 0.3, metric="em", primary=False)], "en")
    assert means == {"f1": 0.5, "em": 0.3}


def test_a_question_about_a_context_in_another_language_is_in_no_mean():
    records = [record("de", 0.5, context_language="de"), record("de", 0.1, context_language="en")]
    assert zero_shot_mean(records, "en") == {"f1": 0.5}


def test_the_source_language_alone_has_no_zero_shot_mean():
    assert zero_shot_mean([record("en", 0.9)], "en") == {}


@given(st.dictionaries(st.sampled_from(["de", "es", "ru", "sw"]), st.floats(0, 1), min_size=1))
def test_the_mean_lies_between_the_worst_and_the_best_language(values: dict[str, float]):
    mean = zero_shot_mean([record(language, value) for language, value in values.items()], "en")["f1"]
    assert min(values.values()) - 1e-12 <= mean <= max(values.values()) + 1e-12


def test_language_values_are_keyed_by_metric_and_language():
    assert language_values([record("en", 0.8), record("de", 0.5)]) == {"f1": {"en": 0.8, "de": 0.5}}


def test_scores_are_partial_when_an_expected_language_lacks_a_record():
    found = scores(expected=("en", "de", "sw", "th"))
    assert found.partial and found.missing_languages == ["sw", "th"]
    assert not scores().partial


def test_scores_survive_the_file(tmp_path: Path):
    before = scores(options={"layer": 8, "limit": None, "centered": True}, train_from="wikiann", peak_memory_bytes=10)
    after = Scores.load(before.save(tmp_path / "a" / "b" / "scores.json"))
    assert after == before


def test_the_file_has_the_documented_fields(written: Path):
    assert set(json.loads(written.read_text(encoding="utf-8"))) == {
        "format", "task", "base", "module", "seed", "engine", "source_language", "train_from", "options",
        "records", "expected_languages", "partial", "zero_shot_mean", "versions", "seconds", "peak_memory_bytes",
    }  # fmt: skip


def test_predictions_lie_beside_the_scores_as_plain_utf8(tmp_path: Path):
    rows = [{"language": "ar", "id": "1", "prediction": "مرحبا", "gold": "سلام"}, {"id": "2"}]
    scores().save(tmp_path / "dev.scores.json", iter(rows))
    text = (tmp_path / "dev.scores.predictions.jsonl").read_text(encoding="utf-8")
    assert "مرحبا" in text and [json.loads(line) for line in text.splitlines()] == rows


def test_a_lone_surrogate_in_a_prediction_is_kept(tmp_path: Path):
    scores().save(tmp_path / "s.json", [{"id": "1", "prediction": "a\ud800b"}])
    assert json.loads((tmp_path / "s.predictions.jsonl").read_text(encoding="utf-8"))["prediction"] == "a\ud800b"


def test_predictions_of_an_earlier_run_do_not_stay_beside_new_scores(tmp_path: Path):
    scores().save(tmp_path / "s.json", [{"id": "1"}])
    scores().save(tmp_path / "s.json")
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_a_run_that_breaks_off_leaves_the_old_files_and_no_rest(tmp_path: Path):
    path = scores().save(tmp_path / "s.json", [{"id": "old"}])

    def rows():
        yield {"id": "new"}
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        scores(expected=("en", "de", "sw")).save(path, rows())
    assert sorted(os.listdir(tmp_path)) == ["s.json", "s.predictions.jsonl"]
    assert not Scores.load(path).partial
    assert json.loads((tmp_path / "s.predictions.jsonl").read_text(encoding="utf-8")) == {"id": "old"}


def test_a_name_without_json_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(UsageError, match=r"expected one for scores, such as scores\.json"):
        scores().save(tmp_path / "scores.txt", [{}])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        scores().save(tmp_path / "file" / "scores.json")


def test_scores_know_the_file_they_came_from(written: Path):
    assert Scores.load(written).origin == str(written)
    assert "module 'panx'" in scores().origin


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.01, -0.01])
def test_a_value_outside_0_to_1_is_no_score(value: float):
    with pytest.raises(ValidationError):
        record("de", value)


def test_a_missing_file_is_named(tmp_path: Path):
    refused(tmp_path / "none.json", "cannot be read")


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path):
    refused(tmp_path, "cannot be read")


def test_a_file_cut_off_is_refused_with_its_line(written: Path):
    text = written.read_text(encoding="utf-8")
    written.write_text(text[: len(text) // 2], encoding="utf-8")
    refused(written, ":", "not valid JSON", "cut off")


def test_an_empty_file_is_refused(written: Path):
    written.write_bytes(b"")
    refused(written, ":1:", "not valid JSON")


def test_bytes_that_are_not_utf8_are_refused(written: Path):
    written.write_bytes(b'{"task": "\xff"}')
    refused(written, "byte 10 is not UTF-8")


def test_nested_brackets_without_end_are_refused(written: Path):
    written.write_text("[" * 200_000, encoding="utf-8")
    refused(written)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"'])
def test_json_that_is_no_object_is_refused(written: Path, text: str):
    written.write_text(text, encoding="utf-8")
    refused(written, "expected a scores object")


@pytest.mark.parametrize("number", [2, 0, "1", True, None, 1.0])
def test_another_format_number_is_refused(written: Path, number: Any):
    refused(changed(written, format=number), "'format'", "expected 1")


def test_a_file_of_something_else_is_refused(written: Path):
    written.write_text('{"train": [1, 2]}', encoding="utf-8")
    refused(written, "'format' is None")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_refused(written: Path, word: str):
    text = written.read_text(encoding="utf-8")
    written.write_text(text.replace('"seconds": 2.5', f'"seconds": {word}'), encoding="utf-8")
    refused(written, word, "not a number")


def test_an_unknown_field_is_refused_with_the_nearest_known_one(written: Path):
    refused(changed(written, enginee="packed"), "'enginee' is not known", "Did you mean 'engine'?")


def test_a_wrong_field_deep_inside_is_named(written: Path):
    rows = json.loads(written.read_text(encoding="utf-8"))["records"]
    rows[1]["value"] = 53.2
    refused(changed(written, records=rows), "records[1].value", "53.2", "less than or equal to 1")


def test_a_number_written_as_text_is_refused(written: Path):
    refused(changed(written, seed="1"), "field 'seed' is '1'", "integer")


def test_a_missing_field_is_named(written: Path):
    data = json.loads(written.read_text(encoding="utf-8"))
    del data["base"]["fingerprint"]
    written.write_text(json.dumps(data), encoding="utf-8")
    refused(written, "'base.fingerprint' is missing")


def test_a_mean_that_the_records_do_not_give_is_refused(written: Path):
    refused(changed(written, zero_shot_mean={"f1": 0.9}), "zero_shot_mean", "0.9", "0.5")


def test_partial_must_agree_with_the_languages(written: Path):
    refused(changed(written, partial=True), "partial", "none")
    refused(changed(written, partial=False, expected_languages=["en", "de", "sw"]), "partial", "sw")


def test_two_values_for_one_language_and_metric_are_refused(written: Path):
    rows = json.loads(written.read_text(encoding="utf-8"))["records"]
    refused(changed(written, records=[*rows, rows[0]]), "records[2]", "a second 'f1' for 'en'")


def test_a_metric_that_is_primary_in_some_records_only_is_refused(written: Path):
    rows = json.loads(written.read_text(encoding="utf-8"))["records"]
    rows[1]["primary"] = False
    refused(changed(written, records=rows), "records[1].primary")


def test_scores_without_a_primary_metric_are_refused():
    with pytest.raises(ValidationError, match="none is marked as primary"):
        scores(record("de", 0.5, primary=False), expected=("de",))
