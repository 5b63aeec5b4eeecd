"""The reference index on real data: every file of every shipped task is read, with the published counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterxl.data import LocalIndex, open_data
from adapterxl.errors import DataError
from adapterxl.miniature.data import SOURCES
from adapterxl.tasks import all_tasks, get_task

pytestmark = pytest.mark.shared

COUNTS = {  # sizes as in the README of the data folder, or as the published splits
    ("mnli", "train"): {"en": 19_647},
    ("snli", "train"): {"en": 9_831},
    ("cosmosqa", "train"): {"en": 2_985},
    ("codah", "train"): {"en": 2_776},
    ("copa", "train"): {"en": 400},
    ("copa", "dev"): {"en": 100},
    ("panx", "train"): {"en": 20_000},
    ("udpos", "train"): {"en": 12_544},
    ("tydiqa", "train"): {"en": 3_696},
    ("tydiqa", "dev"): {"sw": 2_755, "ko": 1_625},
    ("udpos", "test"): dict.fromkeys(("ar", "cs", "de", "es", "fi", "fr", "hi", "ko", "pl", "pt", "ru", "th"), 1_000),
    ("xcopa", "dev"): dict.fromkeys(get_task("xcopa").languages, 100),
    ("xcopa", "test"): dict.fromkeys(get_task("xcopa").languages, 500),
    ("xnli", "dev"): dict.fromkeys(get_task("xnli").languages, 2_490),
    ("pawsx", "dev"): dict.fromkeys(get_task("pawsx").languages, 2_000),
    ("xquad", "test"): dict.fromkeys(get_task("xquad").languages, 1_190),
    ("tatoeba", "test"): {"de": 1_000, "ka": 746, "kk": 575, "sw": 390, "ta": 307, "te": 234},
    ("panx", "dev"): {"sw": 1_000, "te": 1_000, "ur": 1_000, "yo": 100},
    ("conjnli", "train"): {"en": 15_000},
    ("conjnli", "dev"): {"en": 623},
    ("piqa", "train"): {"en": 1_838},
    ("mlqa", "dev"): {"en": 1_148, "de": 512, "vi": 511, "zh": 504},
    ("nusax", "train"): dict.fromkeys(("en", "id", "jv", "su", "ace", "bjn"), 500),
    ("nusax", "test"): dict.fromkeys(("en", "id", "jv", "su", "ace", "bjn"), 400),
    ("afriqa", "test"): {"fon": 386, "hau": 300, "ibo": 409, "swa": 295},
    ("afriqa_pivot", "test"): {"fon": 386, "hau": 300, "ibo": 409, "swa": 295},
}


@pytest.fixture(scope="module")
def index(shared: Path) -> LocalIndex:
    source = open_data(shared / "data")
    assert isinstance(source, LocalIndex)
    return source


@pytest.mark.parametrize(("name", "split"), COUNTS, ids=lambda value: value)
def test_real_files_give_the_published_number_of_rows(index, name, split):
    task = get_task(name)
    for language, count in COUNTS[name, split].items():
        loaded = index.load(task, split, language)
        assert (language, len(loaded.examples)) == (language, count)
        assert len({example.id for example in loaded.examples}) == count
        assert loaded.dropped == () and loaded.warnings == ()


# Large, licensed, on the hub only; afriqa_pivot has the files of afriqa, *_passages those of the questions.
ABSENT = {
    "afriqa_pivot", "afrisenti", "anli", "anli_plus", "bucc", "bucc_gold", "ccg", "commonsenseqa", "hellaswag",
    "mewslix", "mlqa_passages", "paws", "qqp", "siqa", "squad", "squad_v2", "sst2", "tydiqa_passages", "xquad_passages",
}  # fmt: skip


def test_the_reference_index_has_every_other_shipped_task(index):
    assert set(all_tasks()) - set(index.entries) == ABSENT | set(SOURCES)


def test_mlqa_crosses_languages_on_request(index):
    mlqa = get_task("mlqa")
    assert index.languages(mlqa, "dev") == ("ar", "de", "de.en", "en", "es", "hi", "vi", "zh")
    crossed, german = (index.load(mlqa, "dev", key).examples for key in ("de.en", "de"))
    both = {row.id: row for row in german}.keys() & {row.id: row for row in crossed}.keys()
    assert len(both) == 512
    pairs = [(one, other) for one in crossed for other in german if one.id == other.id]
    assert all(a.context == b.context and a.question != b.question for a, b in pairs)


def test_answers_of_afriqa_are_placed_where_they_stand_and_kept_where_they_do_not(index):
    rows = [row for key in ("swa", "hau") for row in index.load(get_task("afriqa"), "test", key).examples]
    assert {start < 0 for row in rows for _, start in row.answers} == {True, False}
    assert all(start < 0 or row.context.startswith(text, start) for row in rows for text, start in row.answers)
    translated = index.load(get_task("afriqa_pivot"), "test", "swa").examples
    assert [row.id for row in translated] == [row.id for row in rows[: len(translated)]]
    assert all(one.question != other.question for one, other in zip(translated, rows, strict=False))


def test_passages_that_are_missing_in_afriqa_are_named_and_counted(index):
    with pytest.raises(DataError, match=r"fon\.fr\.dev\.json:\d+: context: found nothing, expected text"):
        index.load(get_task("afriqa"), "dev", "fon")
    loaded = index.load(get_task("afriqa"), "dev", "fon", on_bad_row="drop")
    assert (len(loaded.examples), len(loaded.dropped)) == (271, 18)


def test_nothing_is_learned_from_an_answer_that_stands_nowhere(index):
    afriqa = get_task("afriqa")
    with pytest.raises(DataError, match=r"answer_pivot: found 'yes', which does not stand in the context"):
        index.load(afriqa, "train", "bem")
    loaded = index.load(afriqa, "train", "bem", on_bad_row="drop")
    assert all(start >= 0 for row in loaded.examples for _, start in row.answers)
    assert (len(loaded.examples), len(loaded.dropped)) == (203, 31)


def test_every_file_that_the_reference_index_names_is_there(index):
    for entry in index.entries.values():
        for split, languages in entry.splits.items():
            for language in languages:
                for relative in entry.files(split, language):
                    assert (index.root / relative).is_file(), relative


def test_blanked_test_labels_are_pointed_out(index):
    assert "all 500 rows of 'copa' have the label 0" in index.load(get_task("copa"), "test", "en").warnings[0]


def test_a_context_that_begins_with_a_byte_order_mark_keeps_it_and_its_offsets(index):
    first = index.load(get_task("xquad"), "test", "th").examples[0]
    assert first.context.startswith("\ufeff")
    text, start = first.answers[0]
    assert first.context[start : start + len(text)] == text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["panx", "udpos", "tatoeba"])
def test_every_language_of_the_large_tasks_is_read(index, name):
    task = get_task(name)
    for split, languages in index.splits(task).items():
        for language in languages:
            loaded = index.load(task, split, language)
            assert loaded.dropped == () and len(loaded.examples) >= 100
