"""The shipped backbone: small, a real XLM-R, and able to carry what is learned in English into other languages."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, XLMRobertaForMaskedLM

from adapterxl import Backbone, Settings, evaluate, train
from adapterxl.data.resolve import resolve_task
from adapterxl.evaluation.scores import language_values
from adapterxl.miniature import BACKBONE
from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.text import story
from adapterxl.miniature.world import World


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return Backbone(device="cpu")


def test_the_default_backbone_is_the_one_in_the_package_and_fits_into_3_mb(mini):
    assert mini.folder == BACKBONE.resolve()
    assert (BACKBONE / "model.safetensors").stat().st_size <= 3_000_000
    assert json.loads((BACKBONE / "config.json").read_text())["model_type"] == "xlm-roberta"
    with safe_open(BACKBONE / "model.safetensors", "pt") as weights:
        assert all(torch.isfinite(weights.get_tensor(name)).all() for name in weights.keys())


def test_the_tokenizer_knows_every_letter_of_the_world_and_splits_some_words(mini):
    pieces = words = 0
    for number in range(100):
        told, again = story(World(f"tokenizer {number}", ("test",)), 4)
        for code, language in LANGUAGES.items():
            for line in (*told, *again):
                said = [word.text for word in line.words(language)]
                ids = mini.tokenizer(said, is_split_into_words=True, add_special_tokens=False)["input_ids"]
                assert mini.tokenizer.unk_token_id not in ids, (code, said)
                if language.spaced:
                    pieces, words = pieces + len(ids), words + len(said)
    assert words * 1.02 < pieces < words * 2


def test_masked_words_come_back_in_the_right_language():
    tokenizer = AutoTokenizer.from_pretrained(BACKBONE)
    model = XLMRobertaForMaskedLM.from_pretrained(BACKBONE, dtype=torch.float32).eval()
    for code, language in LANGUAGES.items():
        space = " " if language.spaced else ""
        stories = [story(World(f"masked {n}", ("train", "dev")), 3) for n in range(120)]
        texts = [space.join(language.text(line.words(language)) for line in (*a, *b)) for a, b in stories]
        rows = tokenizer(texts)["input_ids"]
        known = {piece for row in rows for piece in row}
        draw = random.Random(code)
        right = inside = 0
        for row in rows:
            place = draw.randrange(len(row) // 2, len(row) - 1)  # said again: it can be known
            truth, row[place] = row[place], tokenizer.mask_token_id
            with torch.inference_mode():
                guess = int(model(torch.tensor([row])).logits[0, place].argmax())
            right, inside = right + (guess == truth), inside + (guess in known)
        assert right >= 60 and inside >= 114, (code, right, inside)


@pytest.mark.parametrize(
    ("task", "metric", "margin"), [("mini_xpos", "token_accuracy", 0.3), ("mini_xner", "span_f1", 0.3)]
)
def test_a_fresh_linear_probe_transfers_far_above_chance(mini, task, metric, margin):
    probe = train(task, on=mini, settings=Settings(epochs=5, batch_size=32), progress=False)
    scores = evaluate(probe, on=mini, task=task, limit=150)
    values = language_values(scores.records)[metric]
    facts, source = resolve_task(task, None)
    for code in LANGUAGES:
        chance = 0.0  # a tagger that knows nothing finds no span
        if metric == "token_accuracy":
            tags = Counter(tag for one in source.load(facts, "test", code).examples for tag in one.tags)
            chance = max(tags.values()) / tags.total()
        assert values[code] > chance + margin, (code, values[code], chance)


def test_translations_are_found_without_training(mini):
    scores = evaluate(None, on=mini, task="mini_bitext", center=True)
    assert scores.zero_shot_mean["retrieval_accuracy"] > 0.3  # chance is 1 in 300
