"""Folders as vanilla peft and adapters write them, and what the vanilla model that wrote one answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from samples import rows, scores

from adapterxl.artifacts import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.engines.vanilla import quiet
from adapterxl.engines.verify import _run

HF_CLASSES = {
    "classify": "AutoModelForSequenceClassification",
    "tag": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "choice": "AutoModelForMultipleChoice",
    "": "AutoModel",
}
TASK_TYPES = {"classify": "SEQ_CLS", "tag": "TOKEN_CLS", "span": "QUESTION_ANS"}
_NEW = ("lora", "ia3_l", "adapters", "adapter_fusion", "classifier", "qa_outputs", "heads", "modules_to_save")


def randomise(model: Any, seed: int = 3) -> Any:
    """Noise on every weight that is not the backbone's, so that nothing forgotten goes unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(mark in name for mark in _NEW) and "original_module" not in name and "base_layer" not in name:
                noise = torch.randn(weight.shape, generator=generator)
                weight.mul_(1 + 0.3 * noise) if "magnitude" in name else weight.add_(0.2 * noise)
    return model.eval()


def hugging_face(on: Backbone, kind: str) -> Any:
    """Hugging Face's own class for a kind of task over the backbone."""
    import transformers

    extra: dict[str, Any] = {"num_labels": 3} if kind in ("classify", "tag") else {}
    with quiet():
        return getattr(transformers, HF_CLASSES[kind]).from_pretrained(
            on.folder, **(extra if kind else {"add_pooling_layer": False})
        )


def peft_model(on: Backbone, config: Any, kind: str = "tag") -> Any:
    """A vanilla PeftModel with random weights."""
    import peft

    return randomise(peft.get_peft_model(hugging_face(on, kind), config))


def adapter_model(on: Backbone, adapters_: dict[str, Any], kind: str = "", stack: bool = True) -> Any:
    """A vanilla AutoAdapterModel with adapters of these configs stacked, and a head of a kind named as the last."""
    import adapters
    import adapters.composition as ac

    with quiet():
        model = adapters.AutoAdapterModel.from_pretrained(on.folder)
        for name, config in adapters_.items():
            model.add_adapter(name, config=config)
        last = list(adapters_)[-1]
        if kind == "classify":
            model.add_classification_head(last, num_labels=3)
        elif kind == "tag":
            model.add_tagging_head(last, num_labels=3, id2label={0: "c", 1: "a", 2: "b"})
        elif kind == "span":
            model.add_qa_head(last)
        elif kind == "choice":
            model.add_multiple_choice_head(last)
        model.set_active_adapters(ac.Stack(*adapters_) if len(adapters_) > 1 else last)
        if not kind:
            model.active_head = None
    return randomise(model)


@torch.no_grad()
def difference(on: Backbone, module: TaskModule, model: Any) -> float:
    """Between a vanilla model's answers and the module's, relative to the largest."""
    tokens = rows(on)
    ours, theirs = scores(on, module, tokens), _run(model, module, on, tokens)
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def edit_json(path: Path, **changes: Any) -> None:
    """Set fields of a JSON file; `...` takes one out."""
    found = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        found.pop(key, None)
        if value is not ...:
            found[key] = value
    path.write_text(json.dumps(found), encoding="utf-8")


def edit_tensors(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a file."""
    found = load_file(path)
    edit(found)
    save_file({key: value.contiguous() for key, value in found.items()}, path, metadata={"format": "pt"})


def first(tensors: dict[str, torch.Tensor], *marks: str) -> str:
    """The first key that holds all marks."""
    return next(key for key in sorted(tensors) if all(mark in key for mark in marks))
