"""A run that was interrupted and goes on gives the very module of a run that was not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from adapterxl import LoRA, TaskModule
from adapterxl.backbone import Backbone
from adapterxl.errors import TrainingError, UsageError
from adapterxl.training import together as together_module
from adapterxl.training.loop import Loop
from adapterxl.training.together import Together

Fit = Callable[..., TaskModule]
SETTINGS = {"max_steps": 9, "eval_every": 2, "patience": 3, "checkpoint_every": 4}


@contextmanager
def interrupted(owner: Any, name: str, at: int, *, after: bool = False) -> Iterator[None]:
    """Let the `at`-th call (from 1) raise KeyboardInterrupt, before or after its work."""
    original, count = getattr(owner, name), 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and not after:
            raise KeyboardInterrupt
        result = original(*arguments, **options)
        if count == at:
            raise KeyboardInterrupt
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        with pytest.raises(KeyboardInterrupt):
            yield


def log_of(folder: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [(line["step"], line.get("loss"), line.get("dev_score"), line.get("lr")) for line in lines]


@pytest.mark.parametrize(
    ("owner", "name", "at", "after", "accumulation"),
    [
        (Together, "_one_step", 1, False, 1),
        (Together, "_one_step", 6, False, 1),
        (Together, "_one_step", 6, False, 3),
        (together_module, "hidden_together", 7, True, 1),  # its dropout masks are drawn, its step is not done
        (together_module, "hidden_together", 14, True, 3),
        (Loop, "score_dev", 2, False, 1),  # the step is done, its dev score not looked at
        (Loop, "score_dev", 2, True, 1),
        (Loop, "_log", 5, True, 1),
    ],
    ids=["at once", "between steps", "between steps-3", "inside a step", "inside a step-3", "before the dev score",
         "after it", "after a log line"],
)  # fmt: skip
def test_an_interrupted_run_ends_bit_equal(
    owner: Any, name: str, at: int, after: bool, accumulation: int, fit: Fit, tmp_path: Path
) -> None:
    settings = SETTINGS | {"accumulation": accumulation}
    whole = fit(settings=settings, out=tmp_path / "whole")
    with interrupted(owner, name, at, after=after):
        fit(settings=settings, out=tmp_path / "cut")
    assert not (tmp_path / "cut").exists() and (tmp_path / "cut.run").is_dir()
    again = fit(settings=settings, out=tmp_path / "cut", resume=True)
    assert again.digest() == whole.digest()
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    assert not (tmp_path / "cut.run").exists()
    for key in ("steps", "tokens", "dev_score", "stopped_early", "best_step"):
        assert again.training[key] == whole.training[key], key


def test_an_interruption_while_weights_change_goes_back_to_the_last_checkpoint(fit: Fit, tmp_path: Path) -> None:
    whole = fit(settings=SETTINGS, out=tmp_path / "whole")
    with interrupted(import_module("torch").optim.AdamW, "step", 7, after=True):
        fit(settings=SETTINGS, out=tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut.run/checkpoints").iterdir()] == ["step-4"]
    assert fit(settings=SETTINGS, out=tmp_path / "cut", resume=True).digest() == whole.digest()


def test_a_resumed_run_without_any_checkpoint_starts_anew_and_says_so(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fit(settings=SETTINGS, out=tmp_path / "whole")
    (tmp_path / "cut.run").mkdir()
    (tmp_path / "cut.run" / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    capsys.readouterr()
    assert fit(settings=SETTINGS, out=tmp_path / "cut", resume=True).digest() == whole.digest()
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    assert capsys.readouterr().err.count("cut.run: no state to go on from is there") == 1


@pytest.fixture
def cut(fit: Fit, tmp_path: Path) -> Path:
    with interrupted(Together, "_one_step", 6):
        fit(settings=SETTINGS, out=tmp_path / "cut")
    return tmp_path / "cut"


@pytest.mark.parametrize(
    ("other", "named", "may"),
    [
        ({"settings": SETTINGS | {"lr": 0.02}}, "lr was 0.01, is 0.02", True),
        ({"settings": SETTINGS | {"batch_size": 4, "seed": 2}}, "batch_size was 8, is 4; seed was 1, is 2", True),
        ({"method": LoRA(rank=3)}, "rank was 2, is 3", False),
        ({"task": "panx"}, "task was udpos, is panx. Give", False),
        ({"limit": 20}, "rows was [0-9]+, is 20", True),
        ({"engine": "peft"}, "engine was packed, is peft", False),
    ],
    ids=["lr", "batch size and seed", "rank", "task", "limit", "engine"],
)
def test_a_run_of_other_settings_or_data_is_refused_with_the_fields_that_differ(
    other: dict[str, Any], named: str, may: bool, cut: Path, fit: Fit
) -> None:
    given = {"settings": SETTINGS} | other
    with pytest.raises(TrainingError, match=f"was started otherwise: .*{named}.*--overwrite") as refused:
        fit(**given, out=cut, resume=True)
    assert ("--override" in str(refused.value)) == may and not cut.exists()
    if not may:
        with pytest.raises(TrainingError, match=named):
            fit(**given, out=cut, resume=True, override=True)


def test_an_overridden_run_goes_on_and_its_manifest_says_so(cut: Path, fit: Fit) -> None:
    other = {"settings": SETTINGS | {"lr": 0.02, "batch_size": 4, "accumulation": 2}, "out": cut, "resume": True}
    with interrupted(Together, "_one_step", 2):  # steps on from 5, keeps state 6
        fit(**other, override=True)
    module = fit(**other)  # the newest state is of this request now
    assert module.training["overridden"] == [
        {"step": 5, "changed": "batch_size was 8, is 4; lr was 0.01, is 0.02; accumulation was 1, is 2"}
    ]
    assert module.training["steps"] == 9 and module.training["settings"]["lr"] == 0.02


def test_changed_training_rows_are_noticed(fit: Fit, tmp_path: Path, on: Backbone) -> None:
    from samples import write_data

    mine = write_data(tmp_path / "data")
    with interrupted(Together, "_one_step", 3):
        fit(settings=SETTINGS, out=tmp_path / "cut", data=mine)
    path = mine / "udpos/train-en.conllu"
    path.write_text(path.read_text().replace("fox", "ox"))
    with pytest.raises(TrainingError, match="otherwise: data .*train-en.conllu is another. Give"):
        fit(settings=SETTINGS, out=tmp_path / "cut", data=mine, resume=True)


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
def test_cut_checkpoints_are_refused_where_none_is_whole(file: str, cut: Path, fit: Fit) -> None:
    for step in (4, 5):
        path = cut.with_name("cut.run") / f"checkpoints/step-{step}" / file
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TrainingError, match="no checkpoint there is whole"):
        fit(settings=SETTINGS, out=cut, resume=True)


def test_overwrite_forgets_an_unfinished_run(cut: Path, fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Go on with --resume, or start anew with --overwrite"):
        fit(settings=SETTINGS, out=cut)
    whole = fit(settings=SETTINGS, out=tmp_path / "whole")
    assert fit(settings=SETTINGS, out=cut, overwrite=True).digest() == whole.digest()
