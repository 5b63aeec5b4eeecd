"""A training that reads its trunk from a cache gives the same module without dropout; else it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import norm_distance

from adapterxl import Backbone, LoRA, TaskModule, merge
from adapterxl.cli import main
from adapterxl.engines.trunk import TrunkCache
from adapterxl.errors import UsageError

Fit = Callable[..., TaskModule]
TOP = LoRA(rank=2, layers=(2,))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTERXL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trunk"


@pytest.mark.parametrize("task", ["copa", "tydiqa"])
def test_a_training_without_dropout_gives_the_same_module_with_the_cache(
    task: str, fit: Fit, still: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on, settings = Backbone(still, dtype="fp64", device="cpu"), {"max_steps": 12, "eval_every": 6, "patience": 5}
    computed: list[int] = []
    whole = TrunkCache._compute

    def counting(self: TrunkCache, rows: Any) -> torch.Tensor:
        computed.append(len(rows))
        return whole(self, rows)

    monkeypatch.setattr(TrunkCache, "_compute", counting)
    below = fit("mnli", on=on, settings=settings)
    for start in (None, merge(below)):
        options: dict[str, Any] = {"on": on, "method": TOP, "start": start}
        plain = fit(task, settings=settings, **options)
        cached = fit(task, settings=settings | {"trunk_cache": "fp64"}, **options)
        assert plain.head is not None and cached.head is not None
        for name, tensor in plain.parts[-1].tensors().items():
            assert norm_distance(cached.parts[-1].tensors()[name], tensor) < 1e-8
        for name, tensor in plain.head.tensors.items():
            assert norm_distance(cached.head.tensors[name], tensor) < 1e-8
        assert cached.training["dev_score"] == plain.training["dev_score"]
        assert cached.training["settings"]["trunk_cache"] == "fp64"
    once = sum(computed)
    fit(task, settings=settings | {"trunk_cache": "fp64"}, on=on, method=None)  # of a head alone: another layer
    assert sum(computed) == once + once // 2
    fit(task, settings=settings | {"trunk_cache": "fp64", "seed": 1, "lr": 0.1}, on=on, method=LoRA(layers=(2,)))
    assert sum(computed) == once + once // 2  # another module on the same rows
    assert len(list(cache.glob("*.safetensors"))) == 6  # training rows and dev rows, three times
    assert "dropout" not in capsys.readouterr().err


def test_a_backbone_with_dropout_is_told_what_the_cache_changes(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(method=TOP, settings={"trunk_cache": "bf16"})
    said = capsys.readouterr().err
    assert "layers 0 to 1 run without the backbone's dropout (0.1), so every epoch sees the same states" in said


def test_what_cannot_be_cached_is_refused_in_one_line(fit: Fit, cache: Path) -> None:
    with pytest.raises(UsageError, match="learns in layer 0"):
        fit(settings={"trunk_cache": "bf16"})
    with pytest.raises(UsageError, match="the peft engine has none; use --engine packed"):
        fit(method=TOP, settings={"trunk_cache": "bf16"}, engine="peft")
    with pytest.raises(UsageError, match="and --trunk-cache-limit is 1e-05 GB"):
        fit(method=TOP, settings={"trunk_cache": "bf16", "trunk_cache_limit": 1e-5})
    with pytest.raises(UsageError, match="trunk_cache: found 'fp16'"):
        fit(method=TOP, settings={"trunk_cache": "fp16"})
    assert not list(cache.glob("*.safetensors"))


def test_the_command_line_takes_the_cache(
    on: Backbone, data: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "udpos", "--base", str(on.folder), "--data", str(data), "--out", str(tmp_path / "m"),
               "--max-steps", "2", "--device", "cpu"]  # fmt: skip
    assert main([*command, "--trunk-cache", "fp16"]) == 1
    assert "--trunk-cache: 'fp16' is not one of bf16, fp32" in capsys.readouterr().err
    assert main([*command, "--layers", "2", "--trunk-cache", "bf16", "--trunk-cache-limit", "0.5"]) == 0
    assert len(list(cache.glob("*.safetensors"))) == 2
