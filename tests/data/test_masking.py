"""Masked tokens: how many, which, what stands there, and that every batch draws its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import SENTENCES
from transformers import AutoTokenizer

from adapterxl.data import load_user_task
from adapterxl.data.examples import TextExample
from adapterxl.data.masking import Masking, unmasked
from adapterxl.data.prepare import Item, prepare
from adapterxl.errors import DataError, UsageError


@pytest.fixture(scope="module", params=["tiny_xlmr", "tiny_bert"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return AutoTokenizer.from_pretrained(request.getfixturevalue(request.param))


def items_of(tokenizer: Any, texts: Any, max_length: int = 64) -> tuple[Item, ...]:
    return prepare(
        "mask", [TextExample(str(i), "en", text) for i, text in enumerate(texts)], tokenizer, max_length
    ).items


def test_fifteen_percent_are_asked_for_and_eight_of_ten_are_hidden(tokenizer: Any) -> None:
    row = tokenizer(" ".join(SENTENCES) * 20, truncation=False)["input_ids"]
    masking = Masking(tokenizer)
    drawn = masking.draw(row, np.random.default_rng(0))
    assert drawn is not None
    seen, places, there = (np.array(each) for each in drawn)
    ids = np.array(row)
    open_to = ~np.isin(ids, tokenizer.all_special_ids)
    assert len(set(places.tolist())) == len(places) == round(0.15 * open_to.sum()) > 500
    assert open_to[places].all() and (ids[places] == there).all()
    elsewhere = np.delete(np.arange(len(ids)), places)
    assert (seen[elsewhere] == ids[elsewhere]).all()
    assert (seen[places] == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.05)
    assert (seen[places] == there).mean() == pytest.approx(0.1, abs=0.04)
    other = seen[places][(seen[places] != there) & (seen[places] != tokenizer.mask_token_id)]
    assert not np.isin(other, tokenizer.all_special_ids).any() and len(set(other.tolist())) > 20


def test_every_batch_draws_its_own_masks_and_seed_and_number_fix_them(tokenizer: Any) -> None:
    items, masking = items_of(tokenizer, SENTENCES), Masking(tokenizer)
    first, again, later = (masking.again(items, draw) for draw in ([1, 5, 0], [1, 5, 0], [1, 5, 1]))
    assert [item.rows for item in first] == [item.rows for item in again]
    assert [item.positions for item in first] != [item.positions for item in later]
    for item in (*first, *later):
        assert unmasked(item) == unmasked(items[item.example])
        assert len(item.positions or ()) == len(items[item.example].positions or ())


def test_long_texts_go_into_windows_and_lose_nothing(tokenizer: Any) -> None:
    text = " ".join(SENTENCES)
    inside = [t for item in items_of(tokenizer, [text], 16) for t in unmasked(item)[1:-1]]
    assert inside == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_text_without_a_known_token_is_left_out(tiny_bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    assert [item.example for item in items_of(tokenizer, ["☃", "the dog", "☃"])] == [1]


def test_a_tokenizer_without_a_mask_token_is_refused(tokenizer: Any) -> None:
    class Bare:
        mask_token_id = None

    with pytest.raises(UsageError, match="needs a mask token, which this backbone's tokenizer has not"):
        Masking(Bare())


@pytest.mark.parametrize(
    ("reader", "content"),
    [
        ("reader: lines", "one text\n\nand another\n"),
        ("reader: tsv\ncolumns: {text: text}", "text\tno\none text\t1\nand another\t2\n"),
        ("reader: jsonl\ncolumns: {text: text}", '{"text": "one text"}\n{"text": "and another"}\n'),
    ],
)
def test_plain_text_is_read_of_lines_or_a_column(tmp_path: Path, reader: str, content: str) -> None:
    (tmp_path / "text").write_text(content)
    (tmp_path / "t.yaml").write_text(f"name: t\nkind: mask\n{reader}\ntrain: {{en: [text]}}\n")
    task, source = load_user_task(tmp_path / "t.yaml")
    assert task.metrics == ("masked_accuracy",)
    assert [example.text for example in source.load(task, "train", "en").examples] == ["one text", "and another"]


def test_plain_text_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("name: t\nkind: mask\nlabels: [a, b]\nreader: lines\ntrain: {en: [text]}\n")
    with pytest.raises(DataError, match="labels: found 2, but kind mask has none"):
        load_user_task(tmp_path / "t.yaml")
