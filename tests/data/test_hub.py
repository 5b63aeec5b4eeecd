"""The hub: the documented layouts as local repositories of parquet, labels by name, fallbacks in order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from datasets import ClassLabel, List, Value
from repositories import at

from adapterxl.data.examples import ChoiceExample, ClassifyExample, PairExample, SpanExample, TagExample
from adapterxl.errors import DataError, TaskError
from adapterxl.tasks import HubSource, get_task

TEXT = Value("string")
ANSWERS = {"answer_start": List(Value("int32")), "text": List(TEXT)}


def mnli_columns(labels: list[Any]) -> dict[str, list[Any]]:
    count = len(labels)
    return {"premise": ["a"] * count, "hypothesis": ["b"] * count, "label": labels, "idx": list(range(count))}


def mnli_features(label: Any) -> dict[str, Any]:
    return {"premise": TEXT, "hypothesis": TEXT, "label": label, "idx": Value("int32")}


def test_mnli_as_in_glue(hub, repository):
    names = ClassLabel(names=["entailment", "neutral", "contradiction"])
    task = at(get_task("mnli"), repository("mnli", "validation_matched", mnli_columns([0, 2]), mnli_features(names)))
    loaded = hub.load(task, "dev", "en")
    assert loaded.examples == (
        ClassifyExample("en:0", "en", "a", "b", 0),
        ClassifyExample("en:1", "en", "a", "b", 2),
    )
    assert "config mnli, split validation_matched" in loaded.origin
    assert len(loaded.files[0].sha256) == 64


def test_class_labels_are_mapped_by_name_and_not_by_number(hub, repository):
    names = ClassLabel(names=["contradiction", "entailment", "neutral"])
    task = at(get_task("mnli"), repository("mnli", "train", mnli_columns([0, 1, 2]), mnli_features(names)))
    assert [example.label for example in hub.load(task, "train", "en").examples] == [2, 0, 1]


def test_numbers_without_names_are_positions(hub, repository):
    folder = repository("mnli", "train", mnli_columns([0, 1, 2]), mnli_features(Value("int64")))
    assert [example.label for example in hub.load(at(get_task("mnli"), folder), "train", "en").examples] == [0, 1, 2]


def test_a_row_without_label_stops_or_is_counted(hub, repository):
    names = ClassLabel(names=["entailment", "neutral", "contradiction"])
    task = at(get_task("mnli"), repository("mnli", "train", mnli_columns([1, -1]), mnli_features(names)))
    with pytest.raises(DataError, match=r"split train\) row 1: label: found -1, which marks a row without a label"):
        hub.load(task, "train", "en")
    loaded = hub.load(task, "train", "en", on_bad_row="drop")
    assert (len(loaded.examples), len(loaded.dropped)) == (1, 1)


def test_xnli_in_one_configuration_is_told_apart_by_its_language_column(hub, repository):
    columns = {
        "language": ["en", "de", "de"],
        "sentence1": ["a", "b", "c"],
        "sentence2": ["d", "e", "f"],
        "gold_label": ["neutral", "entailment", "contradiction"],
    }
    task = at(get_task("xnli"), repository("XNLI", "test", columns, dict.fromkeys(columns, TEXT)), position=1)
    examples = hub.load(task, "test", "de").examples
    assert [(example.text, example.text_pair, example.label) for example in examples] == [("b", "e", 0), ("c", "f", 2)]
    assert [example.id for example in examples] == ["de:0", "de:1"], "as its translation has it: pairs are found by ids"


def test_xnli_with_a_configuration_for_each_language(hub, repository):
    names = ClassLabel(names=["entailment", "neutral", "contradiction"])
    columns = {"premise": ["a"], "hypothesis": ["b"], "label": [1]}
    folder = repository("sw", "validation", columns, {"premise": TEXT, "hypothesis": TEXT, "label": names})
    examples = hub.load(at(get_task("xnli"), folder), "dev", "sw").examples
    assert examples == (ClassifyExample("sw:0", "sw", "a", "b", 1),)


def test_panx_tags_are_mapped_by_name(hub, repository):
    tags = ClassLabel(names=["B-LOC", "O", "I-LOC", "B-PER", "I-PER", "B-ORG", "I-ORG"])
    columns = {"tokens": [["In", "Rome"]], "ner_tags": [[1, 0]], "langs": [["en", "en"]]}
    features = {"tokens": List(TEXT), "ner_tags": List(tags), "langs": List(TEXT)}
    task = at(get_task("panx"), repository("PAN-X.en", "train", columns, features))
    assert hub.load(task, "train", "en").examples == (TagExample("en:0", "en", ("In", "Rome"), (0, 5)),)


def test_udpos_reads_the_configuration_named_after_the_language(hub, repository):
    tags = ClassLabel(names=["NOUN", "VERB"])
    columns = {"tokens": [["Rom", "liegt"]], "pos_tags": [[0, 1]]}
    folder = repository("udpos.German", "test", columns, {"tokens": List(TEXT), "pos_tags": List(tags)})
    task = at(get_task("udpos"), folder)
    names = [task.labels[tag] for tag in hub.load(task, "test", "de").examples[0].tags]
    assert names == ["NOUN", "VERB"]


def test_tags_that_are_numbers_without_names_are_refused(hub, repository):
    columns = {"tokens": [["Rome"]], "pos_tags": [[3]]}
    folder = repository("udpos.English", "test", columns, {"tokens": List(TEXT), "pos_tags": List(Value("int64"))})
    with pytest.raises(DataError, match=r"row 0: pos_tags\[0\]: found 3, expected one of: ADJ"):
        hub.load(at(get_task("udpos"), folder), "test", "en")


def test_squad_keeps_ids_and_answers(hub, repository):
    columns = {
        "id": ["x"],
        "title": ["t"],
        "context": ["Rome is old."],
        "question": ["How?"],
        "answers": [{"text": ["old"], "answer_start": [8]}],
    }
    features = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    task = at(get_task("squad"), repository(None, "train", columns, features))
    assert hub.load(task, "train", "en").examples == (SpanExample("x", "en", "Rome is old.", "How?", (("old", 8),)),)


def test_tydiqa_languages_are_told_apart_by_the_start_of_the_id(hub, repository):
    columns = {
        "id": ["english-1-0", "swahili-1-0", "swahili-2-0"],
        "context": ["a b"] * 3,
        "question": ["?!"] * 3,
        "answers": [{"text": ["b"], "answer_start": [2]}] * 3,
    }
    features = {"id": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    task = at(get_task("tydiqa"), repository("tydiqa", "validation", columns, features))
    assert [example.id for example in hub.load(task, "dev", "sw").examples] == ["swahili-1-0", "swahili-2-0"]
    with pytest.raises(DataError, match=r"found none; expected rows of task 'tydiqa' in language te"):
        hub.load(task, "dev", "te")


def test_xcopa_gathers_its_choices(hub, repository):
    columns = {"premise": ["a"], "choice1": ["b"], "choice2": ["c"], "question": ["cause"], "label": [1], "idx": [0]}
    features = dict.fromkeys(("premise", "choice1", "choice2", "question"), TEXT)
    features |= {"label": Value("int32"), "idx": Value("int32")}
    task = at(get_task("xcopa"), repository("et", "test", columns, features))
    assert hub.load(task, "test", "et").examples == (ChoiceExample("et:0", "et", "a", "cause", ("b", "c"), 1),)


def test_tatoeba_sentences_lose_their_line_ends(hub, repository):
    columns = {
        "source_sentence": ["Hallo\n"],
        "target_sentence": ["Hello\n"],
        "source_lang": ["deu"],
        "target_lang": ["eng"],
    }
    task = at(get_task("tatoeba"), repository("tatoeba.deu", "validation", columns, dict.fromkeys(columns, TEXT)))
    assert hub.load(task, "test", "de").examples == (PairExample("de:0", "de", "Hallo", "Hello"),)


def test_the_next_repository_is_read_when_the_first_lacks_a_column_and_this_is_said(hub, repository):
    names = ClassLabel(names=["entailment", "neutral", "contradiction"])
    columns, features = mnli_columns([0]), mnli_features(names)
    renamed = {"hypothesys" if key == "hypothesis" else key: value for key, value in columns.items()}
    broken = repository("mnli", "train", renamed, {key: features.get(key, TEXT) for key in renamed})
    good = repository("mnli", "train", columns, features)
    source = get_task("mnli").hub[0]
    task = replace(get_task("mnli"), hub=(replace(source, id=broken), replace(source, id=good)))
    loaded = hub.load(task, "train", "en")
    assert len(loaded.examples) == 1 and good in loaded.origin
    assert "no column 'hypothesis' (for text_pair), found: premise, hypothesys" in loaded.warnings[0]
    with pytest.raises(DataError, match=r"no column 'hypothesis'.*Did you mean 'hypothesys'.*--data DIR"):
        hub.load(replace(task, hub=task.hub[:1]), "train", "en")


def test_the_digest_follows_the_rows_and_not_the_storage(hub, repository):
    names = ClassLabel(names=["entailment", "neutral", "contradiction"])
    task = get_task("mnli")
    folders = [repository("mnli", "train", mnli_columns(labels), mnli_features(names)) for labels in ([0], [0], [1])]
    digests = [hub.load(at(task, folder), "train", "en").files[0].sha256 for folder in folders]
    assert digests[0] == digests[1] != digests[2]


def test_a_hub_that_cannot_be_reached_gives_one_error_with_every_repository(hub):
    with pytest.raises(DataError) as caught:
        hub.load(get_task("xnli"), "test", "de")
    message = str(caught.value)
    for part in ("facebook/xnli (config de, split test)", "google/xtreme (config XNLI, split test)", "--data DIR"):
        assert part in message


def test_a_configuration_that_is_not_there_is_named(hub, repository):
    names = ClassLabel(names=["entailment", "neutral", "contradiction"])
    folder = repository("other", "train", mnli_columns([0]), mnli_features(names))
    with pytest.raises(DataError, match=r"config mnli, split train\): ValueError: .*mnli"):
        hub.load(at(get_task("mnli"), folder), "train", "en")


def test_a_script_in_a_repository_is_never_run(hub, tmp_path):
    root = tmp_path / "evil"
    root.mkdir()
    (root / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(DataError, match="--data DIR"):
        hub.load(at(get_task("mnli"), str(root)), "train", "en")
    assert not (tmp_path / "ran").exists()


def test_a_task_without_hub_source_points_to_local_files(hub):
    with pytest.raises(TaskError, match=r"'copa' is not on the hub .*--data DIR"):
        hub.load(get_task("copa"), "train", "en")


def test_splits_and_languages_are_those_of_the_benchmark(hub):
    assert set(hub.splits(get_task("xnli"))) == {"dev", "test"}
    with pytest.raises(TaskError, match=r"no train split .*that of 'mnli'"):
        hub.load(get_task("xnli"), "train", "en")
    with pytest.raises(TaskError, match=r"no language 'xx' in the test split of the Hugging Face hub; found: en, ar"):
        hub.load(get_task("xnli"), "test", "xx")
    assert HubSource(id="x").splits == {}
