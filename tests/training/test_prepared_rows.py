"""Training on rows that are kept: the same module bit for bit, tokenised once, dev rows once a training."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from adapterxl import TaskModule, mix
from adapterxl.data import row_cache
from adapterxl.data.items import MappedItems
from adapterxl.training.loop import Loop

Fit = Callable[..., TaskModule]
prepare_module: Any = import_module("adapterxl.data.prepare")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """How many texts the tokenizer is asked for; an empty cache, which keeps small sets too."""
    counts: list[int] = []
    encode = prepare_module._encode

    def counting(tokenizer: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        counts.append(len(inputs))
        return encode(tokenizer, inputs, *rest, **options)

    monkeypatch.setattr(prepare_module, "_encode", counting)
    monkeypatch.setattr(row_cache, "SMALL", 0)
    monkeypatch.setenv("ADAPTERXL_CACHE", str(tmp_path / "cache"))
    return counts


@pytest.mark.parametrize("task", ["udpos", "tydiqa", "copa", mix("mnli", "panx")])
def test_a_module_is_the_same_with_and_without_the_cache_and_a_second_training_prepares_nothing(
    task: Any, fit: Fit, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    begin = Loop.__init__

    def watching(self: Loop, engine: Any, streams: Any, *rest: Any, **options: Any) -> None:
        seen.extend(stream.items for stream in streams)
        begin(self, engine, streams, *rest, **options)

    monkeypatch.setattr(Loop, "__init__", watching)
    settings = {"eval_every": 2}
    kept = [fit(task, settings=settings).digest() for _ in range(2) if asked.clear() is None]
    assert not asked and seen and all(isinstance(items, MappedItems) for items in seen)
    seen.clear()
    monkeypatch.setenv(row_cache.LIMIT, "0")
    assert kept == [fit(task, settings=settings).digest()] * 2
    assert asked and all(isinstance(items, tuple) for items in seen)


def test_dev_rows_are_prepared_once_a_training_however_often_they_are_scored(
    fit: Fit, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(row_cache.LIMIT, "0")
    module = fit(settings={"eval_every": 1, "max_steps": 3})
    assert asked == [module.training["rows"], module.training["dev_rows"]]
