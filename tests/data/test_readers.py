"""Every reader: what it takes, and the line it names when it cannot."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from adapterxl.data.examples import ChoiceExample, ClassifyExample, PairExample, SpanExample, TagExample
from adapterxl.data.rows import MAX_CHARS
from adapterxl.errors import DataError, UsageError

PAIR = {"text": "premise", "text_pair": "hypothesis", "label": "label"}
CSV = {"reader": "csv", "columns": PAIR}
TSV = {"reader": "tsv", "columns": PAIR}
TSV_BARE = {"reader": "tsv", "header": False, "columns": {"text": 0, "text_pair": 1, "label": 2}}
COPA = {
    "reader": "jsonl",
    "columns": {"context": "premise", "question": "question", "choices": ["choice1", "choice2"], "label": "label"},
}
CODAH = {"reader": "tsv", "header": False, "columns": {"context": 0, "choices": [1, 2], "label": 3}}
IOB, UD, SQUAD, BITEXT = {"reader": "iob"}, {"reader": "conllu"}, {"reader": "squad"}, {"reader": "bitext"}
TAG_JSONL = {"reader": "jsonl", "columns": {"words": "w", "tags": "t"}}
SPAN_JSONL = {"reader": "jsonl", "columns": {"context": "c", "question": "q", "answers": "a", "id": "i"}}


def copa(**changes: Any) -> str:
    row = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "question": "effect", "label": 0}
    row |= changes
    return json.dumps({key: value for key, value in row.items() if value is not ...}) + "\n"


def squad(answers: Any = None, *, ids: tuple[Any, ...] = ("a",), context: Any = "Rome is old.", **extra: Any) -> str:
    given = [{"text": "old", "answer_start": 8}] if answers is None else answers
    qas = [{"id": each, "question": "How is Rome?", "answers": given, **extra} for each in ids]
    return json.dumps({"version": "1.1", "data": [{"paragraphs": [{"context": context, "qas": qas}]}]})


def ud(*rows: str) -> str:
    return "".join("\t".join(row.split() + ["_"] * (10 - len(row.split()))) + "\n" for row in rows) + "\n"


# ---- what is taken ----


def test_csv_takes_fields_of_several_lines_and_doubled_quotes(load):
    text = 'premise,hypothesis,label\r\n"a ""b"",\r\nc",d,neutral\r\ne,f,entailment\r\n'
    assert load("mnli", CSV, {"a.csv": text}).examples == (
        ClassifyExample("a:1", "en", 'a "b",\r\nc', "d", 1),
        ClassifyExample("a:2", "en", "e", "f", 0),
    )


def test_tsv_gives_quotes_no_meaning_and_takes_bom_crlf_and_rare_line_separators(load):
    text = '\ufeffpremise\thypothesis\tlabel\r\n"a\tb\u2028c"\tcontradiction\r\n\r\n'
    assert load("mnli", TSV, {"a.tsv": text}).examples == (ClassifyExample("a:1", "en", '"a', 'b\u2028c"', 2),)


@pytest.mark.parametrize(("label", "expected"), [("neutral", 1), ("1", 1), ("2", 2), ("contradictory", 2)])
def test_a_label_is_a_name_an_alias_or_a_position(load, label: str, expected: int):
    assert load("xnli", TSV_BARE, {"a.tsv": f"a\tb\t{label}\n"}).examples[0].label == expected


def test_jsonl_choices_keep_their_order_and_question(load):
    loaded = load("copa", COPA, {"a.jsonl": copa() + copa(label="1")})
    assert loaded.examples == (
        ChoiceExample("a:1", "en", "It rained.", "effect", ("Wet.", "Dry."), 0),
        ChoiceExample("a:2", "en", "It rained.", "effect", ("Wet.", "Dry."), 1),
    )


def test_labels_come_from_their_own_file(load):
    entry = {"reader": "jsonl", "columns": {"context": "c", "choices": ["x", "y"]}, "labels_file": "l.lst"}
    rows = '{"c": "a", "x": "b", "y": "c"}\n{"c": "d", "x": "e", "y": "f"}\n'
    loaded = load("codah", entry, {"a.jsonl": rows, "l.lst": "1\n0\n"})
    assert [example.label for example in loaded.examples] == [1, 0]
    assert [file.path for file in loaded.files] == ["a.jsonl", "l.lst"]


def test_iob_takes_a_language_prefix_off_only_when_every_token_has_it(load):
    assert load("panx", IOB, {"a.tsv": "en:Paris\tB-LOC\nen::\tO\n"}).examples[0].words == ("Paris", ":")
    mixed = load("panx", IOB, {"b.tsv": "en:Paris\tB-LOC\n\n12:30\tO\n"})
    assert mixed.examples == (
        TagExample("b:1", "en", ("en:Paris",), (5,)),
        TagExample("b:2", "en", ("12:30",), (0,)),
    )


def test_conllu_leaves_out_ranges_empty_nodes_and_comments(load):
    text = "# text = dámelo\n" + ud("1-2 dámelo", "1 da da VERB", "2 lo lo PRON", "2.1 x x VERB") + "# the end\n"
    assert load("udpos", UD, {"a.conllu": text}).examples == (TagExample("a:1", "en", ("da", "lo"), (15, 10)),)


def test_squad_keeps_the_text_as_it_is_also_a_byte_order_mark_inside(load):
    text = squad([{"text": "Rome", "answer_start": 1}], context="\ufeffRome is old.")
    assert load("squad", SQUAD, {"a.json": text}).examples == (
        SpanExample("a", "en", "\ufeffRome is old.", "How is Rome?", (("Rome", 1),)),
    )


def test_squad_ids_that_repeat_are_all_replaced(load):
    examples = load("tydiqa", SQUAD, {"ty.en.json": squad(ids=("7", "8", "7"))}).examples
    assert [example.id for example in examples] == ["ty.en:1", "ty.en:2", "ty.en:3"]


def test_a_question_without_answer_says_so_itself(load):
    examples = load("squad", SQUAD, {"a.json": squad([], is_impossible=True)}).examples
    assert examples[0].answers == ()


def test_span_rows_may_be_json_lines(load):
    row = {"i": 5, "c": "Rome is old.", "q": "How?", "a": {"text": ["old"], "answer_start": [8]}}
    assert load("squad", {**SPAN_JSONL}, {"a.jsonl": json.dumps(row)}).examples[0].answers == (("old", 8),)


def test_bitext_pairs_line_by_line(load):
    entry = {**BITEXT, "train": {"en": ["a.de", "a.en"]}}
    loaded = load("tatoeba", entry, {"a.de": "Hallo\nJa\n", "a.en": "Hello\nYes\n"})
    assert loaded.examples == (PairExample("a.de:1", "en", "Hallo", "Hello"), PairExample("a.de:2", "en", "Ja", "Yes"))
    assert len({file.sha256 for file in loaded.files}) == 2


def test_several_files_of_one_language_are_read_in_order_with_their_own_ids(load):
    entry = {**TSV_BARE, "train": {"en": ["x/a.tsv", "y/a.tsv"]}}
    loaded = load("mnli", entry, {"x/a.tsv": "a\tb\tneutral\n", "y/a.tsv": "c\td\tneutral\n"})
    assert [example.id for example in loaded.examples] == ["x/a.tsv:1", "y/a.tsv:1"]


def test_dropped_rows_are_counted_and_named(load):
    text = "a\tb\tneutral\n\tb\tneutral\na\tb\nc\td\tmaybe\ne\tf\t0\n"
    loaded = load("mnli", TSV_BARE, {"a.tsv": text}, on_bad_row="drop")
    assert [example.id for example in loaded.examples] == ["a:1", "a:5"]
    assert [re.search(r"a\.tsv:(\d)", line).group(1) for line in loaded.dropped] == ["2", "3", "4"]


def test_dropping_every_row_is_an_error(load):
    with pytest.raises(DataError, match=r"a\.tsv:1: label .* all 2 were dropped"):
        load("mnli", TSV_BARE, {"a.tsv": "a\tb\tx\na\tb\ty\n"}, on_bad_row="drop")


def test_what_to_do_with_bad_rows_is_checked(load):
    with pytest.raises(UsageError, match="found 'skip', expected 'stop' or 'drop'"):
        load("mnli", TSV_BARE, {"a.tsv": "a\tb\t0\n"}, on_bad_row="skip")


def test_a_larger_split_with_one_label_is_pointed_out(load):
    loaded = load("copa", COPA, {"a.jsonl": copa(label=0) * 60})
    assert len(loaded.warnings) == 1 and "all 60 rows of 'copa' have the label 0" in loaded.warnings[0]
    assert load("copa", COPA, {"a.jsonl": copa(label=0) * 60 + copa(label=1)}).warnings == ()


# ---- what is refused: task, entry, file, start of the message after the folder, and a word in it ----

HEAD = "premise,hypothesis,label\n"
BAD = {
    "csv: unclosed quote": ("mnli", CSV, HEAD + 'a,b,0\n"c,d,0\n', "f:3: ", "RFC 4180"),
    "csv: text after a quote": ("mnli", CSV, HEAD + '"a"x,b,0\n', "f:2: ", "RFC 4180"),
    "csv: too many fields": ("mnli", CSV, HEAD + "a,b,0,\n", "f:2: row: found 4 fields, expected 3", "comma"),
    "csv: line of a later row": ("mnli", CSV, HEAD + '"a\nb",c,0\nd,e\n', "f:4: row: found 2 fields", ""),
    "csv: empty line inside": ("mnli", CSV, HEAD + "a,b,0\n\nc,d,0\n", "f:3: row: found 0 fields", ""),
    "csv: header only": ("mnli", CSV, HEAD, "f:1: ", "no row"),
    "csv: misnamed column": ("mnli", CSV, "premise,hypotesis,label\na,b,0\n", "f:1: text_pair: no column", "Did you"),
    "csv: column twice": ("mnli", CSV, "premise,label,label\na,b,0\n", "f:1: column 'label' occurs twice", ""),
    "tsv: column out of range": ("mnli", TSV_BARE, "a\tb\n", "f:1: label: no column 2", "found 2"),
    "tsv: field count": ("mnli", TSV_BARE, "a\tb\t0\nc\td\n", "f:2: row: found 2 fields, expected 3", "tab"),
    "tsv: spaces for tabs": ("mnli", TSV_BARE, "a b 0\n", "f:1: text_pair: no column 1, found 1", "separated by tab"),
    "tsv: empty file": ("mnli", TSV_BARE, "", "f:1: the file is empty", ""),
    "tsv: only a byte order mark": ("mnli", TSV_BARE, "\ufeff\n", "f:1: the file is empty", ""),
    "tsv: invalid UTF-8": ("mnli", TSV_BARE, b"a\tb\t0\n\xe4\tb\t0\n", "f:2: found byte 0xe4 at byte 6", "UTF-8"),
    "tsv: UTF-16": ("mnli", TSV_BARE, "a\tb\t0\n".encode("utf-16"), "f:1: found byte 0xff", "UTF-8"),
    "tsv: empty text": ("mnli", TSV_BARE, "a\t\t0\n", "f:1: text_pair (column 1): found ''", "not empty"),
    "tsv: blank text": ("mnli", TSV_BARE, " \u3000\tb\t0\n", "f:1: text (column 0): found", "not empty"),
    "tsv: invisible text": ("mnli", TSV_BARE, "\u200b\ufeff\tb\t0\n", "f:1: text (column 0): found", "not empty"),
    "tsv: unknown label": ("mnli", TSV_BARE, "a\tb\tentailmant\n", "f:1: label (column 2): found 'entailmant'", "Did"),
    "tsv: other case": ("mnli", TSV_BARE, "a\tb\tNeutral\n", "f:1: label", "entailment, neutral, contradiction"),
    "tsv: empty label": ("mnli", TSV_BARE, "a\tb\t\n", "f:1: label", "expected one of"),
    "tsv: label out of range": ("mnli", TSV_BARE, "a\tb\t3\n", "f:1: label", "or 0 to 2"),
    "tsv: no label": ("mnli", TSV_BARE, "a\tb\t-1\n", "f:1: label", "marks a row without a label"),
    "tsv: digits of another script": ("mnli", TSV_BARE, "a\tb\t\u0661\n", "f:1: label", "expected one of"),
    "tsv: a novel in a field": ("mnli", TSV_BARE, "a" * (MAX_CHARS + 1) + "\tb\t0\n", "f:1: text", "at most 200,000"),
    "tsv: choice out of range": ("codah", CODAH, "a\tb\tc\t2\n", "f:1: label (column 3): found '2'", "0 to 1"),
    "tsv: empty choice": ("codah", CODAH, "a\tb\t \t0\n", "f:1: choices[1] (column 2): found ' '", "not empty"),
    "jsonl: cut": ("copa", COPA, copa() + copa()[:-9], "f:2: row: found no whole JSON object", ""),
    "jsonl: no object": ("copa", COPA, "[1]\n", "f:1: row: found [1], expected a JSON object", ""),
    "jsonl: NaN": ("copa", COPA, copa(label=float("nan")), "f:1: row:", "NaN is not JSON"),
    "jsonl: deep": ("copa", COPA, "[" * 200_000, "f:1: row:", "nested too deeply"),
    "jsonl: missing key": ("copa", COPA, copa(choice2=...), "f:1: choice2: no such key", "Did you mean 'choice1'"),
    "jsonl: empty line": ("copa", COPA, copa() + "\n" + copa(), "f:2: row: found an empty line", ""),
    "jsonl: number as text": ("copa", COPA, copa(premise=3), "f:1: premise: found int 3, expected text", ""),
    "jsonl: null": ("copa", COPA, copa(choice1=None), "f:1: choice1: found nothing, expected text", ""),
    "jsonl: true as label": ("copa", COPA, copa(label=True), "f:1: label: found True", "0 to 1"),
    "jsonl: fraction as label": ("copa", COPA, copa(label=1.0), "f:1: label: found 1.0", "0 to 1"),
    "jsonl: half a surrogate": ("copa", COPA, copa(premise="a\ud800"), "f:1: premise: found half of a surrogate", "1"),
    "jsonl: id twice": (
        "squad", SPAN_JSONL,
        (json.dumps({"i": 1, "c": "a b", "q": "?!", "a": [{"text": "b", "answer_start": 2}]}) + "\n") * 2,
        "f:2: i: found '1' again", "",
    ),
    "jsonl: fewer tags": (
        "panx", TAG_JSONL, '{"w": ["a", "b"], "t": ["O"]}', "f:1: t: found 1 tags for 2 words", "one a word",
    ),
    "jsonl: words as text": ("panx", TAG_JSONL, '{"w": "ab", "t": ["O", "O"]}', "f:1: w: found 'ab'", "a list"),
    "jsonl: no words": ("panx", TAG_JSONL, '{"w": [], "t": []}', "f:1: w: found no word", ""),
    "jsonl: number as word": ("panx", TAG_JSONL, '{"w": ["a", 1], "t": ["O", "O"]}', "f:1: w[1]: found int 1", ""),
    "jsonl: half a pair in a word": (
        "panx", TAG_JSONL, '{"w": ["a", "\\ud800"], "t": ["O", "O"]}', "f:1: w[1]: found half of a surrogate pair", "",
    ),
    "iob: spaces": ("panx", IOB, "Paris B-LOC\n", "f:1: tag: found 1 fields", "token TAB tag"),
    "iob: no tag": ("panx", IOB, "a\tO\n\nb\tO\nParis\n", "f:4: tag: found 1 fields in 'Paris'", ""),
    "iob: three fields": ("panx", IOB, "a\tO\tO\n", "f:1: tag: found 3 fields", ""),
    "iob: unknown tag": ("panx", IOB, "a\tO\n\nb\tO\nc\tB-MISC\n", "f:4: tag: found 'B-MISC'", "B-PER"),
    "iob: position for tag": ("panx", IOB, "a\t0\n", "f:1: tag: found '0', expected one of", ""),
    "iob: empty token": ("panx", IOB, "a\tO\n\tO\n", "f:2: word: found ''", "not empty"),
    "iob: crossing fields": ("panx", IOB, "O\tParis\n", "f:1: tag: found 'Paris'", ""),
    "conllu: nine columns": ("udpos", UD, "1\ta\ta\tX\t_\t_\t_\t_\t_\n", "f:1: row: found 9 fields, expected 10", ""),
    "conllu: a word lost": ("udpos", UD, ud("1 a a X") + ud("1 a a X", "3 b b X"), "f:4: id: found '3'", "expected 2"),
    "conllu: no tag": ("udpos", UD, "# c\n" + ud("1 a a X", "2 b b _"), "f:3: upos: found '_', expected one of", ""),
    "conllu: tag of this treebank": ("udpos", UD, ud("1 a a NN"), "f:1: upos: found 'NN'", ""),
    "conllu: comments only": ("udpos", UD, "# a\n", "f:1: found no sentence", ""),
    "squad: cut": ("squad", SQUAD, squad()[:-20], "f:1: the JSON breaks off", ""),
    "squad: line of the damage": ("squad", SQUAD, '{\n"data":\n[}\n', "f:3: the JSON breaks off", ""),
    "squad: no data": ("squad", SQUAD, '{"dat": []}', "f:1: data: found 'dat'", "a list 'data'"),
    "squad: empty data": ("squad", SQUAD, '{"data": []}', "f: data: found no question", ""),
    "squad: no paragraphs": ("squad", SQUAD, '{"data": [{"x": 1}]}', "f: data[0].paragraphs: found", ""),
    "squad: no answers key": (
        "squad", SQUAD, '{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "1", "question": "b"}]}]}]}',
        "f: data[0].paragraphs[0].qas[0]: answers: no such key", "",
    ),
    "squad: no context": ("squad", SQUAD, squad(context=None), "f: data[0].paragraphs[0].qas[0]: context: found", ""),
    "squad: shifted answer": (
        "squad", SQUAD, squad([{"text": "old", "answer_start": 7}]),
        "f: data[0].paragraphs[0].qas[0]: answers[0].answer_start: found ' ol'", "stands at 8",
    ),
    "squad: negative start": (
        "squad", SQUAD, squad([{"text": "old", "answer_start": -4}]),
        "f: data[0].paragraphs[0].qas[0]: answers[0].answer_start: found nothing", "stands at 8",
    ),
    "squad: answer elsewhere": (
        "squad", SQUAD, squad([{"text": "new", "answer_start": 8}]),
        "f: data[0].paragraphs[0].qas[0]: answers[0].answer_start: found 'old'", "does not stand in the context",
    ),
    "squad: start beyond": (
        "squad", SQUAD, squad([{"text": "old", "answer_start": 99}]),
        "f: data[0].paragraphs[0].qas[0]: answers[0].answer_start: found nothing", "",
    ),
    "squad: start as text": (
        "squad", SQUAD, squad([{"text": "old", "answer_start": "8"}]),
        "f: data[0].paragraphs[0].qas[0]: answers[0].answer_start: found '8'", "whole number",
    ),
    "squad: blanked answer": (
        "squad", SQUAD, squad([{"text": "", "answer_start": 0}]),
        "f: data[0].paragraphs[0].qas[0]: answers[0].text: found ''", "",
    ),
    "squad: no answer": ("squad", SQUAD, squad([]), "f: data[0].paragraphs[0].qas[0]: answers: found none", ""),
}  # fmt: skip


@pytest.mark.parametrize(("name", "entry", "content", "start", "inside"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_with_its_place(load, tmp_path, name, entry, content, start, inside):
    with pytest.raises(DataError) as caught:
        load(name, entry, {"f": content})
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/{start}"), message
    assert inside in message
    assert "\n" not in message and len(message) < 500


@pytest.mark.parametrize(("english", "line"), [("Hello\n", 2), ("Hello\nYes\nNo\n", 3)])
def test_bitext_of_unequal_length_is_refused_at_the_first_line_without_partner(load, tmp_path, english, line):
    entry = {**BITEXT, "train": {"en": ["a.de", "a.en"]}}
    with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path))}/a\.de:{line}: found 2 lines, and \d in "):
        load("tatoeba", entry, {"a.de": "Hallo\nJa\n", "a.en": english})


def test_an_empty_line_of_a_bitext_is_named_on_its_side(load):
    entry = {**BITEXT, "train": {"en": ["a.de", "a.en"]}}
    with pytest.raises(DataError, match=r"a\.de:2: english \(.*a\.en:2\): found ''"):
        load("tatoeba", entry, {"a.de": "Hallo\nJa\nNein\n", "a.en": "Hello\n\nNo\n"})


@pytest.mark.parametrize("labels", ["1\n", "1\n0\n1\n"])
def test_as_many_labels_as_rows_are_wanted(load, labels):
    entry = {"reader": "jsonl", "columns": {"context": "c", "choices": ["x", "y"]}, "labels_file": "l.lst"}
    rows = '{"c": "a", "x": "b", "y": "c"}\n{"c": "d", "x": "e", "y": "f"}\n'
    with pytest.raises(DataError, match=r"l\.lst:\d: labels_file: found [13] labels"):
        load("codah", entry, {"a.jsonl": rows, "l.lst": labels})


def test_a_bad_label_of_a_label_file_is_named_there(load):
    entry = {"reader": "jsonl", "columns": {"context": "c", "choices": ["x", "y"]}, "labels_file": "l.lst"}
    with pytest.raises(DataError, match=r"a\.jsonl:1: label \(.*l\.lst:1\): found '7', expected the number"):
        load("codah", entry, {"a.jsonl": '{"c": "a", "x": "b", "y": "c"}\n', "l.lst": "7\n"})
