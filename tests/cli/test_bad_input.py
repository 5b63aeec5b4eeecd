"""Bad input from the shell: one line on stderr, code 1, and nothing half-written. On the real miniature."""

from __future__ import annotations

import json
import shutil

import pytest

from adapterxl.cli import main

pytestmark = pytest.mark.shared

QUICK = ["--max-steps", "1", "--batch-size", "2", "--limit", "4", "--device", "cpu"]


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a command that must fail; return its one line, having checked that nothing was written."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 1
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and error.endswith(lines[0] + "\n")
        assert "Traceback" not in error
        assert [*work.iterdir()] == []
        return lines[0]

    return run


@pytest.fixture
def base(shared):
    return shared / "models" / "xlmr-mini"


@pytest.fixture
def data(shared):
    return shared / "data"


@pytest.fixture
def own_task(tmp_path):
    """A user's task of three rows; the function writes other rows or other fields."""

    def write(rows: str, **fields: object):
        content = {"name": "mood", "kind": "classify", "labels": ["good", "bad"], "reader": "tsv", "header": True,
                   "columns": {"text": "text", "label": "label"}, "train": {"en": ["rows.tsv"]}}  # fmt: skip
        (tmp_path / "rows.tsv").write_text(rows, encoding="utf-8")
        path = tmp_path / "my_task.yaml"
        path.write_text(json.dumps(content | fields), encoding="utf-8")  # JSON is YAML
        return path

    return write


def test_an_unknown_task_is_named_with_the_nearest_one(refused, base, data):
    said = refused("train", "udpso", "--base", base, "--data", data, "--out", "m", *QUICK)
    assert "No task 'udpso'. Did you mean 'udpos'?" in said


def test_an_unknown_task_to_evaluate_is_named_with_the_nearest_one(refused, base, data):
    said = refused("evaluate", "none", "--task", "tatoba", "--base", base, "--data", data)
    assert "Did you mean 'tatoeba'?" in said


def test_an_unknown_language_is_named_with_those_there(refused, base, data):
    said = refused("evaluate", "none", "--task", "tatoeba", "--languages", "de,xx", "--base", base, "--data", data)
    assert "'xx'" in said and "tatoeba" in said


def test_an_unknown_training_language_is_named(refused, base, data):
    said = refused("train", "udpos", "--train-languages", "xx", "--base", base, "--data", data, "--out", "m", *QUICK)
    assert "'xx'" in said and "udpos" in said


def test_a_split_that_is_not_there_is_named(refused, base, data):
    said = refused("evaluate", "none", "--task", "tatoeba", "--split", "dev", "--base", base, "--data", data)
    assert "dev" in said and "test" in said


def test_a_missing_base_folder_is_named(refused, data):
    said = refused("train", "udpos", "--base", "./nowhere", "--data", data, "--out", "m", *QUICK)
    assert "nowhere" in said


def test_a_missing_data_folder_is_named(refused, base):
    said = refused("train", "udpos", "--base", base, "--data", "nowhere", "--out", "m", *QUICK)
    assert "nowhere" in said and "adapterxl-data.yaml" in said


def test_a_data_folder_without_index_is_named(refused, base, tmp_path):
    (tmp_path / "empty").mkdir()
    said = refused("train", "udpos", "--base", base, "--data", tmp_path / "empty", "--out", "m", *QUICK)
    assert "no adapterxl-data.yaml" in said


def test_a_missing_module_folder_is_named(refused, base, data):
    said = refused("evaluate", "nowhere", "--task", "udpos", "--base", base, "--data", data)
    assert "nowhere" in said


def test_a_missing_module_to_start_from_is_named(refused, base, data):
    said = refused("train", "udpos", "--start", "merge(nowhere)", "--base", base, "--data", data, "--out", "m", *QUICK)
    assert "nowhere" in said


def test_a_backbone_of_another_architecture_is_refused_by_name(refused, base, data, tmp_path):
    other = tmp_path / "gpt"
    shutil.copytree(base, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    said = refused("train", "udpos", "--base", other, "--data", data, "--out", "m", *QUICK)
    assert "found 'gpt2', expected one of: xlm-roberta, bert" in said


def test_an_unknown_label_is_named_with_file_and_line(refused, base, own_task):
    task = own_task("text\tlabel\nfine\tgood\nawful\tbda\n")
    said = refused("train", task, "--base", base, "--out", "m", *QUICK)
    assert "rows.tsv:3" in said and "'bda'" in said


def test_an_empty_file_is_named(refused, base, own_task):
    said = refused("train", own_task(""), "--base", base, "--out", "m", *QUICK)
    assert "rows.tsv" in said


def test_a_file_with_a_header_only_is_named(refused, base, own_task):
    said = refused("train", own_task("text\tlabel\n"), "--base", base, "--out", "m", *QUICK)
    assert "rows.tsv" in said


def test_an_index_that_names_a_missing_file_is_refused_by_that_name(refused, base, own_task):
    task = own_task("text\tlabel\nfine\tgood\n", train={"en": ["absent.tsv"]})
    said = refused("train", task, "--base", base, "--out", "m", *QUICK)
    assert "absent.tsv" in said


def test_a_layer_that_the_backbone_lacks_is_refused(refused, base, data):
    said = refused("train", "udpos", "--layers", "0-9", "--base", base, "--data", data, "--out", "m", *QUICK)
    assert "layers 0 to 5" in said


def test_a_hidden_state_that_the_backbone_lacks_is_refused(refused, base, data):
    said = refused("evaluate", "none", "--task", "tatoeba", "--layer", "7", "--base", base, "--data", data)
    assert "0 to 6" in said


def test_the_plain_backbone_has_no_head_to_evaluate(refused, base, data):
    said = refused("evaluate", "none", "--task", "udpos", "--base", base, "--data", data)
    assert "no head" in said


def test_a_retrieval_task_cannot_be_trained(refused, base, data):
    said = refused("train", "tatoeba", "--base", base, "--data", data, "--out", "m", *QUICK)
    assert "tatoeba" in said


def test_a_recipe_without_its_data_fails_before_it_writes(refused, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("base: ./nowhere\ndata: ./nothing\nmodules:\n  nli: {task: mnli}\n")
    said = refused("run", recipe, "--out", "results")
    assert "nowhere" in said


def test_a_folder_in_the_way_is_left_as_it_was(base, data, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").write_text("keep")
    code = main(
        [
            "train",
            "udpos",
            "--base",
            str(base),
            "--data",
            str(data),
            "--out",
            str(tmp_path / "m"),
            "--overwrite",
            *QUICK,
        ]
    )
    assert code == 1
    assert "mine.txt" in [path.name for path in (tmp_path / "m").iterdir()] and len([*tmp_path.iterdir()]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
