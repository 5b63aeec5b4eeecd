"""A lexicon file is read strictly, in MUSE's layout, and a folder of them by language."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterxl.data.lexicon import lexicon_files, lexicon_text, made_lexicon, read_lexicon, read_lexicons
from adapterxl.errors import DataError, UsageError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_words_have_their_translations_in_order_and_those_by_themselves_are_left_out(tmp_path: Path) -> None:
    text = "\ufeffDog\tHund\ndog\tRüde\r\nhotel\tHotel\nnew york\tNeu  York\ncat katze\ndog Hund\n"
    found = read_lexicon(written(tmp_path / "x.tsv", text), "de")
    assert found.entries == {"dog": ("Hund", "Rüde"), "new york": ("Neu York",), "cat": ("katze",)} and len(found) == 3


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("dog", "'dog'"), ("", "''"), ("dog\t", "'dog.t'"), ("\tHund", "'.tHund'"), ("a\tb\tc", "'a.tb.tc'"),
        ("new york Neu", "'new york Neu'"), ("dog\t\u200b", "'dog"), ("dog\t" + "x" * 201, "xxx"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_entry_is_named_with_file_and_line(tmp_path: Path, line: str, found: str) -> None:
    path = written(tmp_path / "en-de.tsv", f"cat\tKatze\n{line}\ncow\tKuh\n")
    with pytest.raises(DataError, match=rf"en-de\.tsv:2: found .*{found}.*expected an English word, a tab and its"):
        read_lexicon(path, "de")


@pytest.mark.parametrize("content", [b"", b"  \n", b"dog\tH\xffnd\n", b"dog\tdog\n"])
def test_a_file_without_entries_or_in_another_encoding_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tsv"):
        read_lexicon(tmp_path / "x.tsv", "de")


def test_a_folder_gives_the_languages_that_are_asked_for(tmp_path: Path) -> None:
    for name in ("en-de.txt", "de.tsv", "en-zh.tsv", "fr.txt", "README.txt", "en-de.0-5000.txt"):
        written(tmp_path / name, "dog\tx\n")
    assert {language: path.name for language, path in lexicon_files(tmp_path).items()} == {
        "de": "en-de.txt", "fr": "fr.txt", "zh": "en-zh.tsv",
    }  # fmt: skip
    assert list(read_lexicons(tmp_path, ["zh", "de"])) == ["zh", "de"]
    assert list(read_lexicons(tmp_path / "fr.txt", ["fr"])) == ["fr"]
    with pytest.raises(UsageError, match="none for 'ru'. There: de, fr, zh"):
        read_lexicons(tmp_path, ["ru"])
    with pytest.raises(UsageError, match="a single file holds one language"):
        read_lexicons(tmp_path / "fr.txt")
    with pytest.raises(UsageError, match="found nothing, expected a folder"):
        read_lexicons(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no lexicon in this folder"):
        read_lexicons(tmp_path / "empty")


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    entries = [("dog", "Hund"), ("dog", "Rüde"), ("big", "sehr groß")]
    read = read_lexicon(written(tmp_path / "de.tsv", lexicon_text(entries)), "de")
    assert read == made_lexicon("de", entries)
