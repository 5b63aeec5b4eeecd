"""Retrieval tasks, from their files to records: equal to formulas written out, whatever is streamed in pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from search_data import write_search_data

from adapterxl import evaluate
from adapterxl.backbone import Backbone
from adapterxl.data import open_data
from adapterxl.engines import get_engine
from adapterxl.errors import DataError, TaskError, UsageError
from adapterxl.evaluation import search as search_module
from adapterxl.evaluation.languages import embed, vector_reader
from adapterxl.evaluation.scores import Scores
from adapterxl.tasks import get_task

LAYER = 2


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_search_data(tmp_path_factory.mktemp("search"))


def score(on: Backbone, task: str, data: Path, **more: Any) -> Scores:
    return evaluate(None, on=on, task=task, data=data, progress=False, **({"layer": LAYER} | more))


def unit(on: Backbone, texts: list[str], center: bool = False, pooling: Any = "mean") -> np.ndarray:
    reader = vector_reader(get_engine("packed")(on, (), None), LAYER, pooling)
    found = embed(reader, on, texts, 8192, 256).double().numpy()
    found = found - found.mean(axis=0) if center else found
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def paragraphs(data: Path, language: str) -> list[dict[str, Any]]:
    return json.loads((data / f"{language}.json").read_text())["data"][0]["paragraphs"]


def average_precision(order: list[int], right: set[int]) -> float:
    hits = [rank for rank, row in enumerate(order[:20], 1) if row in right]
    return sum((n + 1) / rank for n, rank in enumerate(hits)) / min(len(right), 20)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("chunk", [1 << 16, 4])
def test_lareqa_ranks_the_sentences_of_all_languages_in_one_pool(on, data, center, chunk, monkeypatch, tmp_path):
    monkeypatch.setattr(search_module, "CHUNK", chunk)
    scores = score(on, "lareqa", data, center=center, out=tmp_path / "s.json")
    pool, owners, right = [], [], {}
    for language in ("de", "en", "zh"):
        texts = []
        for paragraph in paragraphs(data, language):
            for k, (start, end) in enumerate(paragraph["sentence_breaks"]):
                for question in paragraph["qas"]:
                    if start <= question["answers"][0]["answer_start"] < end:
                        right.setdefault(question["id"], set()).add(len(owners))
                texts.append(paragraph["context"][start:end])
                owners.append(language)
                assert k < 3
        pool.append(unit(on, texts, center))
    for language in ("de", "en", "zh"):
        asked = [question for paragraph in paragraphs(data, language) for question in paragraph["qas"]]
        cosines = unit(on, [q["question"] for q in asked], center) @ np.concatenate(pool).T
        orders = [np.argsort(-row, kind="stable").tolist() for row in cosines]
        expected = np.mean([average_precision(o, right[q["id"]]) for o, q in zip(orders, asked, strict=True)])
        own = np.mean([[owners[row] == language for row in order[:20]] for order in orders])
        found = {r.metric: r for r in scores.records if r.language == language}
        assert found["map_at_20"].value == pytest.approx(expected) and found["map_at_20"].primary
        assert found["own_language_at_20"].value == pytest.approx(own) and not found["own_language_at_20"].primary
        assert found["map_at_20"].direction == f"{language}->all" and found["map_at_20"].n == 10
    assert {len(each) for each in right.values()} == {3}, "the answers in all languages are right"
    assert scores.options == {"layer": LAYER, "pooling": "mean", "centered": center,
                              "pool": "45 candidates in 3 languages (de en zh)"}  # fmt: skip
    assert scores.missing_languages == ["ar", "el", "es", "hi", "ru", "th", "tr", "vi"] and scores.partial
    lines = [json.loads(line) for line in (tmp_path / "s.predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 30 and len(lines[0]["prediction"]) == 20 and len(lines[0]["gold"]) == 3
    assert lines[0]["gold"] == ["de:0:0", "en:0:0", "zh:0:0"]


def test_a_limit_or_a_choice_of_languages_leaves_the_pool_whole(on, data):
    found = score(on, "lareqa", data, languages=["de"], limit=4)
    whole = score(on, "lareqa", data)
    assert found.options["pool"] == whole.options["pool"] and {record.n for record in found.records} == {4}
    assert [record.language for record in found.records] == ["de", "de"] and not found.partial


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_questions_look_for_their_passage_in_their_own_language_and_in_english(on, data, pooling):
    scores = score(on, "xquad_passages", data, languages=["de", "en"], pooling=pooling)
    passages = {
        language: unit(on, [each["context"] for each in paragraphs(data, language)], pooling=pooling)
        for language in ("de", "en")
    }
    expected = {}
    for language, pool in (("de", "de"), ("de", "en"), ("en", "en")):
        asked = [(n, q["question"]) for n, each in enumerate(paragraphs(data, language)) for q in each["qas"]]
        orders = np.argsort(-unit(on, [text for _, text in asked], pooling=pooling) @ passages[pool].T, axis=1)
        for top in (1, 5, 10):
            hits = [n in order[:top] for (n, _), order in zip(asked, orders.tolist(), strict=True)]
            expected[f"recall_at_{top}", language, pool] = np.mean(hits)
    assert {(r.metric, r.language, r.context_language): r.value for r in scores.records} == pytest.approx(expected)
    assert [r.metric for r in scores.records if r.primary] == ["recall_at_10"] * 3
    assert scores.zero_shot_mean["recall_at_1"] == pytest.approx(expected["recall_at_1", "de", "de"]), (
        "a record of two languages is in no mean"
    )
    assert scores.options["pooling"] == pooling


def test_first_tokens_are_hugging_faces(on):
    texts = ["The quick brown fox.", "dog"]
    ours = embed(vector_reader(get_engine("packed")(on, (), None), 1, "cls"), on, texts, 8192, 64, chunk=1)
    for vector, text in zip(ours, texts, strict=True):
        with torch.no_grad():
            states = on.model(**on.tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        torch.testing.assert_close(vector, states[1][0, 0], rtol=1e-4, atol=1e-5)


def margins(a: np.ndarray, b: np.ndarray) -> list[tuple[float, int, int]]:
    """Pairs by ratio margin with four neighbours, none of a row twice, written out."""
    cosines = a @ b.T
    forward = [np.sort(row)[::-1][:4].mean() for row in cosines]
    backward = [np.sort(column)[::-1][:4].mean() for column in cosines.T]
    ratio = cosines / ((np.array(forward)[:, None] + np.array(backward)[None]) / 2)
    near = np.zeros_like(cosines, dtype=bool)
    for n, row in enumerate(cosines):
        near[n, np.argsort(-row)[:4]] = True
    chosen = np.where(near, ratio, -9)
    mine = [(float(row.max()), n, int(row.argmax())) for n, row in enumerate(chosen)]
    near = np.zeros_like(cosines, dtype=bool)
    for n, column in enumerate(cosines.T):
        near[np.argsort(-column)[:4], n] = True
    chosen = np.where(near, ratio, -9)
    theirs = [(float(column.max()), int(column.argmax()), n) for n, column in enumerate(chosen.T)]
    kept: list[tuple[float, int, int]] = []
    for value, i, j in sorted(mine + theirs, key=lambda pair: -pair[0]):
        if all(i != x and j != y for _, x, y in kept):
            kept.append((value, i, j))
    return kept


def test_bucc_is_mined_with_the_threshold_of_dev(on, data, tmp_path):
    scores = score(on, "bucc", data, out=tmp_path / "s.json")
    pairs, gold = {}, {}
    for split in ("dev", "test"):
        sides = [
            unit(on, [line.split("\t")[1] for line in (data / f"bucc-{split}.{end}").read_text().splitlines()])
            for end in ("de", "en")
        ]
        pairs[split] = margins(*sides)
        gold[split] = {(n, n) for n in range(0, len(sides[0]), 3)}

    def f1(split: str, threshold: float) -> float:
        kept = {(i, j) for value, i, j in pairs[split] if value >= threshold}
        return 2 * len(kept & gold[split]) / (len(kept) + len(gold[split]))

    values = [value for value, *_ in pairs["dev"]]
    cuts = [(a + b) / 2 for a, b in zip(values, [*values[1:], values[-1]], strict=True)]
    threshold = max(cuts, key=lambda cut: f1("dev", cut))
    (record,) = scores.records
    assert record.value == pytest.approx(f1("test", threshold)) and record.metric == "bucc"
    assert (record.language, record.direction, record.split) == ("de", "de->en", "test")
    assert scores.options["threshold.de"] == pytest.approx(threshold, abs=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "s.predictions.jsonl").read_text().splitlines()]
    assert len(lines) == record.n and {"de-0", "de-3"} <= {line["id"] for line in lines}


def test_mining_without_dev_rows_or_gold_pairs_is_refused(on, data, tmp_path):
    with pytest.raises(DataError, match="no gold pair among 1 and 1 sentences, expected at least one. Is the limit"):
        write_search_data(tmp_path)
        (tmp_path / "bucc-dev.gold").write_text("de-3\ten-3\n")
        score(on, "bucc", tmp_path, limit=1)
    index = json.loads((tmp_path / "adapterxl-data.yaml").read_text())
    del index["tasks"]["bucc"]["dev"]
    (tmp_path / "adapterxl-data.yaml").write_text(json.dumps(index))
    with pytest.raises(
        TaskError, match="bucc: no dev rows in .*, on which the threshold is chosen; expected dev rows in"
    ):
        score(on, "bucc", tmp_path)


def test_mentions_find_entities_of_all_languages(on, data):
    scores = score(on, "mewslix", data)
    entities = [json.loads(line) for line in (data / "entities.jsonl").read_text().splitlines()]
    pool = unit(on, [each["description"] for each in entities])
    examples = open_data(data).load(get_task("mewslix"), "test", "de").examples
    assert [each.id for each in examples] == ["m0", "m2", "m4", "m6", "m8", "m10"]
    orders = np.argsort(-unit(on, [each.text for each in examples]) @ pool.T, axis=1).tolist()
    ranks = [order.index(int(each.right[0][1:])) + 1 for order, each in zip(orders, examples, strict=True)]
    expected = np.mean([1 / rank if rank <= 20 else 0 for rank in ranks])
    assert next(r.value for r in scores.records if r.language == "de") == pytest.approx(expected)
    assert scores.options["pool"] == "30 candidates in 3 languages (en fr th)"


def test_an_entity_that_is_no_candidate_is_refused(on, tmp_path):
    write_search_data(tmp_path)
    kept = (tmp_path / "entities.jsonl").read_text().splitlines()[1:]
    (tmp_path / "entities.jsonl").write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match="mewslix: 'm0' asks for 'Q0', which is not among the 29 candidates"):
        score(on, "mewslix", tmp_path)
    with pytest.raises(TaskError, match="--split pool: mewslix has these evaluation splits in .*: test"):
        score(on, "mewslix", tmp_path, split="pool")


def test_questions_without_a_sentence_are_counted_and_refused_where_none_is_left(on, tmp_path):
    write_search_data(tmp_path)
    content = json.loads((tmp_path / "zh.json").read_text())
    for number, paragraph in enumerate(content["data"][0]["paragraphs"]):
        paragraph["sentence_breaks"] = paragraph["sentence_breaks"][1:2] if number else paragraph["sentence_breaks"][:2]
    (tmp_path / "zh.json").write_text(json.dumps(content))
    scores = score(on, "lareqa", tmp_path, languages=["de", "zh"])
    assert scores.options["left_out.zh"] == 9 and [r.n for r in scores.records if r.primary] == [10, 1]
    paragraph = content["data"][0]["paragraphs"][0]
    paragraph["sentence_breaks"] = paragraph["sentence_breaks"][1:2]
    (tmp_path / "zh.json").write_text(json.dumps(content))
    with pytest.raises(
        DataError, match="lareqa, test, zh: found no question to search with, as the answers of 10 begin"
    ):
        score(on, "lareqa", tmp_path)


def test_a_layer_is_chosen_on_languages_that_are_then_not_reported(on, data, tmp_path):
    scores = score(on, "xquad_passages", data, layer=None, sweep_layers=["zh"], out=tmp_path / "s.json")
    each = {
        layer: score(on, "xquad_passages", data, layer=layer, languages="zh").records[0].value
        for layer in range(on.layers + 1)
    }
    best = max(each, key=lambda layer: each[layer])
    assert scores.options["layer"] == best and scores.options["layer_chosen_on"] == "zh (test)"
    assert scores.options["layer_sweep"] == ", ".join(f"{layer}: {100 * v:.1f}" for layer, v in each.items())
    assert {record.language for record in scores.records} == {"de", "en"} and "zh" in scores.missing_languages
    again = score(on, "xquad_passages", data, layer=best, languages=["de", "en"])
    assert again.records == scores.records


def test_where_there_are_dev_rows_the_layer_is_chosen_on_them_and_every_language_reported(on, data):
    scores = score(on, "bucc", data, layer=None, sweep_layers="de")
    assert scores.options["layer_chosen_on"] == "de (dev)" and [r.language for r in scores.records] == ["de"]
    assert score(on, "bucc", data, layer=scores.options["layer"]).records == scores.records


def test_a_sweep_of_a_pool_asks_in_the_dev_languages_only(on, data):
    scores = score(on, "lareqa", data, layer=None, sweep_layers=["de", "zh"])
    assert scores.options["layer_chosen_on"] == "de zh (test)" and {r.language for r in scores.records} == {"en"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sweep_layers": ["de"]}, "--sweep-layers: is for choosing the layer, and layer 2 is given; leave one out"),
        ({"layer": None, "sweep_layers": ["xx"]}, "No language 'xx' for lareqa test"),
        ({"layer": None, "sweep_layers": ["de", "en", "zh"]}, "no language is left to be scored; expected other"),
        ({"pooling": "max"}, "pooling: found 'max', expected mean or cls"),
        ({"perturb": "noise"}, "perturb: found 'noise' in 'noise', expected characters or casing"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_in_one_line(on, data, more, message):
    with pytest.raises((UsageError, TaskError), match=message):
        score(on, "lareqa", data, **more)


def test_a_perturbed_copy_says_so_and_changes_queries_alone(on, data, tmp_path):
    clean = score(on, "xquad_passages", data, languages=["de"], out=tmp_path / "s.json")
    noisy = score(on, "xquad_passages", data, languages=["de"], perturb="characters=0.5,casing=upper")
    assert noisy.options == clean.options | {"perturbation": "characters=0.5,casing=upper"}
    assert [r.value for r in noisy.records] != [r.value for r in clean.records]
    with pytest.raises(UsageError, match=r"s\.json: holds scores of 'backbone' on xquad_passages\. Give another --out"):
        score(on, "xquad_passages", data, languages=["de"], perturb="casing", out=tmp_path / "s.json")
