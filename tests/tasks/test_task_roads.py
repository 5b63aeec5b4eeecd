"""Tasks with a road of their own, trained and evaluated on a few rows: labels from files, parts, crossed languages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Value
from repositories import write_repository

from adapterxl import LoRA, Settings, TaskModule, evaluate, load, train
from adapterxl.backbone import Backbone
from adapterxl.data import HubData
from adapterxl.data.index import hash_file
from adapterxl.data.resolve import resolve_task
from adapterxl.errors import DataError, TaskError
from adapterxl.recipes.schema import Recipe
from adapterxl.recipes.steps import _content
from adapterxl.tasks import Task, get_task

PAIR = {"reader": "tsv", "header": False, "columns": {"text": 0, "text_pair": 1, "label": 2}}
MOOD = {"reader": "tsv", "header": False, "columns": {"text": 0, "label": 1}}


@pytest.fixture
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


def write(folder: Path, tasks: dict[str, Any], **files: str) -> Path:
    """Write an index (JSON is YAML) and its files, named without their dots."""
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "adapterxl-data.yaml").write_text(json.dumps({"format": 1, "tasks": tasks}))
    return folder


def fit(task: str, on: Backbone, data: Path, out: Path, **more: Any) -> TaskModule:
    settings = Settings(max_steps=1, batch_size=4)
    return train(task, on=on, method=LoRA(rank=2), settings=settings, data=data, out=out, progress=False, **more)


def ccg(folder: Path, names: str) -> Path:
    entry = {"reader": "tsv", "header": False, "columns": {"words": 0, "tags": 1}, "label_names": "names",
             "train": {"en": "rows"}, "dev": {"en": "rows"}}  # fmt: skip
    return write(folder, {"ccg": entry}, rows="The man ran\tNP/N N S\\NP\nA man\tNP/N N\n" * 20, names=names)


@pytest.mark.parametrize("names", ['{"N": 1, "NP/N": 0, "S\\\\NP": 2}', "NP/N\nN\nS\\NP\n"])
def test_the_supertags_of_ccg_come_from_the_users_file_and_go_with_the_module(on, tmp_path, names):
    data = ccg(tmp_path, names)
    module = fit("ccg", on, data, tmp_path / "module")
    assert module.head is not None and module.head.labels == ("NP/N", "N", "S\\NP")
    scores = evaluate(load(tmp_path / "module"), on=on, task="ccg", data=data, progress=False)
    assert [(record.language, record.metric, record.n) for record in scores.records] == [("en", "token_accuracy", 40)]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ('{"N": 0, "NP": 2}', r"names:1: expected the labels with the numbers 0 to 1, each once"),
        ('{"N": 0, "NP": "1"}', r"names:1: expected the labels with the numbers"),
        ('{"N": 0', r"names:1: no JSON that can be read"),
        ("N\n\nNP\n", r"names: found label 1 empty or again"),
        ("N\nN\n", r"names: found label 1 empty or again \('N'\)"),
        ("N\n", r"names: found 1 label, expected two labels or more"),
        ("N\nNP\n", r"rows:1: tags \(column 1\)\[0\]: found 'NP/N', expected one of: N, NP\."),
    ],
)
def test_a_bad_file_of_supertags_is_refused_with_its_place(on, tmp_path, names, problem):
    with pytest.raises(DataError, match=problem):
        fit("ccg", on, ccg(tmp_path, names), tmp_path / "module")


def test_ccg_needs_local_files_and_the_name_of_its_labels(tmp_path):
    with pytest.raises(TaskError, match="'ccg' needs local files, which name its labels"):
        resolve_task("ccg", None)
    write(tmp_path, {"ccg": {"reader": "iob", "dev": {"en": "rows"}}}, rows="a\tN\n")
    with pytest.raises(DataError, match=r"tasks\.ccg\.label_names: missing"):
        resolve_task("ccg", tmp_path)


def test_anli_plus_learns_the_rows_of_its_parts_in_proportion_with_one_head(on, tmp_path):
    sizes = {"snli": 40, "mnli": 20, "anli": 10}
    entries = {name: {**PAIR, "train": {"en": name}, "dev": {"en": name}} for name in sizes}
    files = {name: f"a\t{name}\tneutral\n" * count for name, count in sizes.items()}
    data = write(tmp_path, entries, **files)
    module = fit("anli_plus", on, data, tmp_path / "module")
    assert module.head is not None and module.head.labels == ("entailment", "neutral", "contradiction")
    scores = evaluate(module, on=on, task="anli_plus", data=data, progress=False)
    assert scores.records[0].n == 70
    task, source = resolve_task("anli_plus", data)
    rows = source.load(task, "train", "en").examples
    assert [sum(row.id.startswith(name) for row in rows) for name in sizes] == [40, 20, 10]
    own = write(tmp_path, entries | {"anli_plus": {**PAIR, "train": {"en": "anli"}}}, **files)
    task, source = resolve_task("anli_plus", own)
    assert len(source.load(task, "train", "en").examples) == 10, "files of the whole task come before those of parts"


def test_a_recipe_sees_changed_files_of_parts_and_of_an_entry_that_two_tasks_share(tmp_path):
    row = {"reader": "jsonl", "columns": {"context": "c", "question": "q", "question_pivot": "p", "answers": "a"}}
    entries = {name: {**PAIR, "train": {"en": name}} for name in ("snli", "mnli", "anli")}
    data = write(
        tmp_path, entries | {"afriqa": {**row, "train": {"hau": "hau"}}}, snli="a", mnli="b", anli="c", hau="d"
    )
    recipe = Recipe.model_validate({"data": str(data), "modules": {"one": {"task": "anli_plus"}}})

    def contents() -> list[str | None]:
        hash_file.cache_clear()  # a file is read once a process
        return [_content(recipe, task) for task in ("anli_plus", "afriqa", "afriqa_pivot", "squad")]

    before = contents()
    assert before[1] == before[2] is not None and before[3] is None
    (data / "mnli").write_text("changed")
    after_part = contents()
    assert after_part[0] != before[0] and after_part[1:] == before[1:]
    (data / "hau").write_text("changed")
    after_entry = contents()
    assert after_entry[0] == after_part[0] and after_entry[2] != before[2]


def test_a_task_without_english_rows_of_its_own_borrows_them_unless_its_languages_are_asked_for(on, tmp_path):
    rows = "good\tpositive\nbad\tnegative\n" * 10
    entries = {"nusax": {**MOOD, "train": {"en": "rows"}}, "afrisenti": {**MOOD, "train": {"hau": "rows"}}}
    data = write(tmp_path, entries, rows=rows)
    assert fit("afrisenti", on, data, tmp_path / "en").training["train_from"] == "nusax"
    own = fit("afrisenti", on, data, tmp_path / "hau", train_languages=["hau"])
    assert own.training["train_from"] == "afrisenti"
    data = write(tmp_path, {"afrisenti": entries["afrisenti"]}, rows=rows)
    with pytest.raises(TaskError, match=r"afrisenti has no train split in en, only in hau; .*no task 'nusax'"):
        fit("afrisenti", on, data, tmp_path / "none")


def test_a_module_trained_on_hub_data_records_what_was_locked_and_changed_data_is_refused(on, tmp_path):
    labels = ["neutral", "entailment"] * 10

    def served(premise: str) -> Task:
        columns = {"premise": [premise] * 20, "hypothesis": ["b"] * 20, "label": labels}
        folder = write_repository(
            tmp_path / "repo", {("mnli", "train"): (columns, dict.fromkeys(columns, Value("string")))}
        )
        return replace(get_task("mnli"), hub=(replace(get_task("mnli").hub[0], id=folder, splits={"train": "train"}),))

    def hub(number: int, **more: Any) -> HubData:
        return HubData(str(tmp_path / f"cache{number}"), lock=tmp_path / "lock.json", **more)

    module = train(served("a"), on=on, method=None, settings=Settings(max_steps=1), data=hub(1), progress=False)
    (locked,) = json.loads((tmp_path / "lock.json").read_text())["sources"].values()
    assert locked["sha256"] in json.dumps(module.training) and locked["rows"] == 20
    again = {"on": on, "method": None, "settings": Settings(max_steps=1), "progress": False}
    with pytest.raises(DataError, match="--accept-data"):
        train(served("c"), data=hub(2), **again)
    train(served("c"), data=hub(3, accept=True), **again)


def squad(context: str, question: str, answer: str, count: int = 20) -> str:
    answers = [{"text": answer, "answer_start": context.index(answer)}]
    qas = [{"id": str(n), "question": question, "answers": answers} for n in range(count)]
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": qas}]}]})


@pytest.fixture
def answers(on, tmp_path) -> tuple[TaskModule, Path]:
    """A span module, and a folder with MLQA and AfriQA."""
    mlqa = {"reader": "squad", "test": {"de.de": "german", "de.en": "crossed", "en.en": "train"}}
    columns = {"id": "id", "context": "c", "question": "q", "question_pivot": "p", "answers": "a"}
    afriqa = {"reader": "jsonl", "columns": columns, "train": {"hau": "hausa"}, "test": {"fon": "hausa"}}
    row = {"c": "It is new in Rome.", "q": "Ina?", "p": "Where?"}
    found = [[{"text": "Rome", "answer_start": 13}], [{"text": "new", "answer_start": 2}],
             [{"text": "no", "answer_start": -1}], [{"text": "yes", "answer_start": 9}]]  # fmt: skip
    hausa = "".join(json.dumps({"id": n, **row, "a": each}) + "\n" for n, each in enumerate(found))
    data = write(
        tmp_path, {"squad": {"reader": "squad", "train": {"en": "train"}}, "mlqa": mlqa, "afriqa": afriqa},
        train=squad("Rome is old.", "How?", "old"), german=squad("Rom ist alt.", "Wie?", "alt", 3),
        crossed=squad("Rom ist alt.", "How?", "alt", 3), hausa=hausa,
    )  # fmt: skip
    return fit("squad", on, data, tmp_path / "squad"), data


def test_all_languages_of_mlqa_are_those_in_one_and_crossed_ones_go_by_name(on, answers):
    module, data = answers
    scores = evaluate(module, on=on, task="mlqa", data=data, progress=False)
    assert {(r.language, r.context_language) for r in scores.records} == {("de", "de"), ("en", "en")}
    assert scores.missing_languages == ["ar", "es", "hi", "vi", "zh"]
    both = evaluate(module, on=on, task="mlqa", data=data, languages=["de", "de.en"], out=data / "s.json",
                    progress=False)  # fmt: skip
    assert {(r.language, r.context_language) for r in both.records} == {("de", "de"), ("en", "de")}
    assert both.expected_languages == ["de", "en"] and not both.partial
    german = [record.value for record in both.records if record.language == "de" and record.primary]
    assert both.zero_shot_mean["mlqa"] == german[0], "crossed languages stay out of the mean"
    lines = [json.loads(line) for line in (data / "s.predictions.jsonl").read_text().splitlines()]
    assert [(line["language"], line["context_language"]) for line in lines] == [("de", "de")] * 3 + [("en", "de")] * 3


def test_answers_of_afriqa_count_where_they_stand_nowhere_and_the_pivot_is_recorded(on, answers, tmp_path):
    module, data = answers
    task, source = resolve_task("afriqa", data)
    placed = [row.answers for row in source.load(task, "test", "fon").examples]
    assert placed == [(("Rome", 13),), (("new", 6),), (("no", -1),), (("yes", -1),)], "'no' is not looked for"
    scores = evaluate(module, on=on, task="afriqa", data=data, languages=["fon"], progress=False)
    assert scores.records[0].n == 4 and scores.options["context_language.fon"] == "fr"
    with pytest.raises(DataError, match=r"hausa:3: a: found 'no', which does not stand in the context: nothing to"):
        source.load(task, "train", "hau")
    assert len(source.load(task, "train", "hau", on_bad_row="drop").examples) == 2
    pivot, source = resolve_task("afriqa_pivot", data)
    assert [row.question for row in source.load(pivot, "test", "fon").examples] == ["Where?"] * 4
