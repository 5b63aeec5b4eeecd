"""The documented layouts of the intermediate tasks, MLQA and the sentiment sets, as small repositories of parquet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from repositories import at, write_repository

from adapterxl.data.combined import Combined
from adapterxl.data.examples import ChoiceExample, ClassifyExample, SpanExample
from adapterxl.errors import DataError, TaskError
from adapterxl.evaluation.zero_shot import choose_languages
from adapterxl.tasks import get_task

TEXT = Value("string")
NLI = ClassLabel(names=["entailment", "neutral", "contradiction"])
ANSWERS = {"text": List(TEXT), "answer_start": List(Value("int32"))}


def nli(*labels: int, key: str = "idx") -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Columns and features of NLI rows, told apart by their premise."""
    count = len(labels)
    columns = {"premise": [f"p{n}" for n in range(count)], "hypothesis": ["h"] * count, "label": list(labels)}
    return columns | {key: [f"{key}{n}" for n in range(count)]}, {"premise": TEXT, "hypothesis": TEXT, "label": NLI,
                                                                  key: TEXT}  # fmt: skip


def test_the_rounds_of_anli_are_read_one_after_the_other(hub, tmp_path):
    rounds = {("plain_text", f"train_r{n}"): nli(label, key="uid") for n, label in ((1, 0), (2, 2), (3, 1))}
    for n, (columns, _) in enumerate(rounds.values(), 1):
        columns["uid"] = [f"u{n}"]
    task = at(get_task("anli"), write_repository(tmp_path / "anli", rounds))
    assert [(row.id, row.label) for row in hub.load(task, "train", "en").examples] == [("u1", 0), ("u2", 2), ("u3", 1)]


def test_pairs_of_snli_without_agreement_are_left_out_and_counted(hub, repository):
    task = at(get_task("snli"), repository("plain_text", "train", *nli(0, -1, 2, -1)))
    loaded = hub.load(task, "train", "en")
    assert [row.text for row in loaded.examples] == ["p0", "p2"] and loaded.dropped == ()
    assert loaded.warnings == (
        f"{task.hub[0].id} (split train): 2 rows have label -1, which marks none of the task's: left out.",
    )


@pytest.fixture
def three_sets(tmp_path, monkeypatch) -> None:
    """The parts of ANLI+ in small, in place of the real ones."""
    parts = {
        "snli": {("plain_text", split): nli(0, -1, 1) for split in ("train", "validation", "test")},
        "mnli": {("mnli", split): nli(2) for split in ("train", "validation_matched")},
        "anli": {("plain_text", f"{split}_r{n}"): nli(0, key="uid") for split in ("train", "dev") for n in (1, 2, 3)},
    }
    for (_, split), (columns, _) in parts["anli"].items():
        columns["uid"] = [split]
    small = {name: at(get_task(name), write_repository(tmp_path / name, tables)) for name, tables in parts.items()}
    monkeypatch.setattr("adapterxl.data.combined.get_task", small.__getitem__)


def test_anli_plus_holds_every_row_of_its_parts_once_with_ids_that_tell_them_apart(hub, three_sets):
    source, task = Combined(hub), get_task("anli_plus")
    assert source.splits(task) == {"train": ("en",), "dev": ("en",)}, "mnli has no test split"
    loaded = source.load(task, "train", "en")
    assert [(row.id, row.label) for row in loaded.examples] == [
        ("snli/en:0", 0), ("snli/en:1", 1), ("mnli/en:0", 2),
        ("anli/train_r1", 0), ("anli/train_r2", 0), ("anli/train_r3", 0),
    ]  # fmt: skip
    assert len(loaded.files) == 3 and len(loaded.warnings) == 1
    with pytest.raises(TaskError, match=r"'anli_plus' has no test split .*found: train, dev"):
        source.load(task, "test", "en")


def test_a_combination_with_a_part_that_is_missing_is_refused(three_sets, load, tmp_path):
    load("mnli", {"reader": "tsv", "columns": {"text": 0, "text_pair": 1, "label": 2}, "header": False},
         {"a.tsv": "a\tb\t0\n"})  # fmt: skip
    from adapterxl.data import LocalIndex

    with pytest.raises(TaskError, match="no task 'snli', found: mnli"):
        Combined(LocalIndex.open(tmp_path)).load(get_task("anli_plus"), "train", "en")


