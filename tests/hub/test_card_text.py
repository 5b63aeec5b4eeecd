"""Hostile text in manifests and scores is shown, but breaks neither table, front matter nor code block."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from adapterxl.errors import ArtifactError
from adapterxl.evaluation.scores import Scores
from adapterxl.hub import card
from adapterxl.hub.markdown import code, escape, plain

HOSTILE = [
    "a | b || c",
    "'; evil: yes #",
    '"quoted": {a: b}',
    "<script>alert(1)</script>",
    "<!-- hidden",
    "`tick` [link](javascript:x) ![i](x) **bold** _u_ ~~s~~ $x$",
    "{{ manifest }} {% for x in y %}",
    "*anchor &alias !!python/object:os.system",
    "1. list",
    "- item",
    "no",
    "日本語 ﷺ",
]
CONTROL = ["line\nbreak\r\n\n# heading", "```\nescaped = True\n```", "\u202eright to left\u2066", "\x1b[2J"]


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shape(text: str) -> tuple[object, ...]:
    """Headings by level, list items, columns of tables, fences, tags: what hostile text must not change."""
    body = ModelCard(text).text
    outside = re.sub(r"^```python\n.*?^```$", "", body, flags=re.DOTALL | re.MULTILINE)
    headings = [line.split(" ")[0] for line in outside.splitlines() if line.startswith("#")]
    tables = [len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("|")]
    items = len(re.findall(r"^\s*(?:[-+*]|\d+[.)])\s", outside, re.MULTILINE))
    return headings, items, tables, body.count("\n```"), "<" in outside


@pytest.mark.parametrize("layout", ["lora", "bottleneck"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_structure(
    text: str, layout: str, saved: Callable[..., Path], score: Callable[..., Scores]
) -> None:
    cards = []
    for name, word in (("plain", "word"), ("hostile", text)):
        labels = (f"{word}1", f"{word}2", "z")
        training = {
            "method": "lora",
            "data": [word],
            "options": {"rank": word},
            "train_from": word,
            "lr": word,
        }
        folder = saved(layout, name=name, labels=labels, task=word, training=training, notes=(word,), composition=word)
        records = score(folder).records
        given = score(folder, task=word, metric="token_accuracy", options={word: word},
                      records=[records[0], records[1].model_copy(update={"language": word})],
                      expected_languages=["en", word],
                      module={"composition": word})  # fmt: skip
        cards.append(card(folder, [given], limits=[word]))
    benign, hostile = cards
    assert shape(hostile) == shape(benign)
    ours, theirs = (ModelCard(each).data.to_dict() for each in (benign, hostile))
    assert theirs.keys() == ours.keys()
    assert theirs["library_name"] == ours["library_name"] and len(theirs["model-index"][0]["results"]) == 3
    found = []
    for block in code_blocks(hostile):
        tree = ast.parse(block)
        assigned = {t.id: n.value for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
                    if isinstance(t, ast.Name)}  # fmt: skip
        assert "escaped" not in assigned
        if layout == "lora" and "labels" in assigned:
            found.append(ast.literal_eval(assigned["labels"]))
    assert found == ([[f"{text}1", f"{text}2", "z"]] if layout == "lora" else [])


@pytest.mark.parametrize("text", CONTROL)
@pytest.mark.parametrize("field", ["labels", "notes", "composition", "training"])
def test_texts_with_control_characters_are_in_no_module_folder(
    text: str, field: str, saved: Callable[..., Path], tmp_path: Path
) -> None:
    value = {"labels": ("a", text, "z"), "notes": (text,), "composition": text, "training": {"data": [text]}}[field]
    with pytest.raises(ArtifactError, match="found a control character in "):
        saved("lora", name="hostile", **{field: value})
    assert not (tmp_path / "hostile").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("found in /home/me/data/x.tsv, twice", "found in x.tsv, twice"),
        ("'~/secret/run' and C:\\Users\\me\\run", "'run' and run"),
        ("file:///srv/models/xlmr", "xlmr"),
        ("someone/name and/or https://host/path 1/2", "someone/name and/or https://host/path 1/2"),
        ("merge(/a/b/nli, ../x/ner)", "merge(nli, ../x/ner)"),
        ("a\u2028b\x00c\t d", "a b c d"),
        ("\ud800 a surrogate alone", "a surrogate alone"),
    ],
)
def test_of_an_absolute_path_only_the_last_name_is_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_long_text_is_cut() -> None:
    assert len(plain("x" * 10_000)) == 300 and plain("x" * 10_000).endswith("…")


def test_names_are_code_and_all_else_is_escaped() -> None:
    assert code("merge(nli, ner)") == "`merge(nli, ner)`"
    assert code("a`b") == "a\\`b" and code("a|b") == "a\\|b" and code("") == "–"
    assert escape("token_accuracy 79.4 -1 _x_") == "token_accuracy 79.4 -1 \\_x\\_"
    assert escape("1. a") == "1\\. a" and escape("- a") == "\\- a" and escape("<b>&") == "&lt;b&gt;&amp;"


def test_what_looks_like_a_hub_token_is_never_put_on_a_card(saved: Callable[..., Path]) -> None:
    token = "hf_" + "aB3" * 12
    with pytest.raises(ArtifactError, match="hub token"):
        card(saved(notes=(f"with {token}",)))
    with pytest.raises(ArtifactError, match="hub token") as caught:
        card(saved(name="b"), limits=[token])
    assert token not in str(caught.value)
