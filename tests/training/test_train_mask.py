"""A module of plain text: trained with the backbone's own head, it keeps none, and is a start for target tasks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SENTENCES
from transformers import XLMRobertaForMaskedLM

from adapterxl import LoRA, Settings, TaskModule, evaluate, load, mix, train
from adapterxl.backbone import Backbone
from adapterxl.cli import main
from adapterxl.data.examples import TextExample
from adapterxl.data.prepare import prepare
from adapterxl.errors import CompositionError, UsageError
from adapterxl.training.together import Together
from adapterxl.training.train import plan

Fit = Callable[..., TaskModule]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text("\n\n".join(SENTENCES), encoding="utf-8")
    (tmp_path / "my_text.yaml").write_text(
        "name: words\nkind: mask\nreader: lines\ntrain: {de: [text.txt]}\ntest: {de: [text.txt], fr: [text.txt]}\n"
        "source_language: de\n",
        encoding="utf-8",
    )
    return tmp_path / "my_text.yaml"


def test_a_module_of_plain_text_has_no_head_and_starts_a_target_task(fit: Fit, text: Path, tmp_path: Path) -> None:
    fit(text, out=tmp_path / "words", data=None)
    module = load(tmp_path / "words")
    assert (module.task, module.kind, module.head, module.heads) == ("words", "mask", None, {})
    assert module.training["parameters"] == module.size() == sum(part.size() for part in module.parts)
    above = fit(start=tmp_path / "words")
    assert [part.name for part in above.parts] == ["words", "udpos"] and above.kind == "tag"
    assert above.parts[0].digest() == module.parts[0].digest()


def test_training_lowers_the_loss_of_masked_tokens(fit: Fit, text: Path, tmp_path: Path) -> None:
    text.with_name("text.txt").write_text("the dog and the dog and the dog and the dog\n" * 40)
    settings = {"max_steps": 40, "batch_size": 16}
    fit(text, settings=settings, method=LoRA(rank=8), out=tmp_path / "words", data=None)
    log = (tmp_path / "words" / "training_log.jsonl").read_text().splitlines()
    losses = [found["loss"] for line in log if "loss" in (found := json.loads(line))]
    assert sum(losses[-10:]) < 0.93 * sum(losses[:5]) * 2


def test_what_is_scored_is_hugging_faces_best_token_at_each_masked_place(
    text: Path, tmp_path: Path, on: Backbone
) -> None:
    scores = evaluate(None, on=on, task=text, out=tmp_path / "none.json", progress=False)
    assert {(r.language, r.metric, r.n) for r in scores.records} == {
        (language, "masked_accuracy", len(SENTENCES)) for language in ("de", "fr")
    }
    stock = XLMRobertaForMaskedLM.from_pretrained(on.folder).eval()
    items = prepare("mask", [TextExample("1", "de", text) for text in SENTENCES], on.tokenizer, 256).items
    lines = [json.loads(line) for line in (tmp_path / "none.predictions.jsonl").read_text("utf-8").splitlines()]
    for item, line in zip(items, lines, strict=False):
        best = stock(torch.tensor(item.rows)).logits[0, item.positions].argmax(1).tolist()
        assert line["prediction"] == on.tokenizer.convert_ids_to_tokens(best)
        assert line["gold"] == on.tokenizer.convert_ids_to_tokens(item.target)


def test_a_run_that_is_taken_up_again_draws_the_same_masks(
    fit: Fit, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_steps": 4, "checkpoint_every": 2}
    whole = fit(text, settings=settings, data=None)
    other = fit(text, settings=settings | {"seed": 2}, data=None)
    assert whole.digest() != other.digest()
    step = Together._one_step

    def stopped(self: Together) -> None:
        if self.loops[0].step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Together, "_one_step", stopped)
        fit(text, settings=settings, data=None, out=tmp_path / "cut")
    assert fit(text, settings=settings, data=None, out=tmp_path / "cut", resume=True).digest() == whole.digest()


def test_a_run_is_not_gone_on_with_another_head_for_masked_tokens(
    fit: Fit, text: Path, tiny_xlmr: Path, tmp_path: Path
) -> None:
    """The fingerprint of a backbone is that of its encoder."""
    folder = Path(shutil.copytree(tiny_xlmr, tmp_path / "base"))
    fit(text, on=Backbone(folder, device="cpu"), data=None, out=tmp_path / "words")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.bias"] = tensors["lm_head.bias"] + 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    other = Backbone(folder, device="cpu")
    assert other.fingerprint == load(tmp_path / "words").base["fingerprint"]
    with pytest.raises(UsageError, match="holds a module of other data, settings or base"):
        fit(text, on=other, data=None, out=tmp_path / "words", resume=True)


def test_trained_together_it_is_what_it_is_alone(still: Path, text: Path, data: Path) -> None:
    on = Backbone(still, dtype="fp64", device="cpu")
    given: Any = {"on": on, "method": LoRA(rank=2), "settings": Settings(max_steps=3, batch_size=8), "progress": False}
    both: Any = train({"words": {"task": text}, "pos": {"task": "udpos"}}, data=data, **given)
    alone: Any = train(text, data=data, **given)
    for name, tensor in alone.parts[0].tensors().items():
        assert torch.allclose(both["words"].parts[0].tensors()[name], tensor, atol=1e-9)
    assert both["words"].head is None and both["pos"].head is not None


def test_a_plan_and_a_given_memory_count_the_head(text: Path, tiny_xlmr: Path, capsys: Any) -> None:
    on = Backbone(tiny_xlmr, device="cpu", load=False)
    settings = Settings(max_steps=2, batch_size=8, memory="1GB")
    rows = plan(text, on=on, method=LoRA(rank=2), settings=settings, start=None, engine="packed", data=None,
                train_from=None, train_languages=None, limit=None).table()  # fmt: skip
    assert ", 0 in the head" in dict(rows)["trained weights"]
    assert "plan for 1GB: fp32" in capsys.readouterr().err


def test_what_goes_not_with_plain_text_is_refused_in_one_line(
    fit: Fit, text: Path, tmp_path: Path, on: Backbone
) -> None:
    with pytest.raises(UsageError, match=r"--method none trains the head alone, but plain text \(words\)"):
        fit(text, method=None, data=None)
    with pytest.raises(UsageError, match=r"--method none trains the head alone, but plain text \(words\)"):
        fit(mix("udpos", str(text)), method=None)
    with pytest.raises(UsageError, match="Trunk cache: masks are drawn anew"):
        fit(text, settings={"trunk_cache": "fp32"}, method=LoRA(rank=2, layers=(2,)), data=None)
    fit(text, out=tmp_path / "words", data=None)
    with pytest.raises(
        CompositionError, match="'words' has no head for udpos. Train one: adapterxl train udpos --start"
    ):
        evaluate(tmp_path / "words", on=on, task="udpos", progress=False)


def test_the_commands_train_score_inspect_and_report_it(text: Path, tmp_path: Path, capsys: Any) -> None:
    out, scores = tmp_path / "out", tmp_path / "scores.json"
    assert main(["train", str(text), "--max-steps", "2", "--out", str(out)]) == 0
    assert main(["evaluate", str(out), "--task", str(text), "--out", str(scores)]) == 0
    assert main(["evaluate", "none", "--task", str(text), "--out", str(tmp_path / "none.json")]) == 0
    assert main(["report", str(scores), str(tmp_path / "none.json"), "--out", str(tmp_path / "report.html")]) == 0
    assert main(["inspect", str(out)]) == 0
    assert "words (mask)" in capsys.readouterr().out
