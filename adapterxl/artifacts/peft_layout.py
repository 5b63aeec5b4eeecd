"""The PEFT folder: how LoRA, DoRA and IA3 parts and a head are laid out so that vanilla `peft` gets them right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..errors import ArtifactError, UsageError
from ..modules.base import SITES
from ..modules.ia3 import IA3Part
from ..modules.lora import Key, LoRAPart

Stored = Callable[[str], Tensor]
"""Name of an encoder tensor -> the tensor as the backbone's files hold it."""

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = {"xlm-roberta": "roberta", "bert": "bert"}
_TASK_TYPES = {"classify": "SEQ_CLS", "tag": "TOKEN_CLS", "span": "QUESTION_ANS"}
_PATHS = {path: site for site, path in SITES.items()}
_MAGNITUDE = "lora_magnitude_vector"


def config(part: LoRAPart, base: Mapping[str, Any], head_kind: str | None, head_keys: list[str]) -> dict[str, Any]:
    """adapter_config.json for one LoRA or DoRA (folded: alpha = rank) and an optional head.

    The modules are named one by one: PEFT matches names by their end, and the bare ``output.dense`` would
    also hit the attention's.
    """
    names = {f"layer.{layer}.{SITES[site]}": part.rank(layer, site) for layer, site in part.keys}
    rank = Counter(names.values()).most_common(1)[0][0]
    others = {name: found for name, found in names.items() if found != rank}
    return _common("LORA", base, head_kind, head_keys) | {
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": part.rescales,
        "target_modules": sorted(names),
        "rank_pattern": others,
        "alpha_pattern": others,
    }


def ia3_config(part: IA3Part, base: Mapping[str, Any], head_kind: str | None, head_keys: list[str]) -> dict[str, Any]:
    """adapter_config.json for an IA3 that scales outputs, and an optional head."""
    return _common("IA3", base, head_kind, head_keys) | {
        "target_modules": sorted(f"layer.{layer}.{SITES[site]}" for layer, site in part.keys),
        "feedforward_modules": [],
        "init_ia3_weights": True,
    }


def _common(peft_type: str, base: Mapping[str, Any], head_kind: str | None, head_keys: list[str]) -> dict[str, Any]:
    return {
        "peft_type": peft_type,
        "task_type": _TASK_TYPES.get(head_kind or ""),
        "base_model_name_or_path": base["id"],
        "revision": base["revision"],
        "inference_mode": True,
        "fan_in_fan_out": False,
        "modules_to_save": sorted({key.split(".")[0] for key in head_keys}) or None,
    }


def tensors(part: LoRAPart, model_type: str, with_head: bool, stored: Stored | None = None) -> dict[str, Tensor]:
    """LoRA weights under PEFT's keys; of a DoRA also the magnitudes, for which the backbone's weights are needed.

    Raises:
        UsageError: If they are needed and not given.
    """
    named = {}
    for layer, site in part.keys:
        found, where = part.factors(layer, site), f"{_root(model_type, with_head)}layer.{layer}.{SITES[site]}"
        assert found is not None
        for letter, tensor in zip("AB", found, strict=True):
            named[f"{where}.lora_{letter}.weight"] = tensor.detach()
        if part.rescales:
            if stored is None:
                raise UsageError(
                    f"'{part.name}' is a DoRA: its folder holds the lengths of the backbone's weight rows. Give the "
                    "backbone: save(..., on=backbone), or --base on the command line."
                )
            weight = stored(f"encoder.layer.{layer}.{SITES[site]}.weight").double()
            length = (weight + found[1].detach().double() @ found[0].detach().double()).norm(dim=1)
            rows = part.row_scale(layer, site)
            named[f"{where}.{_MAGNITUDE}"] = (length if rows is None else length * rows.detach()).to(found[0].dtype)
    return named


def ia3_tensors(part: IA3Part, model_type: str, with_head: bool) -> dict[str, Tensor]:
    """IA3 weights under PEFT's keys."""
    root = _root(model_type, with_head)
    return {
        f"{root}layer.{layer}.{SITES[site]}.ia3_l": rows.detach()[:, None]
        for layer, site in part.keys
        if (rows := part.row_scale(layer, site)) is not None
    }


def head_key(name: str, model_type: str) -> str:
    """PEFT's key of a head weight; the pooler belongs to the encoder in Hugging Face's classes."""
    inner = f"{PREFIX[model_type]}.{name}" if name.startswith("pooler.") else name
    return f"base_model.model.{inner}"


def parse(found: Mapping[str, Tensor], model_type: str, with_head: bool, where: str) -> LoRAPart:
    """The LoRA of a PEFT file written by `tensors`; every key must be one of its forms.

    Magnitudes of a DoRA are a copy for vanilla peft, made from the rows that our own file holds: they are left out.
    """
    factors: dict[Key, dict[str, Tensor]] = {}
    for key, tensor in found.items():
        place, weight = _place(key, model_type, with_head, where)
        if weight not in ("lora_A.weight", "lora_B.weight", _MAGNITUDE):
            raise ArtifactError(f"{where}: tensor {key} has no place in a LoRA on {model_type}.")
        factors.setdefault(place, {})[weight[5]] = tensor
    for (layer, site), pair in factors.items():
        if not set(pair) >= {"A", "B"}:
            raise ArtifactError(f"{where}: layer {layer}, {site}: found only lora_{''.join(pair)}, expected A and B.")
    return LoRAPart("part", {key: (pair["A"], pair["B"]) for key, pair in factors.items()})


def parse_ia3(found: Mapping[str, Tensor], model_type: str, with_head: bool, where: str) -> IA3Part:
    """The IA3 of a PEFT file written by `ia3_tensors`; every key must be of its form."""
    scales: dict[Key, Tensor] = {}
    for key, tensor in found.items():
        place, weight = _place(key, model_type, with_head, where)
        if weight != "ia3_l" or tensor.ndim != 2 or tensor.shape[1] != 1:
            raise ArtifactError(f"{where}: tensor {key} of shape {tuple(tensor.shape)} has no place in an IA3 that "
                                f"scales outputs on {model_type}.")  # fmt: skip
        scales[place] = tensor[:, 0]
    return IA3Part("part", scales)


def _place(key: str, model_type: str, with_head: bool, where: str) -> tuple[Key, str]:
    """Layer, site and weight of a key."""
    root = f"{_root(model_type, with_head)}layer."
    layer, _, rest = key.removeprefix(root).partition(".")
    path = next((path for path in _PATHS if rest.startswith(f"{path}.")), None)
    if not key.startswith(root) or not layer.isdigit() or path is None:
        raise ArtifactError(f"{where}: tensor {key} has no place in a module on {model_type}.")
    return (int(layer), _PATHS[path]), rest.removeprefix(f"{path}.")


def _root(model_type: str, with_head: bool) -> str:
    # A LoRA without a head is one for the bare encoder (AutoModel), whose names have no prefix.
    return f"base_model.model.{PREFIX[model_type]}.encoder." if with_head else "base_model.model.encoder."
