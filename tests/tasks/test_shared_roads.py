"""Tasks with real files: trained for a step where they have training rows, scored on a few rows of each language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterxl import LoRA, Settings, TaskModule, evaluate, train
from adapterxl.backbone import Backbone

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def on(shared: Path) -> Backbone:
    return Backbone(shared / "models/xlmr-mini", device="cpu")


def fit(task: str, on: Backbone, shared: Path, **more: Any) -> TaskModule:
    settings = Settings(max_steps=1, batch_size=8, max_length=64, dev_limit=4)
    return train(
        task, on=on, method=LoRA(rank=2), settings=settings, data=shared / "data", limit=8, progress=False, **more
    )


def score(module: TaskModule, task: str, on: Backbone, shared: Path, **more: Any) -> set[str]:
    """The languages of a result over three rows each."""
    scores = evaluate(module, on=on, task=task, data=shared / "data", limit=3, progress=False, **more)
    assert all(record.n == 3 for record in scores.records)
    return {record.language for record in scores.records}


def test_nusax_is_learned_in_english_and_scored_in_the_languages_at_hand(on, shared):
    module = fit("nusax", on, shared)
    assert module.training["train_from"] == "nusax"
    assert score(module, "nusax", on, shared) == {"en", "ace", "bjn", "id", "jv", "su"}


def test_a_question_answerer_is_scored_on_mlqa_and_afriqa_with_its_training_task_said_aloud(on, shared):
    module = fit("tydiqa", on, shared)
    said = {"train_from": "tydiqa"}
    assert score(module, "mlqa", on, shared, languages=["de", "de.en"], **said) == {"de", "en"}
    for task in ("afriqa", "afriqa_pivot"):
        assert score(module, task, on, shared, languages=["bem", "fon"], on_bad_row="drop", **said) == {"bem", "fon"}


def test_afriqa_learns_from_its_own_languages_on_request(on, shared):
    module = fit("afriqa", on, shared, train_languages=["hau", "ibo"], on_bad_row="drop")
    assert module.training["train_from"] == "afriqa"
    assert score(module, "afriqa", on, shared, languages=["swa"]) == {"swa"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "target", "languages"),
    [("conjnli", "conjnli", {"en"}), ("piqa", None, set()), ("mnli", "xnli", 15), ("cosmosqa", None, set()),
     ("codah", None, set()), ("copa", "xcopa", 11), ("udpos", "udpos", 20), ("panx", "panx", 20)],
)  # fmt: skip
def test_every_other_task_with_real_files_is_learned_and_scored(on, shared, task, target, languages):
    module = fit(task, on, shared)
    if target is not None:
        found = score(module, target, on, shared)
        assert found == languages or len(found) == languages


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "languages"),
    [("lareqa", ["de", "zh"]), ("xquad_passages", ["en", "th"]), ("mlqa_passages", ["de.en", "hi"]),
     ("tydiqa_passages", ["ko"])],
)  # fmt: skip
def test_questions_find_answers_and_passages_in_real_files(task, languages, on, shared):
    scores = evaluate(None, on=on, task=task, languages=languages, data=shared / "data", limit=50, progress=False)
    assert {record.n for record in scores.records} == {50}
    found = {record.language: record.value for record in scores.records if record.primary}
    assert set(found) == {key.partition(".")[2] or key for key in languages}
    assert all(value > 20 / 9751 / 2 for value in found.values()), "above chance, if weak"
