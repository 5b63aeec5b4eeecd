"""A card says what manifest and scores say, in the hub's own terms, and refuses what does not belong together."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from layouts import LAYOUTS
from sealing import edit_manifest

from adapterxl.artifacts import inspect, load
from adapterxl.backbone import Backbone
from adapterxl.engines import verify
from adapterxl.errors import AdapterXLError, ArtifactError, BackboneError, DataError, UsageError
from adapterxl.evaluation.scores import Record, Scores
from adapterxl.hub import card, write_card

Saved = Callable[..., Path]
Score = Callable[..., Scores]
LIBRARIES = {"peft": "peft", "adapters": "adapter-transformers", None: "adapterxl"}


def table(text: str, heading: str = "| language |") -> list[list[str]]:
    """Cells of the first table whose header starts with `heading`, header and rows."""
    lines = text[text.index(heading) :].splitlines()
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_front_matter_names_library_relation_and_tags_by_layout(layout: str, saved: Saved, score: Score) -> None:
    folder = saved(layout)
    data = ModelCard(card(folder, [score(folder)], licence="apache-2.0")).data.to_dict()
    assert data["library_name"] == LIBRARIES[LAYOUTS[layout]]
    assert data["base_model_relation"] == "adapter" and data["license"] == "apache-2.0"
    assert data["pipeline_tag"] == "token-classification"
    kinds = {part.kind for part in load(folder).parts}
    assert {"adapterxl", "pos", *kinds} <= set(data["tags"])
    assert ("adapter-transformers" in data["tags"]) == (LAYOUTS[layout] == "adapters")
    assert data["language"] == ["en", "de", "zh"]


@pytest.mark.parametrize(
    ("kind", "pipeline"),
    [
        ("classify", "text-classification"),
        ("tag", "token-classification"),
        ("span", "question-answering"),
        ("choice", "multiple-choice"),
        ("", "feature-extraction"),
    ],
)
def test_the_pipeline_tag_is_the_hubs_name_of_the_kind(kind: str, pipeline: str, saved: Saved) -> None:
    assert ModelCard(card(saved("lora", kind))).data.pipeline_tag == pipeline


def test_one_result_a_language_and_metric_and_their_zero_shot_mean(saved: Saved, score: Score) -> None:
    folder = saved("lora", "span")
    records = [
        Record(language=language, split="test", metric=metric, value=value, n=200, primary=metric == "f1")
        for language, f1, exact in (("en", 0.8, 0.6), ("de", 0.5, 0.3), ("no", 0.4, 0.2))
        for metric, value in (("f1", f1), ("exact_match", exact))
    ]
    text = card(folder, [score(folder, records=records, task="xquad")], repo="someone/xquad-lora")
    found = ModelCard(text).data
    assert found.model_name == "xquad-lora"
    results = {(each.dataset_config, each.metric_type): each for each in found.eval_results}
    assert {key: each.metric_value for key, each in results.items()} == {
        ("en", "f1"): 0.8, ("en", "exact_match"): 0.6, ("de", "f1"): 0.5, ("de", "exact_match"): 0.3,
        ("no", "f1"): 0.4, ("no", "exact_match"): 0.2, ("zero-shot-mean", "f1"): 0.45,
        ("zero-shot-mean", "exact_match"): 0.25,
    }  # fmt: skip
    for each in results.values():
        assert each.verified is False and each.task_type == "question-answering"
        assert each.dataset_type == "xquad" and each.dataset_split == "test"
    assert results["de", "f1"].dataset_args == {"n": 200} and results["de", "f1"].metric_args == {"seeds": [1]}
    assert table(text) == [
        ["language", "`f1`", "`exact_match`", "seeds", "n"],
        ["en (source)", "80.0", "60.0", "1", "200"],
        ["de", "50.0", "30.0", "1", "200"],
        ["no", "40.0", "20.0", "1", "200"],
        ["**zero-shot mean**", "45.0", "25.0", "1", ""],
        ["**worst language: no**", "40.0", "20.0", "1", ""],
        ["**transfer gap (en minus zero-shot mean)**", "35.0", "35.0", "1", ""],
    ]
    assert found.language == ["en", "de", "no"]  # Norwegian, not the YAML for false


def test_several_seeds_give_means_and_the_value_of_these_weights(saved: Saved, score: Score) -> None:
    folder = saved()
    seeds = [
        score(folder, {"de": 0.6, "en": 0.9, "zh": 0.3}, seed=2),
        score(folder, {"de": 0.4, "en": 0.7, "zh": 0.5}, seed=1, module={"digest": "f" * 64}),
    ]
    text = card(folder, seeds)
    assert text == card(folder, seeds[::-1])
    rows = table(text)
    assert rows[0] == ["language", "`token_accuracy`", "`token_accuracy`, these weights", "seeds", "n"]
    assert rows[1] == ["en (source)", "80.0 ± 14.1", "90.0", "2", "500"]
    assert rows[2] == ["de", "50.0 ± 14.1", "60.0", "2", "500"]
    assert rows[4] == ["**zero-shot mean**", "45.0 ± 0.0", "45.0", "2", ""]
    assert rows[5][:2] == ["**worst language: zh**", "40.0 ± 14.1"]
    assert "The weights here are of seed 2." in text
    results = {each.dataset_config: each for each in ModelCard(text).data.eval_results}
    assert results["en"].metric_value == 0.8 and results["en"].metric_args == {"seeds": [1, 2]}


def test_missing_languages_are_shown_and_the_mean_says_what_it_is_over(saved: Saved, score: Score) -> None:
    folder = saved()
    text = card(folder, [score(folder, {"en": 0.9, "de": 0.5}, expected_languages=["en", "de", "zh", "vi"])])
    rows = table(text)
    assert [row[0] for row in rows[1:5]] == ["en (source)", "de", "zh", "vi"] and rows[3][1:] == ["–", "–", "–"]
    assert rows[5][0] == "**zero-shot mean** (1 of 3 languages)"
    assert "not scored in `zh`, `vi`" in text
    assert ModelCard(text).data.language == ["en", "de"]
    assert "udpos (zero-shot mean of 1 of 3 languages)" in {r.dataset_name for r in ModelCard(text).data.eval_results}


def test_retrieval_of_a_composition_is_sentence_similarity_with_both_directions_averaged(
    saved: Saved, score: Score
) -> None:
    folder = saved("lora-sequence", "", operator="merge", composition="merge(nli, ner, pos)")
    records = [
        Record(language="de", direction=direction, split="test", metric="retrieval_accuracy", value=value, n=8,
               primary=True)
        for direction, value in (("de->en", 0.2), ("en->de", 0.4))
    ]  # fmt: skip
    text = card(folder, [score(folder, records=records, task="tatoeba")])
    data = ModelCard(text).data
    assert data.pipeline_tag == "sentence-similarity" and data.language == ["en", "de"]
    assert [(r.dataset_config, r.metric_type, round(r.metric_value, 4)) for r in data.eval_results] == [
        ("de", "accuracy", 0.3), ("zero-shot-mean", "accuracy", 0.3)]  # fmt: skip
    assert "merge" in data.tags and "It has no head" in text and "axl.train(" in text


def test_questions_in_another_language_than_their_context_are_in_no_language_and_no_mean(
    saved: Saved, score: Score
) -> None:
    folder = saved("lora", "span")
    records = [
        Record(language=q, context_language=c, split="test", metric="f1", value=value, n=10, primary=True)
        for q, c, value in (("en", "en", 0.8), ("de", "de", 0.6), ("de", "en", 0.1))
    ]
    rows = table(card(folder, [score(folder, records=records, task="mlqa")]))
    assert rows[3][:2] == ["de, context en", "10.0"] and rows[4][:2] == ["**zero-shot mean**", "60.0"]


def test_a_module_without_scores_is_said_to_be_not_evaluated(saved: Saved) -> None:
    text = card(saved(name="udpos"))
    data = ModelCard(text).data.to_dict()
    assert "**Not evaluated.**" in text and "model-index" not in data and "metrics" not in data
    assert data["language"] == ["en"]  # of the shipped task


def test_a_base_without_hub_id_is_left_out_and_told_by_its_fingerprint(saved: Saved, xlmr: Backbone) -> None:
    text = card(saved())
    data = ModelCard(text).data.to_dict()
    assert "base_model" not in data and not [tag for tag in data["tags"] if tag.startswith("base_model:")]
    assert f"`{xlmr.fingerprint}`" in text and "identified by its fingerprint alone" in text


def test_a_base_with_a_hub_id_is_named_linked_and_tagged(saved: Saved, xlmr: Backbone) -> None:
    text = card(saved(), base="FacebookAI/xlm-roberta-base")
    data = ModelCard(text).data
    assert data.base_model == "FacebookAI/xlm-roberta-base"
    assert "base_model:adapter:FacebookAI/xlm-roberta-base" in data.tags
    assert "(https://huggingface.co/FacebookAI/xlm-roberta-base)" in text
    recorded = saved(name="b", base=xlmr.describe() | {"id": "acme/mini", "revision": "abc"})
    text = card(recorded)
    assert ModelCard(text).data.base_model == "acme/mini" and text.count('revision="abc"') == 3
    with pytest.raises(UsageError, match="the manifest of 'b' has acme/mini"):
        card(recorded, base="FacebookAI/xlm-roberta-base")


@pytest.mark.parametrize("text", ["/models/xlmr", "../xlmr", "./x", "~/x", "a/b/c", "C:\\x", "", "a b", "a/b\n"])
def test_a_path_is_never_taken_for_a_hub_id(text: str, saved: Saved, xlmr: Backbone) -> None:
    folder = saved()
    for field in ("base", "repo"):
        if text or field == "base":
            with pytest.raises(UsageError, match=f"{field}: found") as caught:
                card(folder, **{field: text})
            assert "\n" not in str(caught.value)
    with pytest.raises((ArtifactError, UsageError), match=r"base.id of 'b'|base.id: found a control character"):
        card(saved(name="b", base=xlmr.describe() | {"id": text}))


def test_data_sets_are_named_only_where_they_are_hub_data_sets_of_a_shipped_task(saved: Saved) -> None:
    origins = [
        "hub dataset nyu-mll/glue (config mnli, split train)",
        "hub dataset /home/me/corpora/glue (split train)",
        "hub dataset mine/secret-set (split train)",
        "data index adapterxl-data.yaml, task mnli, split train, language en",
    ]
    text = card(saved(training={"data": origins}))
    assert ModelCard(text).data.datasets == ["nyu-mll/glue"] and "/home" not in text
    assert ModelCard(card(saved(name="b", training={"data": origins[1:]}))).data.datasets is None


def test_training_and_lineage_are_told(saved: Saved) -> None:
    training = {
        "method": "lora", "options": {"rank": 8, "sites": ["query", "key"]}, "rows": 4000, "seed": 3, "lr": 0.002,
        "settings": {"epochs": 2.0, "batch_size": 32}, "start_digest": "ab" * 32, "data_digests": {"x": "y"},
    }  # fmt: skip
    folder = saved("lora-sequence", name="udpos", training=training, composition="merge(nli, ner)", notes=("Odd.",))
    text = card(folder)
    facts = dict(table(text.replace("| | |\n", "| fact | |\n"), "| fact |")[1:])
    assert facts["rows"] == "4,000" and facts["learning rate"] == "0.002" and facts["seed"] == "3"
    assert facts["options"] == "rank 8; sites query key" and facts["settings"] == "epochs 2; batch_size 32"
    assert "A LoRA module for `udpos`" in text and "trained on top of `merge(nli, ner)`" in text
    module = load(folder)
    lineage = table(text, "| part |")[1:]
    assert [row[0] for row in lineage] == ["`nli`", "`ner`", "`pos`"]
    assert [row[4] for row in lineage] == [f"`{part.digest()[:12]}`" for part in module.parts]
    assert lineage[2][5] == "`nli`, `ner`" and lineage[0][5] == "–"
    assert f"(module digest `{'ab' * 6}`)" in text and "- Note: Odd." in text and f"`{module.digest()}`" in text


def test_limits_given_come_before_those_that_the_data_shows(saved: Saved, score: Score) -> None:
    folder = saved()
    text = card(folder, [score(folder, options={"limit": 20})], limits=["A toy."])
    limits = text[text.index("## Limits") :]
    assert limits.index("- A toy.") < limits.index("first 20 examples") and "one seed" in limits


# --- what does not belong together


def test_scores_of_another_module_are_refused(saved: Saved, score: Score) -> None:
    folder, other = saved("lora"), saved("bottleneck", name="other")
    with pytest.raises(UsageError, match=r"of module 'other' \(digest \w{12}, seed 1\), expected scores of 'pos'"):
        card(folder, [score(other)])
    with pytest.raises(UsageError, match="no digest"):
        card(folder, [score(folder, module={"digest": None})])


def test_scores_of_another_seed_alone_are_refused(saved: Saved, score: Score) -> None:
    folder = saved()
    with pytest.raises(UsageError, match="seed 2.*or of another seed of it beside its own"):
        card(folder, [score(folder, seed=2, module={"digest": "f" * 64})])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"module": {"digest": "f" * 64}, "seed": 1}, "expected scores of 'pos'"),
        ({"module": {"digest": "f" * 64, "name": "pos_2"}}, "of module 'pos_2'"),
        ({"module": {"digest": "f" * 64, "composition": "merge(qa)"}}, "expected scores of 'pos'"),
        ({"module": {"digest": "f" * 64, "parameters": 999}}, "expected scores of 'pos'"),
        ({"module": {"digest": "f" * 64}, "options": {"limit": 10}}, "options: found"),
        ({"module": {"digest": "f" * 64}, "engine": "peft"}, "engine: found peft"),
        ({"module": {"digest": "f" * 64}, "values": {"en": 0.5, "de": 0.1}}, "expected_languages: found"),
        ({}, "a second evaluation of 'pos' in udpos"),
    ],
)
def test_scores_that_are_no_equal_seed_are_refused(
    changes: dict[str, Any], said: str, saved: Saved, score: Score
) -> None:
    folder = saved()
    with pytest.raises(UsageError, match=said) as caught:
        card(folder, [score(folder), score(folder, **{"seed": 2} | changes)])
    assert "\n" not in str(caught.value)


def test_one_seed_given_twice_is_refused(saved: Saved, score: Score) -> None:
    folder = saved()
    again = [score(folder, seed=2, module={"digest": letter * 64}) for letter in "ef"]
    with pytest.raises(UsageError, match="seed 2 in udpos is there already"):
        card(folder, [score(folder), *again])


def test_scores_on_another_base_are_refused(saved: Saved, score: Score) -> None:
    folder = saved()
    with pytest.raises(BackboneError, match="fingerprint eeeeeeeeeeee, expected the base of 'pos': tiny-xlmr"):
        card(folder, [score(folder, base={"fingerprint": "e" * 64})])


def test_a_folder_that_is_no_whole_module_is_refused(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, said in ((tmp_path / "absent", "No module folder"), (tmp_path / "empty", "not a module folder")):
        with pytest.raises(ArtifactError, match=said):
            write_card(folder)
    assert list((tmp_path / "empty").iterdir()) == []
    folder = saved()
    (folder / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ArtifactError, match="found 3 bytes"):
        write_card(folder)
    assert not (folder / "README.md").exists()


def test_an_unknown_kind_or_licence_is_refused(saved: Saved) -> None:
    folder = saved("lora", "")
    edit_manifest(folder, lambda manifest: manifest.update(kind="poetry"))
    with pytest.raises(ArtifactError, match="kind: found 'poetry'"):
        card(folder)
    with pytest.raises(UsageError, match="licence: found 'my own!'"):
        card(saved(name="b"), licence="my own!")


def test_a_scores_file_that_cannot_be_read_is_refused(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        card(saved(), [tmp_path / "absent.json"])


# --- the same inputs, the same bytes


def test_the_same_inputs_give_the_same_bytes_wherever_and_however_they_lie(
    saved: Saved, score: Score, tmp_path: Path
) -> None:
    folder = saved("stack")
    scores = score(folder)
    text = card(folder, [scores], licence="mit")
    shutil.copytree(folder, tmp_path / "far" / "away")
    path = scores.save(tmp_path / "far" / "scores.json")
    assert card(tmp_path / "far" / "away", [path], licence="mit") == text
    for word in (str(tmp_path), os.uname().nodename, "202"):
        assert word not in re.sub(r"[0-9a-f]{12,}|https://\S+", "", text)
    code = "import sys; from adapterxl.hub import write_card; write_card(sys.argv[1], [sys.argv[2]], licence='mit')"
    done = subprocess.run(
        [sys.executable, "-c", code, "away", "scores.json"],
        cwd=tmp_path / "far",
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "far" / "away" / "README.md").read_bytes() == text.encode()


def test_a_card_is_written_whole_and_may_be_drawn_again(
    saved: Saved, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved()
    before = sorted(path.name for path in folder.iterdir())
    assert write_card(folder) == folder / "README.md"
    first = (folder / "README.md").read_bytes()

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", failing)
        with pytest.raises(AdapterXLError, match="No space left"):
            write_card(folder, [score(folder)])
    assert (folder / "README.md").read_bytes() == first
    write_card(folder, [score(folder)])
    assert "Not evaluated" not in (folder / "README.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "README.md"])


@pytest.mark.parametrize("layout", ["lora", "stack"])
def test_a_card_in_the_folder_changes_nothing_for_load_inspect_and_verify(
    layout: str, saved: Saved, xlmr: Backbone, tmp_path: Path
) -> None:
    folder = saved(layout)
    digest, told = load(folder).digest(), inspect(folder)
    write_card(folder)
    assert load(folder).digest() == digest and inspect(folder) == told
    assert verify(folder, on=xlmr, against=LAYOUTS[layout]).passed
    load(folder).save(folder, overwrite=True)
    assert not (folder / "README.md").exists()  # a card of other weights must not outlive them