def test_qqp_and_sst2_as_in_glue(hub, repository):
    columns = {"question1": ["a"], "question2": ["b"], "label": [1], "idx": [0]}
    features = {"question1": TEXT, "question2": TEXT, "idx": Value("int32"),
                "label": ClassLabel(names=["not_duplicate", "duplicate"])}  # fmt: skip
    task = at(get_task("qqp"), repository("qqp", "train", columns, features))
    assert hub.load(task, "train", "en").examples == (ClassifyExample("en:0", "en", "a", "b", 1),)
    columns = {"sentence": ["a "], "label": [0], "idx": [0]}
    features = {"sentence": TEXT, "label": ClassLabel(names=["negative", "positive"]), "idx": Value("int32")}
    task = at(get_task("sst2"), repository("sst2", "validation", columns, features))
    assert hub.load(task, "dev", "en").examples == (ClassifyExample("en:0", "en", "a ", None, 0),)


def test_paws_takes_the_labelled_final_part(hub, repository):
    columns = {"id": [7, 8], "sentence1": ["a", "c"], "sentence2": ["b", "d"], "label": [1, 0]}
    features = {"id": Value("int32"), "sentence1": TEXT, "sentence2": TEXT, "label": ClassLabel(names=["0", "1"])}
    task = at(get_task("paws"), repository("labeled_final", "train", columns, features))
    assert [row.label for row in hub.load(task, "train", "en").examples] == [1, 0]


def test_questions_of_squad_v2_without_an_answer_are_rows_and_in_v1_they_are_not(hub, repository):
    columns = {
        "id": ["x", "y"], "title": ["t"] * 2, "context": ["Rome is old."] * 2, "question": ["How?", "Who?"],
        "answers": [{"text": ["old"], "answer_start": [8]}, {"text": [], "answer_start": []}],
    }  # fmt: skip
    features = {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS}
    folder = repository("squad_v2", "train", columns, features)
    examples = hub.load(at(get_task("squad_v2"), folder), "train", "en").examples
    assert [(row.id, row.answers) for row in examples] == [("x", (("old", 8),)), ("y", ())]
    first = replace(get_task("squad").hub[0], id=folder, config="squad_v2")
    with pytest.raises(DataError, match=r"row 1: answers: found none, expected at least one"):
        hub.load(replace(get_task("squad"), hub=(first,)), "train", "en")


def test_hellaswag_counts_its_endings_in_text(hub, repository):
    columns = {
        "ind": [1], "activity_label": ["a"], "ctx_a": ["A man"], "ctx_b": ["he"], "ctx": ["A man he"],
        "endings": [["w", "x", "y", "z"]], "source_id": ["s"], "split": ["train"], "split_type": ["indomain"],
        "label": ["3"],
    }  # fmt: skip
    features = dict.fromkeys(columns, TEXT) | {"ind": Value("int32"), "endings": List(TEXT)}
    task = at(get_task("hellaswag"), repository(None, "train", columns, features))
    expected = ChoiceExample("en:0", "en", "A man he", "", ("w", "x", "y", "z"), 3)
    assert hub.load(task, "train", "en").examples == (expected,)


def csqa(label: str, texts: str = "vwxyz") -> tuple[dict[str, list[Any]], dict[str, Any]]:
    letters = list("ABCDE")[: len(texts)]
    columns = {"id": ["i"], "question": ["What?"], "question_concept": ["c"], "answerKey": [label],
               "choices": [{"label": letters, "text": list(texts)}]}  # fmt: skip
    choices = {"label": List(TEXT), "text": List(TEXT)}
    return columns, dict.fromkeys(("id", "question", "question_concept", "answerKey"), TEXT) | {"choices": choices}


def test_commonsenseqa_calls_its_answers_by_letters(hub, repository):
    task = get_task("commonsenseqa")
    loaded = hub.load(at(task, repository(None, "train", *csqa("C"))), "train", "en")
    assert loaded.examples == (ChoiceExample("i", "en", "", "What?", tuple("vwxyz"), 2),)
    with pytest.raises(DataError, match=r"answerKey: found '', expected one of: A, B, C, D, E"):
        hub.load(at(task, repository(None, "train", *csqa(""))), "train", "en")
    with pytest.raises(DataError, match=r"choices\.text: found 3, expected 5"):
        hub.load(at(task, repository(None, "train", *csqa("C", "xyz"))), "train", "en")


