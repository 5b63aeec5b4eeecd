"""`adapterxl lexicon` writes lexicons that training takes as they are, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from adapterxl.cli import main
from adapterxl.data.align import Induction, induce
from adapterxl.data.augment import read_augmentations
from adapterxl.data.examples import TextExample
from adapterxl.data.index import LocalIndex
from adapterxl.data.lexicon import read_lexicons
from adapterxl.miniature.data import data_folder
from adapterxl.tasks import get_task


def test_lexicons_of_parallel_text_are_written_with_where_they_come_from(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "lexicons"
    assert main(["lexicon", "mini_bitext", "--languages", "de,zh", "--threshold", "0.3", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "de: " in said.out and "entries from 300 pairs" in said.out
    assert said.err.count("come from the test rows of mini_bitext: report no score on these rows") == 1
    made = json.loads((out / "lexicon.json").read_text())
    assert made["settings"] == vars(Induction(threshold=0.3)) and list(made["languages"]) == ["de", "zh"]
    for language, found in read_lexicons(out).items():
        told = made["languages"][language]
        assert told["words"] == len(found) and told["split"] == "test" and len(told["data"]) == 2
        assert told["sha256"] == hashlib.sha256((out / f"en-{language}.tsv").read_bytes()).hexdigest() == found.sha256
    rows = LocalIndex.open(data_folder("mini_bitext")).load(get_task("mini_bitext"), "test", "de").examples
    pairs = [(row.text, row.english) for row in rows]  # type: ignore[union-attr]
    expected = "".join(f"{word}\t{known}\n" for word, known, _ in induce(pairs, "de", Induction(threshold=0.3)).entries)
    assert (out / "en-de.tsv").read_text(encoding="utf-8") == expected
    assert main(["lexicon", "mini_bitext", "--out", str(out)]) == 1
    assert "exists" in capsys.readouterr().err and read_lexicons(out).keys() == {"de", "zh"}


def test_an_induced_lexicon_switches_as_the_written_one(tmp_path: Path) -> None:
    out = tmp_path / "lexicons"
    assert main(["lexicon", "mini_bitext", "--languages", "de,ru", "--out", str(out)]) == 0
    row = TextExample("1", "en", "The dog is in the garden. Anna has a new book. " * 3)
    by_file, by_text = (
        read_augmentations(f"codeswitch(languages=[de, ru], {how})")[0].begin(None)
        for how in (f"lexicon={out}", "induced=mini_bitext")
    )
    assert by_file is not None and by_text is not None
    one, other = by_file([row], get_task("mnli"), 1), by_text([row], get_task("mnli"), 1)
    assert one.rows == other.rows != (row,)
    assert other.facts["lexicons"] == one.facts["lexicons"]
    assert other.facts["operator"] == "codeswitch(languages=[de, ru], induced=mini_bitext)"
    assert any("come from the test rows of mini_bitext" in note for note in other.notes)


def test_training_pairs_of_ones_own_come_before_others_and_need_no_warning(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.de").write_text("Der Hund\nDie Katze\nDer Hund\nDie Katze\nEin Hund\n")
    (tmp_path / "a.en").write_text("the dog\nthe cat\nthe dog\nthe cat\na dog\n")
    task = tmp_path / "mine.yaml"
    task.write_text("name: mine\nkind: retrieve\nreader: bitext\ntrain: {de: [a.de, a.en]}\ntest: {de: [a.en, a.en]}\n")
    assert main(["lexicon", str(task), "--min-count", "2", "--out", str(tmp_path / "out")]) == 0
    assert "report no score" not in capsys.readouterr().err
    assert read_lexicons(tmp_path / "out")["de"].entries["dog"][0] == "Hund"
    assert "mine.yaml" in (tmp_path / "out" / "lexicon.json").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["mini_nli"], "mini_nli (classify) is no parallel text"),
        (["mini_bitext", "--languages", "fi"], "no language 'fi'"),
        (["mini_bitext", "--threshold", "2"], "threshold: found 2.0, expected a score above 0 and up to 1"),
        (["mini_bitext", "--most", "0"], "most: found 0, expected at least 1"),
        (["mini_bitext", "--limit", "2"], "no translation in 'de' is likely enough in 2 pairs"),
        (["nothing.yaml"], "nothing.yaml"),
    ],
)
def test_what_gives_no_lexicon_is_refused_in_one_line_and_writes_nothing(
    given: list[str], message: str, tmp_path: Path, capsys: Any
) -> None:
    assert main(["lexicon", *given, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
