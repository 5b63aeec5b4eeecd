"""The PEFT folder: how LoRA parts and a head are laid out so that vanilla `peft` loads them and gets them right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import ArtifactError
from ..modules.base import SITES
from ..modules.lora import LoRAPart

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = {"xlm-roberta": "roberta", "bert": "bert"}
_TASK_TYPES = {"classify": "SEQ_CLS", "tag": "TOKEN_CLS", "span": "QUESTION_ANS"}
_PATHS = {path: site for site, path in SITES.items()}


def config(part: LoRAPart, base: Mapping[str, Any], head_kind: str | None, head_keys: list[str]) -> dict[str, Any]:
    """adapter_config.json for one LoRA (folded: alpha = rank) and an optional head.

    The modules are named one by one: PEFT matches names by their end, and the bare ``output.dense`` would
    also hit the attention's.
    """
    names = {f"layer.{layer}.{SITES[site]}": part.rank(layer, site) for layer, site in part.keys}
    rank = Counter(names.values()).most_common(1)[0][0]
    others = {name: found for name, found in names.items() if found != rank}
    return {
        "peft_type": "LORA",
        "task_type": _TASK_TYPES.get(head_kind or ""),
        "base_model_name_or_path": base["id"],
        "revision": base["revision"],
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "target_modules": sorted(names),
        "rank_pattern": others,
        "alpha_pattern": others,
        "modules_to_save": sorted({key.split(".")[0] for key in head_keys}) or None,
    }


def tensors(part: LoRAPart, model_type: str, with_head: bool) -> dict[str, Tensor]:
    """LoRA weights under PEFT's keys."""
    named = {}
    for layer, site in part.keys:
        found = part.factors(layer, site)
        assert found is not None
        for letter, tensor in zip("AB", found, strict=True):
            named[f"{_root(model_type, with_head)}layer.{layer}.{SITES[site]}.lora_{letter}.weight"] = tensor.detach()
    return named


def head_key(name: str, model_type: str) -> str:
    """PEFT's key of a head weight; the pooler belongs to the encoder in Hugging Face's classes."""
    inner = f"{PREFIX[model_type]}.{name}" if name.startswith("pooler.") else name
    return f"base_model.model.{inner}"


def parse(found: Mapping[str, Tensor], model_type: str, with_head: bool, where: str) -> LoRAPart:
    """The LoRA of a PEFT file written by `tensors`; every key must be one of its forms."""
    root = f"{_root(model_type, with_head)}layer."
    factors: dict[tuple[int, str], dict[str, Tensor]] = {}
    for key, tensor in found.items():
        layer, _, rest = key.removeprefix(root).partition(".")
        path, _, letter = rest.removesuffix(".weight").rpartition(".lora_")
        if not key.startswith(root) or not layer.isdigit() or path not in _PATHS or letter not in ("A", "B"):
            raise ArtifactError(f"{where}: tensor {key} has no place in a LoRA on {model_type}.")
        factors.setdefault((int(layer), _PATHS[path]), {})[letter] = tensor
    for (layer_index, site), pair in factors.items():
        if set(pair) != {"A", "B"}:
            raise ArtifactError(
                f"{where}: layer {layer_index}, {site}: found only lora_{''.join(pair)}, expected A and B."
            )
    return LoRAPart("part", {key: (pair["A"], pair["B"]) for key, pair in factors.items()})


def _root(model_type: str, with_head: bool) -> str:
    # A LoRA without a head is one for the bare encoder (AutoModel), whose names have no prefix.
    return f"base_model.model.{PREFIX[model_type]}.encoder." if with_head else "base_model.model.encoder."
