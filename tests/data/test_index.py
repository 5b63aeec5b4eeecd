"""The data index: what its schema takes, what it refuses, and that files stay inside its folder."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from adapterxl.data import LocalIndex, open_data
from adapterxl.errors import DataError, TaskError, UsageError
from adapterxl.tasks import get_task

GOOD = """
format: 1
tasks:
  xnli:
    reader: tsv
    header: false
    columns: {text: 0, text_pair: 1, label: 2}
    train_from: mnli
    dev:
      en: [en.tsv]
      de: [de.tsv]
    test: {en: [gone.tsv]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapterxl-data.yaml").write_text(GOOD)
    (tmp_path / "en.tsv").write_text("a\tb\tneutral\n")
    (tmp_path / "de.tsv").write_text("c\td\t0\n")
    return tmp_path


def test_an_index_gives_splits_languages_rows_and_digests(folder):
    source, task = open_data(folder), get_task("xnli")
    assert source.splits(task) == {"dev": ("en", "de"), "test": ("en",)}
    assert source.languages(task, "dev") == ("en", "de")
    loaded = source.load(task, "dev", "de")
    assert [example.language for example in loaded.examples] == ["de"]
    assert loaded.files[0].path == "de.tsv"
    assert loaded.files[0].sha256 == hashlib.sha256(b"c\td\t0\n").hexdigest()
    assert "adapterxl-data.yaml" in source.describe and "split dev, language de" in loaded.origin


def test_a_missing_file_is_refused_only_when_its_task_is_used(folder):
    source = open_data(folder)
    with pytest.raises(DataError) as caught:
        source.load(get_task("xnli"), "test", "en")
    for part in ("adapterxl-data.yaml: tasks.xnli.test.en[0]", "'xnli'", "split test", "language en", "gone.tsv"):
        assert part in str(caught.value)


def test_an_unknown_language_is_refused_with_those_at_hand(folder):
    with pytest.raises(TaskError, match=r"no language 'ge' in the dev split .*found: en, de\."):
        open_data(folder).load(get_task("xnli"), "dev", "ge")


def test_a_split_that_is_not_there_names_the_others_and_the_task_to_train_from(folder):
    with pytest.raises(TaskError, match=r"no train split in .*found: dev, test\..*that of 'mnli'.*--train-from"):
        open_data(folder).load(get_task("xnli"), "train", "en")


def test_a_task_that_the_index_lacks_is_refused_by_name(folder):
    with pytest.raises(TaskError, match=r"adapterxl-data\.yaml: no task 'mnli', found: xnli\. Did you mean 'xnli'"):
        open_data(folder).splits(get_task("mnli"))


def test_a_folder_without_index_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "adapterxl-data.yml").touch()
    with pytest.raises(DataError, match=r"no adapterxl-data\.yaml .*found: adapterxl-data\.yml\. Did you mean"):
        open_data(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "a.tsv"])
def test_data_must_be_a_folder(tmp_path, name):
    (tmp_path / "a.tsv").touch()
    with pytest.raises(UsageError, match=r"found (nothing|a file), expected a folder"):
        open_data(tmp_path / name)


def test_without_a_folder_data_come_from_the_hub():
    assert "hub" in open_data(None).describe


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.tsv"
    outside.write_text("a\tb\t0\n")
    (folder / "en.tsv").unlink()
    (folder / "en.tsv").symlink_to(outside)
    with pytest.raises(DataError, match=r"tasks\.xnli\.dev\.en\[0\].*link out of the folder"):
        open_data(folder).load(get_task("xnli"), "dev", "en")


def test_something_that_is_no_file_is_refused_and_not_waited_for(folder):
    (folder / "en.tsv").unlink()
    os.mkfifo(folder / "en.tsv")
    with pytest.raises(DataError, match="no regular file"):
        open_data(folder).load(get_task("xnli"), "dev", "en")


def entry(text: str) -> str:
    """Return an index with one task whose entry is `text`, in flow style."""
    return f"format: 1\ntasks:\n  xnli: {text}\n"


