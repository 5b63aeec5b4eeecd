"""`to_peft` and `to_adapters`: a module as a live object of the vanilla library, with the same answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..artifacts import TaskModule, adapterhub_layout, adapterhub_lora, fusion_layout
from ..artifacts.encoding import unique_names
from ..artifacts.module import check_base
from ..backbone import Backbone
from ..errors import EngineError
from ..modules import BottleneckPart, IA3Part, LoRAPart, Part
from ..modules.lora import concatenate
from .loaders import adapters_model, peft_model


def to_peft(module: TaskModule, *, on: Backbone) -> Any:
    """A `peft.PeftModel` over Hugging Face's class for the head's kind (AutoModel without a head), in eval mode.

    Its one adapter, "default", holds all LoRA or DoRA parts with their ranks side by side; or one IA3.

    Raises:
        EngineError: For a part that peft has no form for, naming it and the alternative.
        BackboneError: If `on` is not the module's backbone.
    """
    check_base(module, on)
    _refuse_empty(module)
    for part in module.parts:
        if not isinstance(part, LoRAPart | IA3Part):
            other = "Use to_adapters" if isinstance(part, BottleneckPart) else "Only adapterxl runs it"
            raise EngineError(f"Part '{part.name}' is a {part.kind}, which peft has not. {other}.")
        if isinstance(part, IA3Part) and len(module.parts) > 1:
            raise EngineError(
                f"Part '{part.name}' is an IA3 with other parts beside it, which peft refuses in one model. Export it "
                "alone, or the others: replace(module, parts=...)."
            )
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "module"
        module.save(folder, on=on)
        return peft_model(module, folder, on)


def to_adapters(module: TaskModule, *, on: Backbone) -> Any:
    """An `adapters.AutoAdapterModel` with the module's adapters active and its head, in eval mode.

    LoRA parts become one adapter, their ranks side by side; where their ranks or sites differ by layer, zeros fill up.

    Raises:
        EngineError: For what adapters has no form for, or computes wrongly, naming the part and the alternative.
        BackboneError: If `on` is not the module's backbone.
    """
    check_base(module, on)
    _refuse_empty(module)
    if fusion_layout.is_hub(module.parts):  # whose folder is an AdapterHub setup as it is
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "module"
            module.save(folder, on=on)
            return adapters_model(module, folder, on)
    parts = _hub_parts(module)
    names = unique_names([part.name for part in parts])
    base, head = module.base, module.head
    sizes = adapterhub_lora.Sizes(on.hidden, on.intermediate, on.layers)
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        for part, name in zip(parts, names, strict=True):
            if isinstance(part, BottleneckPart):
                config = adapterhub_layout.config(part, name, base)
                tensors = adapterhub_layout.tensors(part, name, on.model_type)
            else:
                assert isinstance(part, LoRAPart | IA3Part)
                config = adapterhub_lora.config(part, name, base)
                tensors = adapterhub_lora.tensors(part, name, on.model_type, sizes)
            _write(root / name, adapterhub_layout.CONFIG, config, adapterhub_layout.WEIGHTS, tensors)
        if head is not None:
            choices = int(module.training.get("choices", 2))
            config = adapterhub_layout.head_config(head.kind, head.labels, names[-1], base, choices)
            tensors = {
                adapterhub_layout.head_key(key, head.kind, names[-1]): value for key, value in head.tensors.items()
            }
            _write(root / names[-1], adapterhub_layout.HEAD_CONFIG, config, adapterhub_layout.HEAD_WEIGHTS, tensors)
        if len(names) == 1:
            return adapters_model(module, root / names[0], on)
        setup = adapterhub_layout.setup(names, names[-1] if head else None)
        (root / adapterhub_layout.SETUP).write_text(json.dumps(setup), encoding="utf-8")
        return adapters_model(module, root, on)


def _hub_parts(module: TaskModule) -> list[Part]:
    """The parts as the library is to have them: bottlenecks, and at most one LoRA or IA3."""
    loras = [part for part in module.parts if isinstance(part, LoRAPart)]
    scaling = [part for part in module.parts if isinstance(part, IA3Part)]
    bottlenecks = [part for part in module.parts if isinstance(part, BottleneckPart)]
    for part in module.parts:
        if not isinstance(part, LoRAPart | IA3Part | BottleneckPart):
            raise EngineError(
                f"Part '{part.name}' is a fusion; to_adapters writes an AdapterFusion that is alone, no other. "
                "Only adapterxl runs it."
            )
        if isinstance(part, LoRAPart) and part.rescales:
            raise EngineError(f"Part '{part.name}' is a DoRA, which adapters computes wrongly. Use to_peft.")
        if isinstance(part, LoRAPart | IA3Part) and "attention_output" in part.sites:
            raise EngineError(
                f"Part '{part.name}' acts at attention_output, where adapters has no site. Use to_peft, or train with "
                "--sites query,key,value,ffn_up,ffn_down."
            )
        if isinstance(part, BottleneckPart) and part.variant == "par_bn" and len(bottlenecks) > 1:
            raise EngineError(
                f"Part '{part.name}' is a par_bn in a stack of bottlenecks, of which adapters runs only the last. Only "
                "adapterxl runs it."
            )
    if scaling and len(loras) + len(scaling) > 1:
        raise EngineError(
            f"Part '{scaling[0].name}' is an IA3 together with another IA3 or LoRA, which adapters does not run in "
            "sequence. Export it alone."
        )
    # LoRA and bottlenecks act at different places, so which comes first is all the same.
    joined: list[Part] = [concatenate(loras, loras[0].name)] if len(loras) > 1 else list(loras)
    return [*joined, *scaling, *bottlenecks]


def _refuse_empty(module: TaskModule) -> None:
    if not module.parts:
        raise EngineError(f"'{module.name}' is a head alone; there is nothing to put into a vanilla library.")


def _write(folder: Path, config: str, fields: Mapping[str, Any], weights: str, tensors: Mapping[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config).write_text(json.dumps(fields), encoding="utf-8")
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, folder / weights)


__all__ = ["to_adapters", "to_peft"]
