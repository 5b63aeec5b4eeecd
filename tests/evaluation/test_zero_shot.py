"""Evaluation: which languages, splits and modules fit a task, and that a saved module scores the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import make_module, make_part, write_data

from adapterxl import evaluate, merge
from adapterxl.artifacts import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.data import open_data
from adapterxl.data.perturb import Perturbation
from adapterxl.engines import get_engine
from adapterxl.errors import BackboneError, CompositionError, DataError, TaskError, UsageError
from adapterxl.evaluation.languages import embed, vector_reader
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.retrieval import nearest
from adapterxl.modules import LoRA
from adapterxl.report.tables import sections
from adapterxl.tasks import get_task


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def module(on: Backbone, task: str, trained: str | None = None, seed: int = 1) -> TaskModule:
    """As trained for a task, on the rows of `trained`."""
    found = get_task(task)
    labels = found.labels if found.kind in ("classify", "tag") else ()
    made = make_module(on, task, [make_part(LoRA(rank=2), task, on, seed)], found.kind, labels=labels)
    return replace(made, task=trained or task, training={"train_from": trained or task, "seed": 7})


def score(subject: Any, on: Backbone, task: Any, data: Path, **options: Any) -> Any:
    return evaluate(subject, on=on, task=task, data=data, progress=False, **options)


def test_all_languages_of_the_data_are_scored_and_absent_ones_make_the_result_partial(on: Backbone, data: Path) -> None:
    udpos = module(on, "udpos")
    everything = score(udpos, on, "udpos", data)
    assert [record.language for record in everything.records if record.primary] == ["en", "de", "zh"]
    assert everything.partial and set(get_task("udpos").languages) <= set(everything.expected_languages)
    chosen = score(udpos, on, "udpos", data, languages="zh, de,zh")
    found = {(record.metric, record.language): record.value for record in everything.records}
    assert not chosen.partial and [(record.metric, record.language) for record in chosen.records] == [
        (metric, language) for language in ("zh", "de") for metric in ("udpos_f1", "token_accuracy")
    ]
    assert all(record.value == found[record.metric, record.language] for record in chosen.records)
    with pytest.raises(TaskError, match="No language 'dee' .* Did you mean 'de'\\? Languages there: en, de, zh"):
        score(udpos, on, "udpos", data, languages=["dee"])
    larger = score(udpos, on, "udpos", data, languages="xtreme-r")
    assert [record.language for record in larger.records if record.primary] == ["en", "de", "zh"]
    assert larger.partial and larger.expected_languages == list(get_task("udpos").sets["xtreme-r"])
    with pytest.raises(TaskError, match="No language 'xtreme' for copa"):
        score(module(on, "copa"), on, "copa", data, languages="xtreme")
    with pytest.raises(TaskError, match=r"has no language of xtreme for xnli; it has: en"):
        only = replace(get_task("xnli"), sets={"xtreme": ("th",)})
        score(module(on, "xnli"), on, only, data, languages="xtreme")


def test_scores_say_what_was_scored(on: Backbone, data: Path, tmp_path: Path) -> None:
    saved = module(on, "udpos").save(tmp_path / "m")
    found = score(tmp_path / "m", on, "udpos", data, out=tmp_path / "scores.json")
    kept = json.loads((tmp_path / "scores.json").read_text())
    assert kept["task"] == "udpos" and kept["seed"] == 7 and kept["engine"] == "packed" and kept["partial"]
    assert kept["base"]["fingerprint"] == on.fingerprint and kept["module"]["digest"] == saved.digest()
    lines = [json.loads(line) for line in (tmp_path / "scores.predictions.jsonl").read_text().splitlines()]
    assert len(lines) == sum(record.n for record in found.records if record.primary) == 18
    for record in found.records:
        mine = [line for line in lines if line["language"] == record.language]
        predictions, golds = ([line[side] for line in mine] for side in ("prediction", "gold"))
        assert record.value == pytest.approx(get_metric(record.metric).compute(predictions, golds))


def test_the_tasks_own_split_is_scored_or_the_labelled_one_there_is(on: Backbone, data: Path) -> None:
    assert {record.split for record in score(module(on, "udpos"), on, "udpos", data).records} == {"test"}
    assert {record.split for record in score(module(on, "panx"), on, "panx", data).records} == {"dev"}
    assert score(module(on, "udpos"), on, "udpos", data, split="dev").records[0].n == 20
    for split in ("train", "validation"):
        with pytest.raises(TaskError, match="these evaluation splits in .*: dev, test|test, dev"):
            score(module(on, "udpos"), on, "udpos", data, split=split)
    with pytest.raises(TaskError, match="mnli has no evaluation split"):
        score(module(on, "mnli"), on, "mnli", data)


def test_of_a_composition_the_head_of_the_named_member_answers(on: Backbone, data: Path) -> None:
    pos, ner = module(on, "udpos"), module(on, "panx", seed=2)
    found = score(merge(ner, pos), on, "udpos", data, head="udpos")
    whole = replace(pos, parts=(*ner.parts, *pos.parts))
    assert [r.value for r in found.records] == [r.value for r in score(whole, on, "udpos", data).records]
    assert found.module.composition == "merge(panx, udpos)"
    with pytest.raises(TaskError, match="'merge' has the labels O, B-PER"):
        score(merge(ner, pos), on, "udpos", data, head="panx")
    with pytest.raises(CompositionError, match="nli"):
        score(merge(ner, pos), on, "udpos", data, head="nli")
    with pytest.raises(UsageError, match="--head pos: the plain backbone has none"):
        score(None, on, "udpos", data, head="pos")


def test_another_tasks_training_rows_must_be_said_aloud(on: Backbone, data: Path) -> None:
    tydiqa = module(on, "tydiqa")
    with pytest.raises(TaskError, match="trained on tydiqa, not on squad.*say --train-from tydiqa"):
        score(tydiqa, on, "xquad", data)
    found = score(tydiqa, on, "xquad", data, train_from="tydiqa")
    assert found.train_from == "tydiqa" and [r.language for r in found.records if r.primary] == ["en", "zh"]
    with pytest.raises(TaskError, match="--train-from snli: but 'mnli' was trained on mnli"):
        score(module(on, "mnli"), on, "xnli", data, train_from="snli")
    assert score(module(on, "mnli"), on, "xnli", data).train_from == "mnli"  # the task's own training task
    assert score(module(on, "tydiqa"), on, "tydiqa", data).train_from is None


def test_kind_labels_head_and_backbone_must_fit(on: Backbone, data: Path) -> None:
    with pytest.raises(TaskError, match="'panx' has the labels O, B-PER.*but udpos has ADJ"):
        score(module(on, "panx"), on, "udpos", data)
    with pytest.raises(TaskError, match="answers tag tasks, but xnli is a classify task"):
        score(module(on, "panx"), on, "xnli", data)
    with pytest.raises(CompositionError, match="has no head for udpos. Train one: adapterxl train udpos"):
        score(merge(module(on, "udpos")), on, "udpos", data)
    with pytest.raises(CompositionError, match="The plain backbone has no head"):
        score(None, on, "udpos", data)
    other = replace(module(on, "udpos"), base={**on.describe(), "fingerprint": "0" * 64})
    with pytest.raises(BackboneError, match="Give the backbone it was trained on with --base"):
        score(other, on, "udpos", data)


def test_a_perturbed_copy_is_scored_on_request_and_a_report_tells_it_apart(on: Backbone, data: Path, tmp_path: Path):
    nli = module(on, "xnli", "mnli")
    plain = score(nli, on, "xnli", data, out=tmp_path / "plain.json")
    copy = score(nli, on, "xnli", data, perturb="characters=0.5,casing=upper", out=tmp_path / "copy.json")
    assert copy.options["perturbation"] == "characters=0.5,casing=upper" and "perturbation" not in plain.options
    same = score(nli, on, "xnli", data, perturb=Perturbation(noise=0.5, casing="upper"))
    assert same.records == copy.records
    before, after = (
        [json.loads(line) for line in (tmp_path / f"{name}.predictions.jsonl").read_text().splitlines()]
        for name in ("plain", "copy")
    )
    assert [(line["id"], line["gold"]) for line in before] == [(line["id"], line["gold"]) for line in after]
    assert [line["prediction"] for line in before] != [line["prediction"] for line in after]
    (section,) = sections([plain, copy])
    assert [column.perturbed for column in section.columns] == ["", "characters=0.5,casing=upper"]


def test_retrieval_goes_both_ways_at_a_layer_of_the_backbone(on: Backbone, data: Path) -> None:
    found = score("none", on, "tatoeba", data)
    assert [record.direction for record in found.records] == ["de->en", "en->de", "fr->en", "en->fr"]
    assert found.options["layer"] == round(3 * 14 / 24) and found.module.method == "none"
    engine = get_engine("packed")(on, (), None)
    examples: Any = open_data(data).load(get_task("tatoeba"), "test", "de").examples
    for layer in (0, 3):
        sides = [embed(vector_reader(engine, layer), on, texts, 8192, 64) for texts in
                 ([e.text for e in examples], [e.english for e in examples])]  # fmt: skip
        hits = [float((nearest(a, b) == torch.arange(len(examples))).float().mean()) for a, b in (sides, sides[::-1])]
        records = score("none", on, "tatoeba", data, languages="de", layer=layer).records
        assert [record.value for record in records] == pytest.approx(hits)
    for layer in (-1, 4):
        with pytest.raises(UsageError, match="hidden states 0 to 3"):
            score("none", on, "tatoeba", data, layer=layer)
    composed = merge(module(on, "udpos"))
    assert score(composed, on, "tatoeba", data).module.composition == "merge(udpos)"


def test_sentence_vectors_are_means_of_hugging_faces_hidden_states(on: Backbone) -> None:
    texts = ["The quick brown fox.", "dog", "Wer hat das Buch geschrieben, das du gelesen hast?"]
    for layer in range(on.layers + 1):
        ours = embed(vector_reader(get_engine("packed")(on, (), None), layer), on, texts, 12, 64)
        for vector, text in zip(ours, texts, strict=True):
            with torch.no_grad():
                states = on.model(**on.tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
            torch.testing.assert_close(vector, states[layer][0].mean(dim=0), rtol=1e-4, atol=1e-5)


def test_a_limit_takes_the_first_examples_and_is_recorded(on: Backbone, data: Path) -> None:
    found = score(module(on, "udpos"), on, "udpos", data, limit=2)
    assert {record.n for record in found.records} == {2} and found.options["limit"] == 2


def test_dropped_rows_are_counted_and_stop_without_being_asked_for(on: Backbone, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    path = tmp_path / "xnli/test-fr.csv"
    path.write_text(path.read_text() + "a,b,maybe\n")
    with pytest.raises(DataError, match="test-fr.csv:10"):
        score(module(on, "mnli"), on, "xnli", data)
    found = score(module(on, "mnli"), on, "xnli", data, on_bad_row="drop")
    assert found.options["dropped_rows.fr"] == 1 and {record.n for record in found.records} == {8}


def test_a_wrong_name_of_the_result_is_refused_before_anything_runs(on: Backbone, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.json"):
        score(module(on, "udpos"), on, "udpos", data, out=tmp_path / "scores")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["peft", "adapters"])
def test_every_engine_gives_the_same_predictions(engine: str, on: Backbone, data: Path, tmp_path: Path) -> None:
    part = make_part(LoRA(rank=2, sites=("query", "ffn_up")), "udpos", on, 1)
    udpos = make_module(on, "udpos", [part], "tag", labels=get_task("udpos").labels)
    for name in ("packed", engine):
        score(udpos, on, "udpos", data, engine=name, out=tmp_path / f"{name}.json")
    ours, theirs = (tmp_path / f"{name}.predictions.jsonl" for name in ("packed", engine))
    assert ours.read_bytes() == theirs.read_bytes()


_FRESH = """
import sys
from adapterxl import Backbone, evaluate
for task, options in (("udpos", {}), ("xquad", {"train_from": "tydiqa"}), ("xnli", {}), ("copa", {})):
    evaluate(f"{sys.argv[3]}/{task}", on=Backbone(sys.argv[1], device="cpu"), task=task, data=sys.argv[2],
             out=f"{sys.argv[3]}/{task}-fresh.json", progress=False, **options)
