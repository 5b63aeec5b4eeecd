"""Steps that cannot be made: numbers that are not finite are named, and batches that are too large are cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cutting import Cut, cut, distance

from adapterxl import LoRA
from adapterxl.backbone import Backbone
from adapterxl.errors import TrainingError
from adapterxl.training import together as together_module
from adapterxl.training.loop import Loop
from adapterxl.training.together import Together

Fit = Callable[..., Any]
Patch = pytest.MonkeyPatch
SHORT = {"max_steps": 6, "checkpoint_every": 2}


@pytest.mark.parametrize("looks", ["every step", "late"])
def test_a_gradient_that_is_not_finite_names_its_step_and_tensor(
    looks: str, stopped: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    if looks == "late":  # as on a GPU
        monkeypatch.setattr(Together, "_looks", lambda self: any(loop.must_look() for loop in self.live))
        monkeypatch.setattr(Loop, "must_look", lambda self: self.step + 1 >= 5)
    judge = Loop.judge

    def broken(self: Loop) -> None:
        if self.step == 2:
            names = list(self.parameters)
            for name in names[:2]:
                gradient = self.parameters[name].grad
                assert gradient is not None
                gradient.view(-1)[0] = float("inf")
            found.append(names[1])
        judge(self)

    found: list[str] = []
    monkeypatch.setattr(Loop, "judge", broken)
    with pytest.raises(TrainingError) as stopped_at:
        stopped[2](tmp_path / "out")
    said = str(stopped_at.value)
    assert said.startswith(f"Step 3: the gradient of {found[0]} is inf (2 of "), said
    assert "at a loss of" in said and "The state before it is kept" in said
    assert "step-2" in [path.name for path in (tmp_path / "out.run/checkpoints").iterdir()]
    assert not (tmp_path / "out").exists()


def short_memory(patch: Patch, most: int, error: Exception | None = None) -> list[int]:
    """A device that holds so many rows at once; gives the rows of each try."""
    forward, rows = together_module.hidden_together, list[int]()

    def limited(engines: Any, batches: Any) -> Any:
        rows.append(sum(len(batch.lengths) for batch in batches))
        if rows[-1] > most:
            raise error or torch.OutOfMemoryError("CUDA out of memory.")
        return forward(engines, batches)

    patch.setattr(together_module, "hidden_together", limited)
    return rows


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("[enforce fail] can't allocate memory: 9")]
)
def test_out_of_memory_is_told_with_the_flags_that_need_half(
    error: Exception, stopped: Any, tmp_path: Path, monkeypatch: Patch
) -> None:
    with (
        cut(after=3, how=lambda: short_memory(monkeypatch, 4, error) and None),
        pytest.raises(
            TrainingError,
            match=r"Step 4: out of memory for 8 rows of up to [0-9]+ tokens; the peak was [0-9.]+ GB. Give --resume "
            r"--halve-on-oom, .*, or --resume --override --batch-size 4 --accumulation 2\.",
        ),
    ):
        stopped[2](tmp_path / "out")
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "out.run/checkpoints").iterdir()} == {"step-2", "step-3"}
    assert stopped[2](tmp_path / "out", resume=True).digest() == stopped[1].digest()


def test_batches_cut_for_memory_give_the_same_module_from_whichever_step(
    fit: Fit, still: Path, tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"on": Backbone(still, dtype="fp64", device="cpu"), "method": LoRA(rank=2)}
    settings = SHORT | {"halve_on_oom": True, "accumulation": 2}
    plain = fit(**given, settings=settings)
    with monkeypatch.context() as patch:
        rows = short_memory(patch, 3)
        begun_so = fit(**given, settings=settings)
    assert begun_so.training["pieces"] == {"1": 4} and max(rows[3:]) <= 3
    with cut(after=3, how=lambda: short_memory(monkeypatch, 3) and None):
        later = fit(**given, settings=settings, out=tmp_path / "out")
    assert later.training["pieces"] == {"4": 4}
    assert "Step 4: out of memory for 4 rows of up to" in capsys.readouterr().err
    for module in (begun_so, later):
        assert distance(module, plain) <= 1e-8
        for key in ("steps", "tokens", "rows"):
            assert module.training[key] == plain.training[key]
    log = [json.loads(line) for line in (tmp_path / "out/training_log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["pieces"]) for line in log if "pieces" in line] == [(4, 2), (4, 4)]


def test_a_run_with_cut_batches_goes_on_bit_equal(fit: Fit, tmp_path: Path, monkeypatch: Patch) -> None:
    short_memory(monkeypatch, 4)
    settings = SHORT | {"halve_on_oom": True}
    whole = fit(settings=settings)
    with cut(after=5), pytest.raises(Cut):
        fit(settings=settings, out=tmp_path / "out")
    again = fit(settings=settings, out=tmp_path / "out", resume=True)
    assert again.digest() == whole.digest() and again.training["pieces"] == {"1": 2}


def test_a_single_row_that_is_too_much_says_so(fit: Fit, monkeypatch: Patch) -> None:
    short_memory(monkeypatch, 0)
    with pytest.raises(TrainingError, match="A single row was too much: give --checkpointing"):
        fit(settings=SHORT | {"halve_on_oom": True})
