"""A user's own task in one file: facts, files beside it, defaults by kind."""

from __future__ import annotations

import re

import pytest
import yaml

from adapterxl.data import load_user_task
from adapterxl.errors import DataError

TASK = """
name: mood
kind: classify
labels: [glad, sad]
reader: tsv
columns: {text: sentence, label: mood}
train: {en: [en.tsv]}
dev: {de: [de.tsv], en: [en.tsv]}
"""


def test_a_task_file_gives_a_task_and_its_data(tmp_path):
    (tmp_path / "my_task.yaml").write_text(TASK)
    (tmp_path / "en.tsv").write_text("sentence\tmood\nWell\tglad\nOh\tsad\n")
    task, source = load_user_task(tmp_path / "my_task.yaml")
    assert (task.name, task.kind, task.labels, task.metrics) == ("mood", "classify", ("glad", "sad"), ("accuracy",))
    assert (task.languages, task.eval_split, task.max_length) == (("en", "de"), "dev", 256)
    assert source.splits(task) == {"train": ("en",), "dev": ("de", "en")}
    assert [example.label for example in source.load(task, "train", "en").examples] == [0, 1]
    with pytest.raises(DataError, match=r"my_task\.yaml: dev\.de\[0\]: 'de\.tsv' is missing"):
        source.load(task, "dev", "de")


@pytest.mark.parametrize(
    ("changes", "metrics"),
    [
        ("kind: tag\nlabels: [O, B-X, I-X]\nreader: iob", ("span_f1",)),
        ("kind: tag\nlabels: [N, V]\nreader: conllu\ncolumn: xpos", ("token_accuracy",)),
        ("kind: tag\nlabels: [O, B-X, I-X]\nreader: iob\nmetric: token_accuracy", ("token_accuracy",)),
        ("kind: span\nreader: squad", ("f1", "exact_match")),
        ("kind: span\nreader: squad\nmetric: exact_match", ("exact_match", "f1")),
        ("kind: choice\nreader: jsonl\ncolumns: {choices: endings, label: label}", ("accuracy",)),
    ],
)
def test_the_metric_follows_the_kind_unless_named(tmp_path, changes, metrics):
    path = tmp_path / "t.yaml"
    path.write_text(f"name: own\ntrain: {{en: [a]}}\n{changes}\n")
    assert load_user_task(path)[0].metrics == metrics


def test_choices_may_be_one_list_of_texts(tmp_path):
    (tmp_path / "t.yaml").write_text(
        "name: own\nkind: choice\nreader: jsonl\ncolumns: {choices: endings, label: label}\ntrain: {en: [a]}\n"
    )
    (tmp_path / "a").write_text('{"endings": ["x", "y", "z"], "label": 2}\n')
    task, source = load_user_task(tmp_path / "t.yaml")
    assert source.load(task, "train", "en").examples[0].choices == ("x", "y", "z")


def test_labels_that_are_digits_are_names_before_they_are_positions(tmp_path):
    (tmp_path / "t.yaml").write_text(
        "name: own\nkind: classify\nlabels: ['1', '0']\nreader: jsonl\ncolumns: {text: t, label: l}\ntrain: {en: [a]}\n"
    )
    (tmp_path / "a").write_text('{"t": "x", "l": 1}\n{"t": "y", "l": "0"}\n')
    task, source = load_user_task(tmp_path / "t.yaml")
    assert [example.label for example in source.load(task, "train", "en").examples] == [0, 1]


@pytest.mark.parametrize(
    ("old", "new", "pattern"),
    [
        ("name: mood\n", "", r"name: missing"),
        ("name: mood", "name: ../mood", r"name: found '\.\./mood'"),
        ("kind: classify", "kind: classification", r"kind: found 'classification'"),
        ("labels: [glad, sad]\n", "", r"labels: missing; kind classify needs"),
        ("[glad, sad]", "[glad]", r"labels: found \['glad'\]"),
        ("[glad, sad]", "[glad, glad]", r"labels: 'glad' occurs twice"),
        ("[glad, sad]", "[yes, no]", r"labels\[0\]: found True"),
        ("[glad, sad]", '["glad\\e[2J", sad]', r"has a control character; leave it out"),
        ("kind: classify", "kind: span", r"labels: found 2, but kind span has none"),
        ("reader: tsv", "reader: tsv\nmetric: acuracy", r"metric: found 'acuracy'.*Did you mean 'accuracy'"),
        ("reader: tsv", "reader: tsv\nlabel_aliases: {happy: glat}", r"label_aliases\.happy: .*Did you mean 'glad'"),
        ("reader: tsv", "reader: tsv\nlables: []", r"lables: unknown key.*Did you mean 'labels'"),
        ("en.tsv", "../en.tsv", r"train\.en\[0\]: .*with no"),
    ],
)
def test_a_bad_task_file_is_refused_with_file_and_field(tmp_path, old, new, pattern):
    path = tmp_path / "t.yaml"
    path.write_text(TASK.replace(old, new, 1))
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + pattern):
        load_user_task(path)


def test_a_task_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.yaml: cannot be read: No such file"):
        load_user_task(tmp_path / "gone.yaml")


RANKED = {"name": "faq", "kind": "retrieve", "reader": "jsonl", "search": "passages", "candidates": "context",
          "columns": {"context": "c", "question": "q", "answers": "a"}, "test": {"en": ["f.jsonl"]}}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "metrics", "length"),
    [({}, ("recall_at_10", "recall_at_1", "recall_at_5"), 512),
     ({"search": "pooled", "candidates": "sentence"}, ("map_at_20", "own_language_at_20"), 256),
     ({"metric": "recall_at_1"}, ("recall_at_1",), 512)],
)  # fmt: skip
def test_questions_about_passages_of_ones_own_are_retrieval(tmp_path, changed, metrics, length):
    path = tmp_path / "faq.yaml"
    path.write_text(yaml.safe_dump(RANKED | changed))
    task, _ = load_user_task(path)
    assert (task.metrics, task.max_length, task.form) == (metrics, length, "span")


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"candidates": None}, "candidates: found search passages and candidates nothing, expected context or sentence"),
     ({"search": "translation"}, "candidates: found search translation and candidates context"),
     ({"search": "mined"}, "search: found 'mined'|search"), ({"metric": "mrr_at_20"}, "metric: found 'mrr_at_20'"),
     ({"kind": "span"}, "search and candidates: are for kind retrieve, found kind span")],
)  # fmt: skip
def test_retrieval_that_does_not_fit_is_refused(tmp_path, changed, message):
    path = tmp_path / "faq.yaml"
    path.write_text(yaml.safe_dump(RANKED | changed))
    with pytest.raises(DataError, match=message):
        load_user_task(path)