"""


def test_a_fresh_process_gives_identical_predictions(on: Backbone, data: Path, tmp_path: Path) -> None:
    for task, trained in (("udpos", None), ("xquad", "tydiqa"), ("xnli", "mnli"), ("copa", None)):
        subject = module(on, task, trained)
        subject.save(tmp_path / task)
        score(subject, on, task, data, train_from=trained if task == "xquad" else None, out=tmp_path / f"{task}.json")
    checkout = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", _FRESH, str(on.folder), str(data), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": checkout})
    assert done.returncode == 0, done.stderr
    for task in ("udpos", "xquad", "xnli", "copa"):
        here, there = (tmp_path / f"{task}{end}.predictions.jsonl" for end in ("", "-fresh"))
        assert here.read_bytes() == there.read_bytes()
        ours, theirs = (json.loads((tmp_path / f"{task}{end}.json").read_text())["records"] for end in ("", "-fresh"))
        assert ours == theirs


def test_scores_of_another_module_are_not_replaced_unless_asked(on: Backbone, data: Path, tmp_path: Path) -> None:
    one, other = module(on, "udpos"), module(on, "panx")
    score(one, on, "udpos", data, languages=["de"], out=tmp_path / "s.json")
    before = (tmp_path / "s.json").read_bytes()
    with pytest.raises(UsageError, match="holds scores of 'udpos' on udpos"):
        score(other, on, "panx", data, languages=["de"], out=tmp_path / "s.json")
    assert (tmp_path / "s.json").read_bytes() == before
    score(one, on, "udpos", data, languages=["de"], out=tmp_path / "s.json")  # the same again may be
    score(other, on, "panx", data, languages=["de"], out=tmp_path / "s.json", overwrite=True)
    assert json.loads((tmp_path / "s.json").read_text())["task"] == "panx"


def test_a_seed_can_be_given_to_what_was_not_trained(on: Backbone, data: Path) -> None:
    composed = merge(module(on, "udpos"))
    assert score(composed, on, "tatoeba", data, seed=3).seed == 3
    assert score(composed, on, "tatoeba", data).seed == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int, on: Backbone, data: Path) -> None:
    with pytest.raises(UsageError, match=f"limit: found {limit}"):
        score(module(on, "udpos"), on, "udpos", data, limit=limit)


def test_where_there_may_be_no_answer_each_metric_has_its_threshold_and_the_report_counts_the_same(
    on: Backbone, data: Path, tmp_path: Path
) -> None:
    names = ("squad_v2", "best_exact_match", "best_f1", "f1", "exact_match")
    task, out = replace(get_task("xquad"), metrics=names, no_answer=True), tmp_path / "scores.json"
    scores = score(module(on, "xquad"), on, task, data, languages="en", out=out)
    values = {record.metric: record.value for record in scores.records}
    assert list(values) == list(names) and values["squad_v2"] == pytest.approx(
        (values["best_exact_match"] + values["best_f1"]) / 2
    )
    rows = [json.loads(line) for line in (tmp_path / "scores.predictions.jsonl").read_text("utf-8").splitlines()]
    assert all(isinstance(text, str) and isinstance(belief, float) for text, belief in (r["prediction"] for r in rows))
    for name, value in values.items():
        counted = get_metric(name).compute([r["prediction"] for r in rows], [r["gold"] for r in rows])
        assert counted == pytest.approx(value, abs=1e-12)
        assert name.startswith(("best", "squad")) or value <= values[f"best_{name}"] + 1e-12