TABLE = "columns: {text: 0, text_pair: 1, label: 2}, dev: {en: [a]}"
BAD = {
    "empty": ("", r":1: found nothing, expected keys such as format, tasks"),
    "list": ("- a\n", r":1: found list"),
    "no YAML": ("format: 1\ntasks: [\n", r":3: "),
    "tag that runs code": ("format: !!python/object/apply:os.getcwd []\n", r":1: could not determine a constructor"),
    "key twice": ("format: 1\nformat: 1\n", r":2: found the key 'format' twice"),
    "language twice": (entry("{reader: iob, dev: {en: [a], en: [b]}}"), r":3: found the key 'en' twice"),
    "Norwegian": (entry("{reader: iob, dev: {no: [a]}}"), r":3: found the key no as bool, expected text.*quotes"),
    "list as a key": (entry("{[a]: b}"), r":3: found the key here as seq"),
    "alias": ("format: &a 1\ntasks: *a\n", r":2: found an alias"),
    "not UTF-8": (b"format: 1 # \xe4\n", r": found byte 12 that is not UTF-8"),
    "other format": ("format: 2\ntasks: {}\n", r": format: found 2"),
    "format as text": ("format: '1'\ntasks: {}\n", r": format: found '1'"),
    "no tasks": ("format: 1\n", r": tasks: missing"),
    "task name": ("format: 1\ntasks: {X Y: {reader: iob, dev: {en: [a]}}}\n", r": tasks\.X Y"),
    "unknown top key": ("format: 1\ntask: {}\n", r": task: unknown key, .*Did you mean 'tasks'"),
    "unknown key": (entry("{readr: iob, dev: {en: [a]}}"), r": tasks\.xnli\.readr: unknown key.*Did you mean 'reader'"),
    "unknown reader": (entry("{reader: xml, dev: {en: [a]}}"), r": tasks\.xnli\.reader: found 'xml'.*'conllu'"),
    "no reader": (entry("{dev: {en: [a]}}"), r": tasks\.xnli\.reader: missing"),
    "no files": (entry("{reader: iob}"), r": tasks\.xnli\.reader: .*at least one of train, dev and test"),
    "empty file list": (entry("{reader: iob, dev: {en: []}}"), r": tasks\.xnli\.dev\.en: found \[\]"),
    "file as number": (entry("{reader: iob, dev: {en: 7}}"), r": tasks\.xnli\.dev\.en: found 7.*list"),
    "language name": (entry("{reader: iob, dev: {'../x': [a]}}"), r": tasks\.xnli\.dev\.\.\./x"),
    "absolute path": (entry("{reader: iob, dev: {en: [/etc/passwd]}}"), r": tasks\.xnli\.dev\.en\[0\]: .*relative"),
    "parent path": (entry("{reader: iob, dev: {en: [a/../../b]}}"), r": tasks\.xnli\.dev\.en\[0\]: .*with no"),
    "windows path": (entry(r"{reader: iob, dev: {en: ['C:\a']}}"), r": tasks\.xnli\.dev\.en\[0\]: .*relative"),
    "labels file path": (entry(f"{{reader: tsv, {TABLE}, labels_file: ../l}}"), r": tasks\.xnli\.labels_file"),
    "unknown role": (
        entry("{reader: tsv, columns: {txt: 0}, dev: {en: [a]}}"),
        r": tasks\.xnli\.columns\.txt.*Did you mean 'text'",
    ),
    "negative column": (entry("{reader: tsv, columns: {text: -1}, dev: {en: [a]}}"), r": tasks\.xnli\.columns\.text"),
    "column is true": (entry("{reader: tsv, columns: {text: true}, dev: {en: [a]}}"), r": tasks\.xnli\.columns\.text"),
    "no columns": (entry("{reader: csv, dev: {en: [a]}}"), r": tasks\.xnli\.columns: missing"),
    "names, no header": (
        entry("{reader: tsv, header: false, columns: {text: a}, dev: {en: [a]}}"),
        r": tasks\.xnli\.columns: .*'a' needs header: true",
    ),
    "numbers in jsonl": (
        entry("{reader: jsonl, columns: {text: 0}, dev: {en: [a]}}"),
        r": tasks\.xnli\.columns: expected names for reader jsonl",
    ),
    "two columns for one": (
        entry("{reader: tsv, columns: {text: [0, 1]}, dev: {en: [a]}}"),
        r": tasks\.xnli\.columns\.text: found a list",
    ),
    "one column of choices": (
        entry("{reader: tsv, columns: {choices: 0}, dev: {en: [a]}}"),
        r": tasks\.xnli\.columns\.choices: expected a list",
    ),
    "columns of a squad file": (
        entry("{reader: squad, columns: {text: a}, dev: {en: [a]}}"),
        r": tasks\.xnli\.columns: has no meaning",
    ),
    "which tags": (entry("{reader: conllu, column: deprel, dev: {en: [a]}}"), r": tasks\.xnli\.column: found 'deprel'"),
    "half a bitext": (
        entry("{reader: bitext, test: {en: [a]}}"),
        r": tasks\.xnli\.test\.en: found 1 file\(s\), expected 2",
    ),
    "labels of many files": (
        entry("{reader: tsv, columns: {text: 0}, labels_file: l, dev: {en: [a, b]}}"),
        r": tasks\.xnli\.labels_file: goes with exactly one data file",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "pattern"), BAD.values(), ids=BAD.keys())
def test_a_bad_index_is_refused_with_file_and_field(tmp_path, text, pattern):
    path = tmp_path / "adapterxl-data.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match="^" + re.escape(str(path)) + pattern) as caught:
        LocalIndex.open(tmp_path)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("name", "text", "pattern"),
    [
        ("panx", "{reader: conllu, dev: {en: [a]}}", None),
        ("panx", "{reader: squad, dev: {en: [a]}}", r"tasks\.panx\.reader: found squad.*jsonl, iob, conllu"),
        (
            "mnli",
            "{reader: lines, dev: {en: [a]}}",
            r"reader: found lines, which holds mask, not rows for a task of kind classify",
        ),
        ("mnli", "{reader: tsv, columns: {text: 0, label: 1}, dev: {en: [a]}}", r"tasks\.mnli\.columns\.text_pair"),
        ("copa", "{reader: tsv, columns: {choices: [0, 1]}, dev: {en: [a]}}", r"tasks\.copa\.columns\.label: missing"),
    ],
)
def test_an_entry_must_fit_the_kind_of_its_task(tmp_path, name, text, pattern):
    (tmp_path / "adapterxl-data.yaml").write_text(f"format: 1\ntasks: {{{name}: {text}}}\n")
    (tmp_path / "a").write_text("1\tx\t_\tO\t_\t_\t_\t_\t_\t_\n")
    source = LocalIndex.open(tmp_path)
    if pattern is None:
        assert len(source.load(get_task(name), "dev", "en").examples) == 1
    else:
        with pytest.raises(DataError, match=pattern):
            source.load(get_task(name), "dev", "en")
