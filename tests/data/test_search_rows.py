"""Rows of retrieval: BUCC and Mewsli-X files, sentences of paragraphs, and the layouts of the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import List, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repositories import at

from adapterxl.data import LocalIndex
from adapterxl.data.examples import CandidateExample, PairExample, QueryExample
from adapterxl.data.search import searched, sentences
from adapterxl.errors import DataError
from adapterxl.tasks import get_task

TEXT = Value("string")
BUCC = {"t.de": "de-1\tEins.\nde-2\tZwei.\n", "t.en": "en-1\tOne.\nen-2\tTwo.\n", "t.gold": "de-2\ten-1\n"}
CONTEXT = {"language": "de", "text": "Der Rat tagt. Er {tagte} in Rom. Ja.",
           "sentence_spans": [{"start": 0, "end": 13}, {"start": 14, "end": 32}, {"start": 33, "end": 36}]}  # fmt: skip
MENTION = {"example_id": "m1", "entity_id": "Q220", "mention_span": {"start": 28, "end": 31, "text": "Rom"}}
ENTITY = {"entity_id": "Q220", "title": "Rom", "description": "Capital\nof Italy.", "description_language": "en"}


def index(folder: Path, task: str, entry: dict[str, Any], files: dict[str, str]) -> LocalIndex:
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "adapterxl-data.yaml").write_text(yaml.safe_dump({"format": 1, "tasks": {task: entry}}))
    return LocalIndex.open(folder)


def bucc(folder: Path, on_bad_row: Any = "stop", **changed: str) -> Any:
    files = BUCC | {f"t.{end}": content for end, content in changed.items()}
    source = index(folder, "bucc", {"reader": "bucc", "test": {"de": list(files)}}, files)
    return source.load(get_task("bucc"), "test", "de", on_bad_row=on_bad_row)


def test_bucc_gives_the_sentences_of_both_sides_with_the_gold_pairs(tmp_path):
    found = searched(get_task("bucc"), bucc(tmp_path).examples, "de")
    assert found.queries == (
        QueryExample("de-1", "de", "Eins.", ()), QueryExample("de-2", "de", "Zwei.", ("en-1",))
    )  # fmt: skip
    assert [each.id for each in found.candidates] == ["en-1", "en-2"]


@pytest.mark.parametrize(
    ("end", "content", "message"),
    [
        ("de", "de-1\tEins.\nZwei\n", r"t\.de:2: row: found 'Zwei', expected an id, a tab and a sentence"),
        ("en", "en-1\tOne.\nen-2\t \n", r"t\.en:2: text: found ' ', expected text that is not empty"),
        ("en", "en-1\tOne.\nen-1\tTwo.\n", r"t\.en:2: id: found 'en-1' again \(first: .*t\.en:1\)"),
        ("gold", "de-2 en-1\nde-2\ten-1\n", r"t\.gold:1: pair: found 'de-2 en-1', expected two ids with one tab"),
        ("gold", "de-2\ten-1\nde-2\ten-9\n", r"t\.gold:2: pair: found 'en-9', expected an id of .*t\.en\."),
    ],
)
def test_a_bad_line_of_bucc_is_refused_or_dropped_by_name(tmp_path, end, content, message):
    changed = {"de": BUCC["t.de"], end: content}
    if end == "de":
        changed["gold"] = "de-1\ten-1\n"
    with pytest.raises(DataError, match=message):
        bucc(tmp_path, **changed)
    assert len(bucc(tmp_path, "drop", **changed).dropped) == 1


def test_bucc_without_a_usable_gold_pair_or_with_two_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"t\.gold:1: pair: found none that can be used, expected at least one"):
        bucc(tmp_path, "drop", gold="de-7\ten-7\n")
    with pytest.raises(DataError, match=r"found 2 file\(s\), expected 3 \(language, English, gold pairs\)"):
        index(tmp_path, "bucc", {"reader": "bucc", "test": {"de": ["t.de", "t.en"]}}, BUCC)


def mewslix(folder: Path, line: str, entity: str = json.dumps(ENTITY)) -> tuple[LocalIndex, Any]:
    entry = {"reader": "mewslix", "test": {"de": ["m.jsonl"], "en": ["m.jsonl"]}, "pool": {"all": ["e.jsonl"]}}
    good = json.dumps({"context": CONTEXT, "mentions": [MENTION | {"example_id": "m0"}]})
    return index(folder, "mewslix", entry, {"m.jsonl": f"{good}\n{line}\n", "e.jsonl": f"{entity}\n"}), get_task(
        "mewslix"
    )


def test_a_mention_is_its_sentence_with_the_mention_in_front_and_in_braces(tmp_path):
    other = json.dumps({"context": CONTEXT | {"language": "en"}, "mentions": [MENTION]})
    source, task = mewslix(tmp_path, other)
    (example,) = source.load(task, "test", "de").examples
    assert example == QueryExample("m0", "de", "Rom: Er (tagte) in { Rom } .", ("Q220",))
    assert [each.id for each in source.load(task, "test", "en").examples] == ["m1"]
    assert source.load(task, "pool", "all").examples == (CandidateExample("Q220", "en", "Capital of Italy."),)
    assert source.splits(task) == {"test": ("de", "en"), "pool": ("all",)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"mention_span": {"start": 20, "end": 99}},
            r"mentions\[0\]: found mention_span 20 to 99 of a text with 36 char",
        ),
        ({"mention_span": None}, r"mentions\[0\]: found 'NoneType'"),
        ({"entity_id": 7}, r"mentions\[0\]\.entity_id\[0\]: found int 7, expected text"),
        ({"entity_id": ""}, r"mentions\[0\]\.entity_id\[0\]: found ''"),
        ({"example_id": "m0"}, r"mentions\[0\]\.example_id: found 'm0' again"),
    ],
)
def test_a_bad_mention_is_refused_or_dropped_by_name(tmp_path, changed, message):
    source, task = mewslix(tmp_path, json.dumps({"context": CONTEXT, "mentions": [MENTION | changed]}))
    with pytest.raises(DataError, match=r"m\.jsonl:2: " + message):
        source.load(task, "test", "de")
    assert len(source.load(task, "test", "de", on_bad_row="drop").dropped) == 1


@pytest.mark.parametrize("line", ["{", "[1]", "{}", '{"context": {}, "mentions": 3}'])
def test_a_line_that_is_no_mention_is_refused(tmp_path, line):
    source, task = mewslix(tmp_path, line)
    with pytest.raises(DataError, match=r"m\.jsonl:2: row: found .*expected"):
        source.load(task, "test", "de")


@pytest.mark.parametrize(
    ("entity", "message"),
    [
        ({"description": " "}, "description: found ''"),
        ({"description_language": 3}, "description_language: found int 3"),
        ({"entity_id": None}, "entity_id: found nothing, expected text"),
        ({"title": 1}, None),
    ],
)
def test_a_bad_entity_is_refused(tmp_path, entity, message):
    source, task = mewslix(tmp_path, json.dumps({"context": CONTEXT, "mentions": []}), json.dumps(ENTITY | entity))
    if message is None:
        assert len(source.load(task, "pool", "all").examples) == 1
        return
    with pytest.raises(DataError, match=rf"e\.jsonl:1: {message}"):
        source.load(task, "pool", "all")


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), piece=st.sampled_from(['"', "{", "[", "null", "7", ",", ":", "\\ud800", "\t", "\n"]))
def test_a_damaged_line_gives_rows_or_one_clear_error(tmp_path, place, piece):
    line = json.dumps({"context": CONTEXT, "mentions": [MENTION]})
    at = int(place * len(line))
    source, task = mewslix(tmp_path, line[:at] + piece + line[at:], json.dumps(ENTITY)[:at] + piece)
    for split, language, name in (("test", "de", "m.jsonl"), ("pool", "all", "e.jsonl")):
        try:
            assert source.load(task, split, language, on_bad_row="drop").examples
        except DataError as error:
            assert str(error).startswith(str(tmp_path / name))


def test_mewslix_without_its_pool_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"pool: expected the files of candidate entities"):
        index(tmp_path, "mewslix", {"reader": "mewslix", "test": {"de": ["m.jsonl"]}}, {})


def lareqa(folder: Path, breaks: Any) -> Any:
    qas = [{"id": "a", "question": "Who?", "answers": [{"text": "B", "answer_start": 3}]}]
    paragraph = {"context": "A. B. A.", "qas": qas, "sentence_breaks": breaks}
    files = {"f.json": json.dumps({"data": [{"paragraphs": [paragraph]}]})}
    entry = {"reader": "squad", "extra": ["sentence_breaks"], "test": {"en": ["f.json"]}}
    return index(folder, "lareqa", entry, files).load(get_task("lareqa"), "test", "en").examples


def test_right_is_the_sentence_that_holds_the_answer_and_its_equals(tmp_path):
    found = searched(get_task("lareqa"), lareqa(tmp_path, [[0, 2], [3, 5], [6, 8]]), "en")
    assert [(each.id, each.text) for each in found.candidates] == [("en:0:0", "A."), ("en:0:1", "B."), ("en:0:2", "A.")]
    assert found.queries == (QueryExample("a", "en", "Who?", ("en:0:1",)),) and not found.split_by_rule
    left = searched(get_task("lareqa"), lareqa(tmp_path, [[0, 2], [6, 8]]), "en")
    assert (left.queries, left.left_out) == ((), 1)


@pytest.mark.parametrize("breaks", [[[0, 9]], [[3, 2]], [[0, 2], [1, 5]], [[0]], [["0", "2"]], [None], [[0, True]]])
def test_sentence_breaks_outside_of_the_context_are_refused(tmp_path, breaks):
    with pytest.raises(DataError, match=r"qas\[0\]: sentence_breaks\[\d\]: found .*expected \[start, end\] with"):
        lareqa(tmp_path, breaks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("J. Smith met Dr. Who in St. Louis. He left.", ["J. Smith met Dr. Who in St. Louis.", "He left."]),
        ("He said “Go.” She went.", ["He said “Go.”", "She went."]),
        ("我喜欢读书。他们住在北京！是吗？", ["我喜欢读书。", "他们住在北京！", "是吗？"]),
        ("هل ذهبت؟ نعم.", ["هل ذهبت؟", "نعم."]),
        ("यह है। वह था।", ["यह है।", "वह था।"]),
        ("3.5 percent of it", ["3.5 percent of it"]),
        ("   ", []),
        ("...", ["..."]),
    ],
)
def test_sentences_end_where_each_script_ends_them(text, expected):
    assert [text[start:end] for start, end in sentences(text)] == expected


def squad(question: str) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    columns = {"id": ["x"], "context": ["Rome is old. It is big."], "question": [question],
               "answers": [{"text": ["big"], "answer_start": [19]}]}  # fmt: skip
    features = {"id": TEXT, "context": TEXT, "question": TEXT,
                "answers": {"text": List(TEXT), "answer_start": List(Value("int32"))}}  # fmt: skip
    return columns, features


def test_the_hub_has_lareqas_questions_and_a_rule_splits_its_sentences(hub, repository):
    task = at(get_task("lareqa"), repository("de", "validation", *squad("Wie?")))
    found = searched(task, hub.load(task, "test", "de").examples, "de")
    assert [each.text for each in found.candidates] == ["Rome is old.", "It is big."] and found.split_by_rule
    assert found.queries == (QueryExample("x", "de", "Wie?", ("de:0:1",)),)


@pytest.mark.parametrize(
    ("name", "config", "split", "language"),
    [("xquad_passages", "xquad.de", "validation", "de"), ("mlqa_passages", "MLQA.de.en", "test", "de.en")],
)
def test_passages_are_the_contexts_of_the_question_answering_data(hub, repository, name, config, split, language):
    task = at(get_task(name), repository(config, split, *squad("How?")))
    found = searched(task, hub.load(task, "test", language).examples, language)
    assert found.candidates == (CandidateExample(f"{language}:0", language, "Rome is old. It is big."),)
    assert found.queries[0].right == (f"{language}:0",)


def test_the_hub_has_buccs_gold_pairs_alone(hub, repository):
    columns = {
        "source_sentence": ["Eins."],
        "target_sentence": ["One."],
        "source_lang": ["de-1"],
        "target_lang": ["en-1"],
    }
    task = at(get_task("bucc_gold"), repository("bucc18.de", "test", columns, dict.fromkeys(columns, TEXT)))
    assert hub.load(task, "test", "de").examples == (PairExample("de:0", "de", "Eins.", "One."),)