@pytest.mark.parametrize(("label", "expected"), [("1", 0), ("3", 2), ("0", None), ("4", None)])
def test_siqa_counts_its_answers_from_one(hub, repository, label: str, expected: int | None):
    columns = {"context": ["c"], "question": ["q"], "answerA": ["x"], "answerB": ["y"], "answerC": ["z"],
               "label": [label]}  # fmt: skip
    task = at(get_task("siqa"), repository(None, "train", columns, dict.fromkeys(columns, TEXT)))
    if expected is None:
        with pytest.raises(DataError, match=rf"label: found '{label}', expected one of: 1, 2, 3\.$|1, 2, 3\. "):
            hub.load(task, "train", "en")
    else:
        assert hub.load(task, "train", "en").examples[0].label == expected


def test_mlqa_crosses_the_languages_of_question_and_context(hub, tmp_path):
    def one(context: str, question: str) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        columns = {"id": ["x"], "title": ["t"], "context": [context], "question": [question],
                   "answers": [{"answer_start": [0], "text": [context[:3]]}]}  # fmt: skip
        return columns, dict.fromkeys(("id", "title", "context", "question"), TEXT) | {"answers": ANSWERS}

    tables = {("MLQA.de.de", "test"): one("Rom ist alt.", "Wie?"), ("MLQA.de.en", "test"): one("Rom ist alt.", "How?")}
    task = at(get_task("mlqa"), write_repository(tmp_path / "repo", tables))
    assert hub.load(task, "test", "de").examples == (SpanExample("x", "de", "Rom ist alt.", "Wie?", (("Rom", 0),)),)
    assert hub.load(task, "test", "de.en").examples[0].question == "How?"
    assert len(hub.languages(task, "test")) == 49
    assert choose_languages(task, hub, "test", ["de.en"]) == (["de.en"], ["en"])
    assert choose_languages(task, hub, "test", "all") == (list(task.languages), list(task.languages))
    folder = tmp_path / "converted" / "mlqa.de.en" / "test"
    folder.mkdir(parents=True)
    columns, features = tables["MLQA.de.en", "test"]
    Dataset.from_dict(columns, features=Features(features)).to_parquet(folder / "0000.parquet")
    second = replace(get_task("mlqa").hub[1], id=str(tmp_path / "converted"), revision=None)
    spare = hub.load(replace(task, hub=(replace(task.hub[0], id=str(tmp_path)), second)), "test", "de.en")
    assert spare.examples == hub.load(task, "test", "de.en").examples
    assert len(spare.warnings) == 1 and "folder mlqa.de.en" in spare.origin
    with pytest.raises(TaskError, match=r"no language 'de\.xx' in the test split"):
        hub.load(task, "test", "de.xx")


@pytest.fixture
def converted(tmp_path: Path) -> str:
    """A converted branch: folders of parquet without a card."""
    for folder, split, columns, label in (
        ("hau", "train", {"tweet": ["a", "b"], "label": [0, 2]}, ClassLabel(names=["positive", "neutral", "negative"])),
        ("hau", "test", {"tweet": ["c"], "label": [1]}, ClassLabel(names=["positive", "neutral", "negative"])),
        ("ind", "test", {"text": ["d"], "label": [0]}, ClassLabel(names=["negative", "neutral", "positive"])),
        ("yor", "test", {"tweet": ["e"], "label": [0]}, Value("int64")),
    ):
        path = tmp_path / "converted" / folder / split / "0000.parquet"
        path.parent.mkdir(parents=True)
        features = Features({next(iter(columns)): TEXT, "label": label})
        Dataset.from_dict(columns, features=features).to_parquet(path)
    return str(tmp_path / "converted")


def test_a_converted_branch_has_a_folder_for_each_language_and_labels_go_by_name(hub, converted):
    afrisenti = get_task("afrisenti")
    task = replace(afrisenti, hub=(replace(afrisenti.hub[0], id=converted, revision=None),))
    assert [row.label for row in hub.load(task, "train", "hau").examples] == [2, 0]
    assert [row.text for row in hub.load(task, "test", "hau").examples] == ["c"]
    with pytest.raises(DataError, match=r"folder yor, split test\) row 0: label: found 0, expected one of: negative, "):
        hub.load(task, "test", "yor")
    nusax = get_task("nusax")
    task = replace(nusax, hub=(replace(nusax.hub[0], id=converted, revision=None),))
    loaded = hub.load(task, "test", "id")
    assert loaded.examples == (ClassifyExample("id:0", "id", "d", None, 0),) and "folder ind" in loaded.origin
