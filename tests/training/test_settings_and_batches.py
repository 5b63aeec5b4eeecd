"""Settings are checked, the schedule is linear, and batches hold every item once an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adapterxl.data.collate import epoch_batches
from adapterxl.errors import UsageError
from adapterxl.training import Settings
from adapterxl.training.batches import Batches, count_steps

LENGTHS = np.random.default_rng(5).integers(4, 60, size=2000).tolist()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 1, "max_steps": 5}, "epochs or max_steps, not both"),
        ({"batch_size": 8, "tokens_per_batch": 512}, "batch_size or tokens_per_batch, not both"),
        ({"epochs": 0}, "epochs"),
        ({"max_steps": 0}, "max_steps"),
        ({"lr": -1}, "lr: found -1"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": float("inf")}, "lr"),
        ({"warmup": 1.5}, "warmup"),
        ({"seed": -1}, "seed"),
        ({"accumulation": 0}, "accumulation"),
        ({"learning_rate": 1e-3}, "learning_rate"),
        ({"patience": 0}, "patience"),
        ({"epochs": "many"}, "epochs: found 'many'"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_with_its_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Settings(**values)
    assert "\n" not in str(caught.value)


def test_defaults_fill_what_was_left_out() -> None:
    settings = Settings()
    assert (settings.epochs, settings.batch_size) == (3.0, 32)
    assert settings.max_steps is None and settings.tokens_per_batch is None
    assert Settings(max_steps=5).epochs is None and Settings(tokens_per_batch=64).batch_size is None


def test_the_rate_rises_linearly_and_falls_to_zero_just_after_the_last_step() -> None:
    settings = Settings(warmup=0.2)
    rates = [settings.rate_at(step, 10, 1.0) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    assert Settings(warmup=0).rate_at(0, 10, 1.0) == 1.0
    assert Settings(warmup=1).rate_at(9, 10, 1.0) == 1.0
    assert Settings(lr=0.5).rate(1e-3, 192) == 0.5 and Settings().rate(1e-3, 192) == pytest.approx(4e-3)


@pytest.mark.parametrize("how", [{"batch_size": 7}, {"tokens_per_batch": 128}, {"tokens_per_batch": 16}])
def test_every_item_comes_exactly_once_an_epoch(how: dict[str, int]) -> None:
    for epoch in range(3):
        full = {"batch_size": None, "tokens_per_batch": None} | how
        batches = epoch_batches(LENGTHS, **full, seed=1, epoch=epoch)
        assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
        for batch in batches:
            tokens = sum(LENGTHS[i] for i in batch)
            assert len(batch) <= how.get("batch_size", len(batch))
            assert tokens <= how.get("tokens_per_batch", tokens) or len(batch) == 1


def test_the_seed_and_the_epoch_fix_the_order() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return epoch_batches(LENGTHS, batch_size=8, tokens_per_batch=None, seed=seed, epoch=epoch)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) and order(1, 0) != order(2, 0)


def test_items_of_a_batch_have_similar_lengths_and_batches_come_in_mixed_order() -> None:
    batches = epoch_batches(LENGTHS, batch_size=16, tokens_per_batch=None, seed=1, epoch=0)
    spread = np.mean([np.std([LENGTHS[i] for i in batch]) for batch in batches])
    assert spread < 0.1 * np.std(LENGTHS)
    means = [np.mean([LENGTHS[i] for i in batch]) for batch in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5


def test_epochs_that_differ_in_their_number_of_batches_are_all_whole() -> None:
    batches = Batches(LENGTHS, Settings(epochs=4, tokens_per_batch=64))
    assert len({len(batches.epoch(epoch)) for epoch in range(4)}) > 1  # the case in question
    steps = count_steps(batches, batches.settings)
    assert steps == batches.end(3) == sum(len(batches.epoch(epoch)) for epoch in range(4))
    seen = [i for number in range(steps) for i in batches[number]]
    for epoch in range(4):
        assert sorted(seen[epoch * len(LENGTHS) : (epoch + 1) * len(LENGTHS)]) == list(range(len(LENGTHS)))
    assert batches.epochs_before(steps) == 4.0 and batches.epochs_before(0) == 0.0


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"epochs": 1, "batch_size": 100}, 20),
        ({"epochs": 1.5, "batch_size": 100}, 30),
        ({"epochs": 0.25, "batch_size": 100}, 5),
        ({"epochs": 2, "batch_size": 100, "accumulation": 3}, 14),
        ({"epochs": 1e-6, "batch_size": 100}, 1),
        ({"max_steps": 7, "batch_size": 100, "accumulation": 3}, 7),
    ],
)
def test_steps_follow_from_epochs_and_accumulation(values: dict[str, Any], steps: int) -> None:
    settings = Settings(**values)
    assert count_steps(Batches(LENGTHS, settings), settings) == steps
