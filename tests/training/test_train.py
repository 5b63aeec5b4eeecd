"""What `train` promises: dev rows apart, frozen parts untouched, no module from a broken run, any engine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import rows, scores

from adapterxl import Bottleneck, LoRA, Settings, TaskModule, evaluate, load, merge, train
from adapterxl.backbone import Backbone
from adapterxl.errors import ArtifactError, BackboneError, TaskError, TrainingError, UsageError
from adapterxl.modules import METHODS
from adapterxl.training import loop as loop_module
from adapterxl.training import plan
from adapterxl.training.job import prepare_job

Fit = Callable[..., TaskModule]
train_module: Any = import_module("adapterxl.training.train")


def prepared(task: str, on: Backbone, data: Path, **settings: Any) -> Any:
    """What `train` finds out before it runs a model."""
    return prepare_job(
        task, on=on, method=None, settings=Settings(**settings), start=None, engine="packed", data=data,
        train_from=None, train_languages=None, limit=None, name=None, progress=False,
    )  # fmt: skip


@pytest.mark.parametrize("task", ["udpos", "panx", "mnli", "xnli", "tydiqa", "copa"])
def test_dev_rows_are_never_training_rows(task: str, on: Backbone, data: Path) -> None:
    for seed in (1, 2):
        job = prepared(task, on, data, seed=seed)
        trained, dev = {row.id for row in job.rows.examples}, {row.id for row in job.dev}
        assert dev and trained and not dev & trained


@pytest.mark.parametrize(("task", "held_out"), [("udpos", False), ("panx", True), ("tydiqa", True), ("copa", True)])
def test_a_dev_split_that_results_are_reported_on_is_never_looked_at(
    task: str, held_out: bool, on: Backbone, data: Path
) -> None:
    job = prepared(task, on, data)
    read = {Path(name).stem.split("-")[0] for name in job.digests}
    assert read == ({"train"} if held_out else {"train", "dev"})
    assert len(job.dev) == (round(0.05 * (len(job.dev) + len(job.rows.examples))) if held_out else 20)


def test_early_stopping_without_dev_rows_is_refused(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("good\tyes\nbad\tno\n")
    (tmp_path / "my_task.yaml").write_text(USER_TASK.partition("dev:")[0])
    with pytest.raises(UsageError, match="patience and eval_every need dev rows"):
        fit(tmp_path / "my_task.yaml", settings={"patience": 2}, data=None)


def test_patience_keeps_the_best_state(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    given, states = iter([0.5, 0.9, 0.8, 0.9, 0.7, 0.0]), []

    def score(engine: Any, *_: Any) -> float:
        states.append(engine.export().digest())
        return next(given)

    monkeypatch.setattr(train_module, "score_source", score)
    module = fit(settings={"max_steps": 20, "eval_every": 2, "patience": 3})
    assert len(states) == 6 and len(set(states)) == 5  # the last call is of the state that was kept
    assert module.parts[0].digest() == states[1] == states[5]
    assert module.training["best_step"] == 4 and module.training["steps"] == 10 and module.training["stopped_early"]


@pytest.mark.parametrize("break_by", ["loss", "rate"])
def test_a_loss_that_is_not_finite_stops_the_run_and_writes_no_module(
    break_by: str, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"max_steps": 8}
    whole = fit(settings=settings)
    calls, losses = [], loop_module.row_losses

    def broken(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return losses(*arguments) * (math.nan if len(calls) == 5 else 1)

    with monkeypatch.context() as patch:
        if break_by == "loss":
            patch.setattr(loop_module, "row_losses", broken)
        else:
            settings["lr"] = 1e30
        with pytest.raises(TrainingError, match="Step [25]: the .* is .*no module is written.*a lower --lr"):
            fit(settings=settings, out=tmp_path / "m")
    assert not (tmp_path / "m").exists()
    kept = [path.name for path in (tmp_path / "m.run/checkpoints").iterdir()]
    assert kept == ["step-4" if break_by == "loss" else "step-1"]
    if break_by == "loss":  # what was kept is the good state before that step
        assert fit(settings=settings, out=tmp_path / "m", resume=True).digest() == whole.digest()


def test_what_a_run_starts_from_stays_bit_for_bit(fit: Fit, on: Backbone, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in on.model.state_dict().items()}
    nli = fit("mnli", out=tmp_path / "nli")
    ner = fit("panx", start=merge(tmp_path / "nli"), method=LoRA(rank=3, sites=("query",)), out=tmp_path / "ner")
    for engine in ("packed", "peft"):
        pos = fit(start=merge(nli, tmp_path / "ner"), out=tmp_path / engine, engine=engine)
        assert [part.name for part in pos.parts] == ["mnli", "panx", "udpos"]
        assert [part.digest() for part in pos.parts[:2]] == [part.digest() for part in ner.parts]
        assert pos.parts[2].trained_on == (ner.parts[0].digest(), ner.parts[1].digest())
        assert load(tmp_path / engine).digest() == pos.digest()
        assert pos.composition == "merge(mnli, panx)"  # names, not folders
        assert str(tmp_path) not in (tmp_path / engine / "adapterxl.json").read_text()
    assert ner.parts[0].digest() == nli.parts[0].digest() and ner.parts[1].trained_on == (nli.parts[0].digest(),)
    head_only = fit(start=ner, method=None)
    assert [part.digest() for part in head_only.parts] == [part.digest() for part in ner.parts]
    mixed = fit(start=ner, method=Bottleneck(reduction=8))
    assert [part.digest() for part in mixed.parts[:2]] == [part.digest() for part in ner.parts]
    assert all(torch.equal(before[name], tensor) for name, tensor in on.model.state_dict().items())


@pytest.mark.parametrize(
    ("method", "engines"),
    [
        (LoRA(rank=2, sites=("query", "key", "value", "ffn_up", "ffn_down")), ("packed", "peft", "adapters")),
        (LoRA(rank=2, alpha=1), ("packed", "peft")),
        (Bottleneck(reduction=8), ("packed", "adapters")),
        (Bottleneck(variant="double_seq_bn"), ("packed", "adapters")),
        (Bottleneck(variant="par_bn", layers=(1, 2)), ("packed", "adapters")),
    ],
)
def test_all_engines_train_the_same_module(
    method: Any, engines: tuple[str, ...], still: Path, fit: Fit, tmp_path: Path
) -> None:
    on = Backbone(still, dtype="fp64", device="cpu")
    modules = {engine: fit(on=on, method=method, engine=engine, out=tmp_path / engine) for engine in engines}
    first = modules["packed"]
    for engine, module in modules.items():
        for name, tensor in module.parts[0].tensors().items():
            ours = first.parts[0].tensors()[name]
            assert float((tensor - ours).norm()) <= 1e-8 * float(ours.norm()), (engine, name)
        assert first.head is not None and module.head is not None
        for name, tensor in module.head.tensors.items():
            assert float((tensor - first.head.tensors[name]).norm()) <= 1e-8 * float(tensor.norm()), (engine, name)
    tokens = rows(on)
    expected = scores(on, first, tokens)
    for engine in engines:
        for other in engines:
            found = scores(on, load(tmp_path / other), tokens, engine)
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_the_log_has_a_line_each_step_with_its_figures(fit: Fit, tmp_path: Path) -> None:
    module = fit(settings={"max_steps": 6, "eval_every": 3}, out=tmp_path / "m")
    lines = [json.loads(line) for line in (tmp_path / "m" / "training_log.jsonl").read_text().splitlines()]
    steps, scored = [line for line in lines if "loss" in line], [line for line in lines if "dev_score" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6] and [line["step"] for line in scored] == [3, 6]
    for line in steps:
        assert line["loss"] > 0 and line["tokens_per_second"] > 0 and 0 < line["fill"] <= 1
        assert line["peak_memory_bytes"] > 0 and line["grad_norm"] > 0
        assert line["lr"] == pytest.approx(Settings(max_steps=6).rate_at(line["step"] - 1, 6, 0.01))
    assert steps[-1]["epoch"] == pytest.approx(6 / 8, abs=1e-3)
    assert module.training["dev_score"] == pytest.approx(scored[-1]["dev_score"], abs=1e-6)


def test_training_learns(fit: Fit) -> None:
    module = fit(settings={"max_steps": 50})
    # F1 of runs of equal tags, of five tags; a word has always the same one. Untrained it is 0.1 to 0.2.
    assert module.training["dev_score"] > 0.4


@pytest.mark.parametrize(
    "settings", [{"epochs": 1.5, "tokens_per_batch": 64}, {"epochs": 2, "batch_size": 7, "accumulation": 2}]
)
@pytest.mark.parametrize("method", [LoRA(rank=2), Bottleneck(), None])
def test_a_plan_has_the_steps_and_weights_of_the_training(
    method: Any, settings: dict[str, Any], on: Backbone, data: Path
) -> None:
    chosen = Settings(**settings)
    told = dict(plan("udpos", on=on, method=method, settings=chosen, start=None, engine="packed", data=data,
                     train_from=None, train_languages=None, limit=None, progress=False).table())  # fmt: skip
    module = train("udpos", on=on, method=method, settings=chosen, data=data, progress=False)
    assert isinstance(module, TaskModule) and module.head is not None
    head = sum(tensor.numel() for tensor in module.head.tensors.values())
    assert told["steps"].startswith(f"{module.training['steps']} of")
    assert told["trained weights"] == f"{sum(p.size() for p in module.parts):,} in the module, {head:,} in the head"
    assert module.training["parameters"] == sum(p.size() for p in module.parts) + head


def test_several_tasks_give_a_module_each(fit: Fit, tmp_path: Path) -> None:
    modules: Any = fit(["udpos", "mnli"], out=tmp_path / "all")
    assert list(modules) == ["udpos", "mnli"]
    assert all(load(tmp_path / "all" / name).digest() == module.digest() for name, module in modules.items())
    by_turns: Any = fit(["udpos", "mnli"], engine="peft")
    assert by_turns["udpos"].digest() == fit(engine="peft").digest()
    with pytest.raises(ArtifactError, match="mnli: already holds a module"):
        fit(["copa", "mnli"], out=tmp_path / "all")
    assert not (tmp_path / "all" / "copa").exists()  # found out before the first was trained
    with pytest.raises(UsageError, match="'udpos' is named twice"):
        fit(["udpos", "udpos"])


USER_TASK = """\
name: mood
kind: classify
labels: ["yes", "no"]
reader: tsv
columns: {text: 0, label: 1}
train: {en: [rows.tsv]}
dev: {en: [dev.tsv]}
test: {en: [dev.tsv], de: [dev.tsv]}
"""


def test_a_users_own_task_is_trained_and_evaluated(fit: Fit, on: Backbone, tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("good dog\tyes\nbad cat\tno\n" * 30)
    (tmp_path / "dev.tsv").write_text("good dog\tyes\nbad cat\tno\n")
    (tmp_path / "my_task.yaml").write_text(USER_TASK)
    task = tmp_path / "my_task.yaml"
    module = fit(task, data=None, settings={"max_steps": 30}, out=tmp_path / "m", name="my-mood")
    assert module.name == "my-mood" and module.task == "mood" and module.head and module.head.labels == ("yes", "no")
    found = evaluate(tmp_path / "m", on=on, task=task, progress=False)
    assert [(r.language, r.value) for r in found.records] == [("en", 1.0), ("de", 1.0)] and not found.partial
    (tmp_path / "my_task.yaml").write_text(USER_TASK.replace('["yes", "no"]', '["no", "yes"]'))
    with pytest.raises(TaskError, match="labels"):
        evaluate(tmp_path / "m", on=on, task=task, progress=False)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"task": "udpo"}, TaskError, "Did you mean 'udpos'"),
        ({"task": "tatoeba"}, TaskError, "evaluated, not trained"),
        ({"task": "xquad"}, TaskError, "--train-from"),
        ({"task": "squad"}, TaskError, "no training rows"),
        ({"train_from": "mnli"}, TaskError, "do not fit udpos"),
        ({"train_languages": ["fr"]}, TaskError, "No training rows of udpos in 'fr'"),
        ({"name": "Bad Name"}, UsageError, "lower-case"),
        ({"method": LoRA(layers=(0, 7))}, UsageError, "layers 0 to 2"),
        ({"method": LoRA(rank=99)}, UsageError, "rank 99"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(
    arguments: dict[str, Any], error: type[Exception], said: str, fit: Fit, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        fit(**arguments, out=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_start_of_another_backbone_is_refused(fit: Fit, tiny_bert: Path) -> None:
    other = fit(on=Backbone(tiny_bert, device="cpu"), settings={"max_steps": 1})
    with pytest.raises(BackboneError, match="fingerprint"):
        fit(start=other)


@pytest.mark.parametrize("task", ["mnli", "tydiqa", "copa", "panx"])
@pytest.mark.parametrize("base", ["tiny_xlmr", "tiny_bert"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_kind_of_task_trains_on_both_architectures(
    task: str, base: str, method: str, fit: Fit, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    on = Backbone(request.getfixturevalue(base), device="cpu")
    module = fit(task, on=on, method=METHODS[method](), settings={"max_steps": 2}, out=tmp_path / "m")
    assert load(tmp_path / "m").digest() == module.digest()


def test_seeds_and_the_callers_random_state_are_apart(fit: Fit) -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    one = fit()
    assert torch.equal(torch.rand(2), expected)
    assert fit().digest() == one.digest() != fit(settings={"seed": 2}).digest()


def test_resume_keeps_finished_modules_of_the_same_request_only(fit: Fit, tmp_path: Path) -> None:
    first = fit("udpos", out=tmp_path / "both" / "udpos")
    both: Any = fit(["udpos", "panx"], out=tmp_path / "both", resume=True)
    assert both["udpos"].digest() == first.digest() and (tmp_path / "both/panx/adapterxl.json").is_file()
    with pytest.raises(UsageError, match="other data, settings or base"):
        fit("udpos", out=tmp_path / "both" / "udpos", resume=True, settings={"seed": 9})
    assert load(tmp_path / "both/udpos").digest() == first.digest()


def test_a_bottleneck_starts_the_same_training_from_memory_and_from_its_folder(fit: Fit, tmp_path: Path) -> None:
    below = fit(method=Bottleneck(reduction=8, dropout=0.4), out=tmp_path / "below")
    assert below.parts[0].dropout_p == 0.0
    assert fit("panx", start=below).digest() == fit("panx", start=tmp_path / "below").digest()


def test_rows_of_other_languages_are_never_dev_rows_and_none_is_read_twice(on: Backbone, data: Path) -> None:
    def job(languages: list[str]) -> Any:
        return prepare_job(
            "tydiqa", on=on, method=None, settings=Settings(), start=None, engine="packed", data=data,
            train_from=None, train_languages=languages, limit=None, name=None, progress=False,
        )  # fmt: skip

    once, twice = job(["en"]), job(["en", "en"])
    assert [row.id for row in once.rows.examples] == [row.id for row in twice.rows.examples]
    assert {row.language for row in once.dev} == {"en"}


def test_a_users_task_borrows_the_training_rows_of_a_known_one(fit: Fit, data: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("a dog runs\ta dog moves\tentailment\n")
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nkind: classify\nlabels: [entailment, neutral, contradiction]\ntrain_from: mnli\n"
        "reader: tsv\nheader: false\ncolumns: {text: 0, text_pair: 1, label: 2}\ndev: {de: [dev.tsv]}\n"
    )
    module = fit(tmp_path / "mine.yaml", data=data)
    assert module.name == "mine" and module.training["train_from"] == "mnli"
