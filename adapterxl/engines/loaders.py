"""Load a module folder with the vanilla library alone: a live PeftModel or AutoAdapterModel, its head with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..artifacts import TaskModule, adapterhub_layout
from ..backbone import Backbone
from ..errors import EngineError
from .vanilla import quiet

_PEFT_CLASSES = {
    "classify": "AutoModelForSequenceClassification",
    "tag": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "choice": "AutoModelForMultipleChoice",
}


def peft_model(module: TaskModule, folder: Path, on: Backbone) -> Any:
    """A PeftModel over Hugging Face's own class for the head's kind, in eval mode."""
    import peft
    import transformers

    _refuse_bits(on)
    head = module.head
    name = "AutoModel" if head is None else _PEFT_CLASSES[head.kind]
    extra: dict[str, Any] = {"add_pooling_layer": False} if head is None else {}
    if head is not None and head.labels:
        extra["num_labels"] = len(head.labels)
    with quiet():
        model = getattr(transformers, name).from_pretrained(on.folder, torch_dtype=on.dtype, **extra)
        return peft.PeftModel.from_pretrained(model, folder).to(on.device).eval()


def adapters_model(module: TaskModule, folder: Path, on: Backbone) -> Any:
    """An AutoAdapterModel with the folder's adapters active, in eval mode."""
    import adapters
    import transformers

    _refuse_bits(on)
    with quiet():
        model = adapters.AutoAdapterModel.from_pretrained(on.folder, torch_dtype=on.dtype)
        if (folder / adapterhub_layout.SETUP).is_file():
            setup, _ = model.load_adapter_setup(str(folder), use_safetensors=True)
            model.set_active_adapters(setup)
        else:
            info: dict[str, Any] = {}
            name = model.load_adapter(str(folder), use_safetensors=True, loading_info=info)
            # The library says of either only in its log.
            if info.get("missing_keys") or info.get("unexpected_keys"):
                raise EngineError(f"{folder}: the adapters library does not find, or know, all of its weights: {info}.")
            model.set_active_adapters(name)
        if module.head is None:
            model.active_head = None  # a base with an LM head, as published, would otherwise answer with it
        assert isinstance(model, transformers.PreTrainedModel)
        return model.to(on.dtype).to(on.device).eval()


def _refuse_bits(on: Backbone) -> None:
    if on.bits:
        raise EngineError(
            f"The backbone is in {on.bits} bits, but a vanilla model is loaded in full precision; give a Backbone "
            "without bits."
        )
