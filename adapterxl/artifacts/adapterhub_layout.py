"""The AdapterHub folder: how bottleneck parts, stacks and heads are laid out so that vanilla `adapters` loads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..errors import ArtifactError
from ..modules.bottleneck import VARIANTS, BottleneckPart, from_tensors
from .peft_layout import PREFIX

CONFIG, WEIGHTS = "adapter_config.json", "adapter.safetensors"
HEAD_CONFIG, HEAD_WEIGHTS = "head_config.json", "model_head.safetensors"
SETUP = "adapter_setup.json"
_VERSION = "adapters.1.3.0"
_CLASSES = {"xlm-roberta": "XLMRobertaAdapterModel", "bert": "BertAdapterModel"}
_PLACES = {"attention": "attention.output", "ffn": "output"}
_WEIGHT_KEYS = {
    "down.weight": "adapter_down.0.weight",
    "down.bias": "adapter_down.0.bias",
    "up.weight": "adapter_up.weight",
    "up.bias": "adapter_up.bias",
}
_HEAD_TYPES = {
    "classify": "classification",
    "tag": "tagging",
    "span": "question_answering",
    "choice": "multiple_choice",
}


def config(part: BottleneckPart, name: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """adapter_config.json of one bottleneck adapter, every field of the library's BnConfig said."""
    variant = VARIANTS[part.variant]
    layers, hidden = range(base["layers"]), base["hidden_size"]
    return {
        "config": {
            "mh_adapter": "attention" in variant.places,
            "output_adapter": "ffn" in variant.places,
            # hidden // (hidden // width) gives the width back; a fraction could round down to one less.
            "reduction_factor": float(hidden // part.width),
            "non_linearity": variant.activation,
            "is_parallel": part.variant == "par_bn",
            "original_ln_before": part.variant == "seq_bn",
            "original_ln_after": True,
            "residual_before_ln": True,
            "adapter_residual_before_ln": False,
            "ln_before": False,
            "ln_after": False,
            "scaling": variant.scaling,
            "use_gating": False,
            "dropout": 0.0,
            "init_weights": "mam_adapter" if part.variant == "par_bn" else "bert",
            "inv_adapter": None,
            "inv_adapter_reduction_factor": None,
            "cross_adapter": False,
            "leave_out": [layer for layer in layers if layer not in part.layers],
            "phm_layer": False,
            "stochastic_depth": 0.0,
        }
    } | described(name, base)


def tensors(part: BottleneckPart, name: str, model_type: str) -> dict[str, Tensor]:
    """Weights under the library's keys; the adapter's name is part of them."""
    named = {}
    for key, tensor in part.tensors().items():
        layer, place, weight = key.split(".", 2)
        named[f"{root(model_type, layer, place)}.adapters.{name}.{_WEIGHT_KEYS[weight]}"] = tensor
    return named


def parse(found: Mapping[str, Tensor], name: str, variant: str, model_type: str, where: str) -> BottleneckPart:
    """The part of a file written by `tensors`; every key must be one of its forms, and every layer whole."""
    canonical: dict[str, Tensor] = {}
    weights = {theirs: ours for ours, theirs in _WEIGHT_KEYS.items()}
    start, middle = f"{PREFIX[model_type]}.encoder.layer.", f".adapters.{name}."
    for key, tensor in found.items():
        left, _, right = key.partition(middle)
        layer, _, path = left.removeprefix(start).partition(".")
        place = next((place for place, theirs in _PLACES.items() if theirs == path), None)
        if not key.startswith(start) or not layer.isdigit() or place is None or right not in weights:
            raise ArtifactError(f"{where}: tensor {key} has no place in a bottleneck adapter named '{name}'.")
        canonical[f"{layer}.{place}.{weights[right]}"] = tensor
    expected = {
        f"{layer}.{place}.{weight}"
        for layer in {key.split(".")[0] for key in canonical}
        for place in VARIANTS[variant].places
        for weight in _WEIGHT_KEYS
    }
    if set(canonical) != expected or not expected:
        odd = sorted(set(canonical) ^ expected)
        raise ArtifactError(f"{where}: {len(odd)} tensors missing or out of place, first: {odd[0] if odd else 'all'}.")
    return from_tensors(name, variant, canonical)


def head_config(kind: str, labels: Sequence[str], name: str, base: Mapping[str, Any], choices: int) -> dict[str, Any]:
    """head_config.json of the library's flexible head that computes the same."""
    two_layers = kind in ("classify", "choice")
    fields: dict[str, Any] = {
        "head_type": _HEAD_TYPES[kind],
        "layers": 2 if two_layers else 1,
        "activation_function": "tanh",
        "dropout_prob": None,
    }
    if kind == "choice":
        fields |= {"num_choices": choices, "use_pooler": False}
        labels = [f"LABEL_{i}" for i in range(choices)]
    else:
        fields["num_labels"] = len(labels) or 2
    if kind == "classify":
        fields |= {"use_pooler": False, "bias": True}
    names = labels or [f"LABEL_{i}" for i in range(2)]
    fields["label2id"] = {label: index for index, label in enumerate(names)}
    return {"config": fields} | described(name, base)


def head_key(name: str, kind: str, head_name: str) -> str:
    """The library's key of a head weight: a numbered layer of a sequential head."""
    module, end = name.rsplit(".", 1)
    if kind in ("classify", "choice"):
        number = 1 if module.endswith("dense") else 4
    else:
        number = 1
    return f"heads.{head_name}.{number}.{end}"


def setup(names: Sequence[str], head_name: str | None, kind: str = "Stack") -> dict[str, Any]:
    """adapter_setup.json of a stack, or of another composition of the library."""
    children = [{"type": "single", "children": [name]} for name in names]
    return {
        "adapter_setup": {"type": kind, "children": children},
        "head_setup": head_name,
        "version": _VERSION,
    }


def described(name: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """What every file of the library says of the backbone and of itself."""
    return {
        "hidden_size": base["hidden_size"],
        "model_class": _CLASSES[base["model_type"]],
        "model_name": base["id"] or "",
        "model_type": base["model_type"],
        "name": name,
        "version": _VERSION,
    }


def root(model_type: str, layer: str, place: str) -> str:
    """Where the library keeps the adapters of one block."""
    return f"{PREFIX[model_type]}.encoder.layer.{layer}.{_PLACES[place]}"
