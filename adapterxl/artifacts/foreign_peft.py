"""PEFT folders that other programs wrote, as parts: LoRA, rsLoRA, DoRA and output-scaling IA3, with a saved head."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from ..backbone import Backbone
from ..errors import ArtifactError
from ..modules import SITES, IA3Part, LoRAPart, Part
from ..modules.lora import Key, site_shape
from .foreign_files import Fields, ForeignFolder, check_shape, is_alpha, is_count, is_flag, nothing_left, short
from .foreign_heads import kind_of_class, plain_head
from .module import HeadState
from .peft_layout import CONFIG, PREFIX, WEIGHTS

_START = "base_model.model."
_KINDS = {"SEQ_CLS": "classify", "TOKEN_CLS": "tag", "QUESTION_ANS": "span", "FEATURE_EXTRACTION": None}
_PATHS = {path: site for site, path in SITES.items()}
# Modules of the heads that `all-linear` finds too, and that a saved head keeps from being wrapped.
_OF_HEADS = ("classifier", "classifier.dense", "classifier.out_proj", "qa_outputs")
# These inits leave the backbone's own weights alone; pissa, olora, corda and loftq take something out of them.
_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
_REGEX = set("*+?[](){}|^$\\")


def read_peft(
    folder: ForeignFolder, on: Backbone, kind: str | None, labels: Sequence[str] | None
) -> tuple[Part, HeadState | None]:
    """The part and the head of a PEFT folder.

    Raises:
        ArtifactError: For whatever would be computed otherwise than peft does, by field or tensor name.
    """
    fields = folder.fields(CONFIG)
    method = fields.get("peft_type", lambda v: v in ("LORA", "IA3"), 'one of "LORA", "IA3"')
    kind = _kind(fields) or kind
    fields.must("fan_in_fan_out", False, False)
    found = folder.tensors(WEIGHTS, "adapter_model.bin")
    where = str(folder.path / WEIGHTS)
    inner = {}
    for key in list(found):
        if not key.startswith(_START):
            raise ArtifactError(f"{where}: tensor {key}: found no '{_START}' before its name; it is no PEFT weight.")
        inner[key.removeprefix(_START)] = found.pop(key)
    prefix = f"{PREFIX[on.model_type]}." if any(key.startswith(f"{PREFIX[on.model_type]}.") for key in inner) else ""
    saved = _saved_modules(fields)
    head = plain_head(inner, kind, labels, on, where)
    owned = {name.split(".")[0] for name in (head.tensors if head else {})}
    absent = sorted(name for name in saved if name != "score" and name.split(".")[-1] not in owned)
    if absent:
        raise ArtifactError(f"{where}: modules_to_save names {absent[0]}, of which adapterxl finds no weights here.")
    weights = _by_place(inner, prefix, on)
    nothing_left(inner, where, f"a {method} module on {on.model_type}")
    _check_targets(fields, set(weights), prefix, on, saved)
    part = _lora(fields, weights, on, where) if method == "LORA" else _ia3(fields, weights, on, where)
    fields.ignore("peft_type", "task_type", "auto_mapping", "peft_version", "inference_mode", "lora_dropout",
                  "base_model_name_or_path", "revision", "init_ia3_weights", "megatron_core", "qalora_group_size",
                  "eva_config")  # fmt: skip
    fields.done()
    return part, head


def _lora(fields: Fields, weights: dict[Key, dict[str, Tensor]], on: Backbone, where: str) -> LoRAPart:
    rank = fields.get("r", is_count, "a whole number from 1")
    alpha = fields.get("lora_alpha", is_alpha, "a number above 0, at most 10000", 8)
    ranks = _pattern(fields, "rank_pattern", is_count, "a whole number from 1")
    alphas = _pattern(fields, "alpha_pattern", is_alpha, "a number above 0, at most 10000")
    stable = fields.get("use_rslora", is_flag, "true or false", False)
    dora = fields.get("use_dora", is_flag, "true or false", False)
    fields.must("bias", "none", "none", "; biases of the backbone stay as they are")
    fields.get("init_lora_weights", lambda v: v is None or v in _INITS,
               "true; another start takes something out of the backbone's own weights", True)  # fmt: skip
    factors: dict[Key, tuple[Tensor, Tensor]] = {}
    scales, rows = {}, {}
    for (layer, site), found in weights.items():
        name, (outputs, inputs) = f"layer.{layer}.{SITES[site]}", site_shape(site, on)
        wanted = {"lora_A.weight", "lora_B.weight"} | ({"lora_magnitude_vector"} if dora else set())
        odd = sorted(wanted ^ found.keys())
        if odd:
            what = "is missing" if odd[0] in wanted else "has no place: use_dora is false"
            raise ArtifactError(f"{where}: {name}: {odd[0]} {what}.")
        r = _matched(ranks, name, on, rank)
        check_shape(where, f"{name}.lora_A", a := found["lora_A.weight"], (r, inputs))
        check_shape(where, f"{name}.lora_B", b := found["lora_B.weight"], (outputs, r))
        scale = float(_matched(alphas, name, on, alpha)) / (math.sqrt(r) if stable else r)
        factors[layer, site], scales[layer, site] = (a, b), scale
        if dora:
            m = check_shape(where, f"{name}.lora_magnitude_vector", found["lora_magnitude_vector"], (outputs,))
            weight = on.stored(f"encoder.layer.{layer}.{SITES[site]}.weight").double()
            length = (weight + scale * b.double() @ a.double()).norm(dim=1)
            if bool((length == 0).any()):
                raise ArtifactError(f"{where}: {name}: a row of the weights is zero, so its length cannot be set.")
            rows[layer, site] = (m.double() / length).to(b.dtype)
    return LoRAPart("part", factors, scale=scales, rows=rows).folded()


def _ia3(fields: Fields, weights: dict[Key, dict[str, Tensor]], on: Backbone, where: str) -> IA3Part:
    inputs = _names(fields, "feedforward_modules", "a list of names")
    scales = {}
    for (layer, site), found in weights.items():
        name = f"layer.{layer}.{SITES[site]}"
        if set(found) != {"ia3_l"}:
            raise ArtifactError(f"{where}: {name}: found {', '.join(sorted(found))}, expected ia3_l.")
        scale = found["ia3_l"]
        if any(_hits(target, f"{PREFIX[on.model_type]}.encoder.{name}") for target in inputs):
            raise ArtifactError(
                f"{where}: {name} is one of feedforward_modules: its IA3 scales the inputs of a Linear. adapterxl has "
                "the form that scales outputs; train it with feedforward_modules=[]."
            )
        check_shape(where, f"{name}.ia3_l", scale, (site_shape(site, on)[0], 1))
        scales[layer, site] = scale[:, 0].clone()
    return IA3Part("part", scales)


def _by_place(inner: dict[str, Tensor], prefix: str, on: Backbone) -> dict[Key, dict[str, Tensor]]:
    """Take the weights of our sites out of `inner`: layer and site -> the rest of the name -> tensor."""
    places: dict[Key, dict[str, Tensor]] = {}
    start = f"{prefix}encoder.layer."
    for key in list(inner):
        layer, _, rest = key.removeprefix(start).partition(".")
        path = next((path for path in _PATHS if rest.startswith(f"{path}.")), "")
        end = rest.removeprefix(f"{path}.")
        if not (key.startswith(start) and _is_layer(layer, on) and path and end.startswith(("lora_", "ia3_"))):
            continue
        end = "lora_magnitude_vector" if end == "lora_magnitude_vector.weight" else end  # as some versions have it
        place = places.setdefault((int(layer), _PATHS[path]), {})
        if end not in place:
            place[end] = inner.pop(key)
    return places


def _check_targets(fields: Fields, there: set[Key], prefix: str, on: Backbone, saved: Sequence[str]) -> None:
    """The places that the config names are those that have weights. A text is a regex: the weights alone decide."""
    chosen = fields.get("layers_to_transform", _is_layers, "a layer, a list of layers or null")
    layers = set(range(on.layers)) if chosen in (None, []) else {chosen} if isinstance(chosen, int) else set(chosen)
    beyond = sorted(layers - set(range(on.layers)))
    if beyond:
        raise ArtifactError(
            f"{fields.where}: layers_to_transform: found {beyond[-1]}, this backbone has layers 0 to {on.layers - 1}."
        )
    fields.get("layers_pattern", lambda v: v in (None, [], "", "layer", ["layer"]), '"layer", or nothing')
    if not there:
        raise ArtifactError(f"{fields.where}: no weights for any of the sites {', '.join(SITES)}.")
    targets = fields.get("target_modules", lambda v: isinstance(v, str) or _is_names(v), "a list of names, or a text")
    excluded = fields.get(
        "exclude_modules", lambda v: v is None or isinstance(v, str) or _is_names(v), "a list of names"
    )
    if isinstance(targets, str) or isinstance(excluded, str):
        return
    hit: set[Key] = set()
    for target in targets:
        places = {
            (layer, site)
            for layer in range(on.layers)
            for site, path in SITES.items()
            if _hits(target, f"{prefix}encoder.layer.{layer}.{path}")
        }
        of_head = saved and any(_hits(target, name) for name in _OF_HEADS)
        if not places and not of_head:
            raise ArtifactError(
                f"{fields.where}: target_modules: {short(target)} is none of the places that adapterxl knows "
                f"({', '.join(SITES.values())} in layers 0 to {on.layers - 1})."
            )
        hit |= {place for place in places if place[0] in layers}
    hit = {p for p in hit if not any(_hits(e, f"{prefix}encoder.layer.{p[0]}.{SITES[p[1]]}") for e in excluded or ())}
    odd = sorted(hit ^ there)
    if odd:
        layer, site = odd[0]
        what = "no weights for it here" if odd[0] in hit else "weights for it, which target_modules does not name"
        raise ArtifactError(f"{fields.where}: layer {layer}, {site}: found {what}.")


def _kind(fields: Fields) -> str | None:
    """The kind of task that the config says, by task_type or by the class that it names."""
    said = fields.get("task_type", lambda v: v is None or v in _KINDS, f"one of {', '.join(_KINDS)}")
    mapping = fields.get("auto_mapping", lambda v: v is None or isinstance(v, dict), "an object")
    return _KINDS[said] if said else kind_of_class((mapping or {}).get("base_model_class"))


def _saved_modules(fields: Fields) -> list[str]:
    return _names(fields, "modules_to_save", "a list of names")


def _names(fields: Fields, name: str, expected: str) -> list[str]:
    return fields.get(name, lambda value: value is None or value == [] or _is_names(value), expected) or []


def _pattern(fields: Fields, name: str, fits: Callable[[Any], bool], expected: str) -> dict[str, Any]:
    """A rank_pattern or alpha_pattern; its keys are ends of names, and never a regex."""
    found: dict[str, Any] = fields.get(name, lambda v: v is None or isinstance(v, dict), "an object") or {}
    for key, value in found.items():
        if not fits(value):
            raise ArtifactError(f"{fields.where}: {name}: {key}: found {short(value)}, expected {expected}.")
        if _REGEX & set(key):
            raise ArtifactError(
                f"{fields.where}: {name}: {short(key)} is a regular expression; write the names of modules."
            )
    return found


def _matched(pattern: dict[str, Any], name: str, on: Backbone, otherwise: Any) -> Any:
    """The first entry whose key is the end of a module's full name, as peft takes it."""
    full = f"{PREFIX[on.model_type]}.encoder.{name}"
    return next((value for key, value in pattern.items() if _hits(key, full)), otherwise)


def _hits(target: str, name: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _is_layer(text: str, on: Backbone) -> bool:
    return text.isascii() and text.isdigit() and str(int(text)) == text and int(text) < on.layers


def _is_layers(value: object) -> bool:
    each: Iterator[object] = iter(value) if isinstance(value, list) else iter(() if value is None else (value,))
    return all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in each)


def _is_names(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and len(value) <= 10_000
        and all(isinstance(v, str) and v for v in value)
    )


__all__ = ["read_peft"]
