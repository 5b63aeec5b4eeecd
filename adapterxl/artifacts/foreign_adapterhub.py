"""AdapterHub folders that other programs wrote, as parts: bottlenecks, LoRA, IA3, stacks, AdapterFusion, heads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..backbone import Backbone
from ..errors import ArtifactError, CompositionError
from ..modules import VARIANTS, BottleneckPart, FusionPart, IA3Part, LoRAPart, Part
from ..modules.lora import site_shape
from . import adapterhub_layout as layout
from . import adapterhub_lora, fusion_layout
from .foreign_files import Fields, ForeignFolder, check_shape, is_alpha, is_count, is_flag, is_text, short
from .foreign_heads import flexible_head
from .module import HeadState
from .peft_layout import PREFIX

# The library's own defaults of what a folder of an older version may not say, and where ours are.
_BOTTLENECK = {
    "original_ln_after": (True, True),
    "residual_before_ln": (True, True),
    "adapter_residual_before_ln": (False, False),
    "ln_before": (False, False),
    "ln_after": (False, False),
    "use_gating": (False, False),
    "inv_adapter": (None, None),
    "cross_adapter": (False, False),
    "phm_layer": (False, False),
}
_OLD_NAMES = {
    "attention_text_task_adapters": "adapters",
    "attention_text_lang_adapters": "adapters",
    "layer_text_task_adapters": "adapters",
    "layer_text_lang_adapters": "adapters",
}


@dataclass
class HubFolder:
    """What an AdapterHub folder gives: parts in order, the head that acts, and what else a user should know.

    Attributes:
        names: A name for each part; a fusion is named after its members, which have names of their own already.
        config: The file that describes the last adapter.
    """

    parts: tuple[Part, ...]
    head: HeadState | None
    choices: int | None
    names: tuple[str, ...]
    notes: list[str]
    config: str


def read_adapterhub(folder: ForeignFolder, on: Backbone, labels: Sequence[str] | None) -> HubFolder:
    """Parts and head of a folder of `save_adapter` or `save_adapter_setup`.

    Raises:
        ArtifactError: For whatever would be computed otherwise than the library does, by field or tensor name.
    """
    if not folder.has(layout.SETUP):
        part, name = _adapter(folder, "", on)
        only = _head(folder, "", on, labels)
        folder.nothing_else()
        return HubFolder((part,), only[0] if only else None, only[1] if only else None, (name,), [], layout.CONFIG)
    fields = folder.fields(layout.SETUP)
    blocks = _stacked(fields.get("adapter_setup", lambda v: isinstance(v, dict), "an object"), fields.where)
    names = [name for block in blocks for name in block]
    said = fields.get("head_setup", lambda v: v is None or isinstance(v, str), "the name of one head")
    fields.ignore("version")
    fields.done()
    if len(set(names)) != len(names):
        raise ArtifactError(f"{fields.where}: an adapter is there twice: {', '.join(names)}.")
    single = {}
    for name in names:
        single[name], own = _adapter(folder, f"{name}/", on)
        if own != name:
            raise ArtifactError(f"{folder.path / name}: name: found {short(own)}, expected {short(name)}.")
    fused = [fusion_layout.hub_name(block) for block in blocks if len(block) > 1]
    parts = [single[block[0]] if len(block) == 1 else _fusion(folder, block, single, on) for block in blocks]
    _check_stack(single, fields.where)
    acting = said or names[-1]
    found: HeadState | None = None
    choices: int | None = None
    left = []
    for under in dict.fromkeys((*names, *([said] if said else []))):
        _check_name(under, fields.where)
        got = _head(folder, f"{under}/", on, labels if under == acting else None)
        if got is not None and under == acting:
            found, choices = got
        elif got is not None:
            left.append(f"{under} ({got[0].kind})")
    if said and found is None:
        raise ArtifactError(f"{fields.where}: head_setup: no head '{said}' in this folder.")
    folder.nothing_else(*names, *fused, *([said] if said else []))
    notes = [f"Heads not taken along: {', '.join(left)}."] if left else []
    own_names = tuple("-".join(block) for block in blocks)
    return HubFolder(tuple(parts), found, choices, own_names, notes, f"{names[-1]}/{layout.CONFIG}")


def _stacked(block: dict[str, Any], where: str) -> list[tuple[str, ...]]:
    """Adapters of a composition block, in order of execution; those of a fusion together."""
    kind, children = block.get("type"), block.get("children")
    if not isinstance(children, list) or not children:
        raise ArtifactError(f"{where}: adapter_setup: children: found {short(children)}, expected a list.")
    if kind == "single" and len(children) == 1 and isinstance(children[0], str):
        return [(_check_name(children[0], where),)]
    if kind not in ("Stack", "Fuse"):
        raise ArtifactError(
            f'{where}: adapter_setup: type: found {short(kind)}, expected "Stack" or "Fuse". Import its adapters one '
            "by one, and compose them here."
        )
    if not all(isinstance(child, dict) for child in children):
        raise ArtifactError(f"{where}: adapter_setup: children: found {short(children)}, expected objects.")
    inner = [one for child in children for one in _stacked(child, where)]
    if kind == "Stack":
        return inner
    if len(inner) < 2 or len(inner) != len(children) or any(len(one) > 1 for one in inner):
        raise ArtifactError(
            f"{where}: adapter_setup: a Fuse of something else than two or more single adapters. Import them one by "
            "one, and compose them here."
        )
    return [tuple(name for (name,) in inner)]


def _fusion(folder: ForeignFolder, names: Sequence[str], single: dict[str, Part], on: Backbone) -> FusionPart:
    """The AdapterFusion of these adapters, which take their own names."""
    under = fusion_layout.hub_name(names)
    fields = folder.fields(f"{under}/{fusion_layout.CONFIG}")
    fields.must("adapter_names", list(names))
    fields.must("name", under)
    _check_base(fields, on)
    config = Fields(fields.get("config", lambda v: isinstance(v, dict), "an object"), f"{fields.where}: config")
    fields.ignore("model_class", "model_name", "version")
    fields.done()
    for field, value in fusion_layout.COMPUTED.items():
        config.must(field, value, value, "; adapterxl has the library's dynamic fusion")
    config.ignore("regularization", "value_before_softmax", "value_initialized", "dropout_prob")
    config.done()
    for name in names:
        single[name].name = name
    where = f"{under}/{fusion_layout.WEIGHTS}"
    try:
        part = FusionPart(under, [[single[name]] for name in names], names, "adapterfusion")
    except CompositionError as error:
        raise ArtifactError(f"{fields.where}: {error}") from error
    pickled = f"{under}/pytorch_model_adapter_fusion.bin"
    found = {_today(key, on): tensor for key, tensor in folder.tensors(where, pickled).items()}
    where = str(folder.path / where)
    canonical = fusion_layout.parse_hub(found, names, on.model_type, part.shared, where)
    for key, tensor in canonical.items():
        check_shape(where, key, tensor, (on.hidden,) if key.endswith("bias") else (on.hidden, on.hidden))
    return part.finished(canonical)


def _check_name(name: str, where: str) -> str:
    if not re.fullmatch(r"[^/\\.,\x00-\x1f][^/\\.,\x00-\x1f]{0,127}", name):
        raise ArtifactError(f"{where}: {short(name)}: expected a plain name, without '/', '.' and ','.")
    return name


def _check_stack(single: dict[str, Part], where: str) -> None:
    """What the library runs wrongly means something else there than here."""
    low = [name for name, part in single.items() if not isinstance(part, BottleneckPart)]
    if len(low) > 1:
        raise ArtifactError(
            f"{where}: a stack of {' and '.join(low)}: the adapters library multiplies stacked LoRA instead of adding "
            "them, adapterxl adds. Import them one by one, and compose them with merge."
        )
    bottlenecks = [part for part in single.values() if isinstance(part, BottleneckPart)]
    if len(bottlenecks) > 1 and any(part.variant == "par_bn" for part in bottlenecks):
        raise ArtifactError(
            f"{where}: par_bn in a stack: the adapters library runs only the last of them, adapterxl runs all. Import "
            "them one by one, and compose them with stack."
        )


def _adapter(folder: ForeignFolder, under: str, on: Backbone) -> tuple[Part, str]:
    """The one part of an adapter's folder, and its name there."""
    fields = folder.fields(under + layout.CONFIG)
    name = _check_name(fields.get("name", is_text, "a text"), fields.where)
    _check_base(fields, on)
    version = fields.get("version", lambda v: v is None or isinstance(v, str), "a text") or ""
    inner = fields.get("config", lambda v: isinstance(v, dict), "an object; older folders name a config only")
    fields.ignore("model_class", "model_name", "type", "config_id")
    fields.done()
    config = Fields(inner, f"{fields.where}: config")
    file = under + layout.WEIGHTS
    where = str(folder.path / file)
    found = {_today(key, on): tensor for key, tensor in folder.tensors(file, under + "pytorch_adapter.bin").items()}
    architecture = config.get("architecture", lambda v: v in (None, "lora"), 'a bottleneck, or "lora"')
    part = (_lora if architecture == "lora" else _bottleneck)(config, found, name, on, where, version)
    config.ignore("dropout", "init_weights", "init_weights_seed", "stochastic_depth", "dtype")
    config.done()
    return part, name


def _bottleneck(
    config: Fields, found: dict[str, Tensor], name: str, on: Backbone, where: str, version: str
) -> BottleneckPart:
    attention = config.get("mh_adapter", is_flag, "true or false")
    parallel = config.get("is_parallel", is_flag, "true or false", False)
    variant = "par_bn" if parallel else "double_seq_bn" if attention else "seq_bn"
    ours = VARIANTS[variant]
    why = f", as {variant} has it; adapterxl has exactly seq_bn, double_seq_bn and par_bn"
    config.must("mh_adapter", variant == "double_seq_bn", why=why)
    config.must("output_adapter", True, why=why)
    config.must("non_linearity", ours.activation, why=why)
    config.must("scaling", ours.scaling, 1.0, why)
    config.must("original_ln_before", variant == "seq_bn", False, why)
    for field, (value, default) in _BOTTLENECK.items():
        config.must(field, value, default, why)
    factor = config.get("reduction_factor", is_alpha, "one number for all layers")
    width = int(on.hidden // factor)
    layers = _layers(config, on)
    config.ignore("inv_adapter_reduction_factor", *(key for key in config.values if key.startswith("phm_")),
                  "factorized_phm_W", "shared_W_phm", "shared_phm_rule", "factorized_phm_rule", "learn_phm",
                  "hypercomplex_nonlinearity")  # fmt: skip
    part = layout.parse(found, name, variant, on.model_type, where)
    if set(part.layers) != layers:
        raise ArtifactError(
            f"{where}: found layers {list(part.layers)}, expected {sorted(layers)} (this backbone's, less leave_out)."
        )
    shapes = {"down.weight": (width, on.hidden), "down.bias": (width,), "up.weight": (on.hidden, width),
              "up.bias": (on.hidden,)}  # fmt: skip
    for key, tensor in part.tensors().items():
        check_shape(where, key, tensor, shapes[key.split(".", 2)[2]])
    return part


def _lora(
    config: Fields, found: dict[str, Tensor], name: str, on: Backbone, where: str, version: str
) -> LoRAPart | IA3Part:
    mode = config.get("composition_mode", lambda v: v in ("add", "scale"), 'one of "add", "scale"', "add")
    rank = config.get("r", is_count, "a whole number from 1", 8)
    alpha = config.get("alpha", is_alpha, "a number above 0, at most 10000", 8)
    config.must("use_gating", False, False)
    config.must("use_dora", False, False, "; the library computes DoRA wrongly (its bias, and its norm)")
    config.must("vera_d", None)
    config.must("vera_b", None)
    letters = config.get("attn_matrices", lambda v: isinstance(v, list) and all(each in ("q", "k", "v") for each in v),
                         'a list of "q", "k", "v"', ["q", "v"])  # fmt: skip
    flags = {key: config.get(key, is_flag, "true or false", default) for key, default in
             (("selfattn_lora", True), ("intermediate_lora", False), ("output_lora", False))}  # fmt: skip
    sites = {site for site, letter in adapterhub_lora.ATTENTION.items() if letter in letters and flags["selfattn_lora"]}
    sites |= {site for site, key in (("ffn_up", "intermediate_lora"), ("ffn_down", "output_lora")) if flags[key]}
    places = adapterhub_lora.places(found, name, on.model_type, where)
    odd = sorted({(layer, site) for layer in _layers(config, on) for site in sites} ^ places.keys())
    if odd or not places:
        place = f"layer {odd[0][0]}, {odd[0][1]}" if odd else "no site at all"
        raise ArtifactError(f"{where}: {place}: its weights and adapter_config.json differ.")
    factors, scales = {}, {}
    for key, weights in places.items():
        outputs, inputs = site_shape(key[1], on)
        label = f"layer {key[0]}, {key[1]}: lora_"
        if set(weights) != ({"lora_A", "lora_B"} if mode == "add" else {"lora_B"}):
            raise ArtifactError(f"{where}: layer {key[0]}, {key[1]}: found {', '.join(sorted(weights))} alone.")
        if mode == "scale":
            scales[key] = check_shape(where, f"{label}B", weights["lora_B"], (outputs, 1))[:, 0].clone()
            continue
        a = check_shape(where, f"{label}A", weights["lora_A"], (rank, inputs))
        factors[key] = a, check_shape(where, f"{label}B", weights["lora_B"], (outputs, rank))
    if mode == "scale":
        config.must("alpha", 1, why="; an IA3 has no other scale here")
        config.must("r", 1)
        return IA3Part("part", scales)
    return LoRAPart("part", factors, scale=_alpha(version, float(alpha), rank, config.where) / rank).folded()


def _alpha(version: str, alpha: float, rank: int, where: str) -> float:
    """Before 1.1 the library did not scale by alpha / r, whatever its folders say; it reads them so today."""
    number = re.fullmatch(r"adapters\.(\d+)\.(\d+).*", version)
    if number is not None:
        return float(rank) if (int(number[1]), int(number[2])) < (1, 1) else alpha
    if alpha != rank:
        raise ArtifactError(
            f"{where}: alpha: found {alpha:g} with r {rank}, but no version of the library is named (found "
            f"{short(version)}), so its scale is unknown. Load and save it with adapters 1.1 or later."
        )
    return alpha


def _head(
    folder: ForeignFolder, under: str, on: Backbone, labels: Sequence[str] | None
) -> tuple[HeadState, int | None] | None:
    """The head of a folder, and the number of choices it was made for; None where there is none."""
    if not folder.has(under + layout.HEAD_CONFIG):
        return None
    fields = folder.fields(under + layout.HEAD_CONFIG)
    _check_base(fields, on)
    file = under + layout.HEAD_WEIGHTS
    found = folder.tensors(file, under + "pytorch_model_head.bin")
    where = str(folder.path / file)
    head = flexible_head(fields, found, on, where, labels)
    if found:
        raise ArtifactError(f"{where}: tensor {min(found)} has no place in a {head[0].kind} head.")
    return head


def _check_base(fields: Fields, on: Backbone) -> None:
    for name, own in (("model_type", on.model_type), ("hidden_size", on.hidden)):
        fields.get(name, lambda value, own=own: value == own, f"{own}, as this backbone has")  # type: ignore[misc]


def _layers(config: Fields, on: Backbone) -> set[int]:
    left = config.get("leave_out", lambda v: isinstance(v, list) and len(v) <= on.layers and all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each < on.layers for each in v),
        f"a list of layers from 0 to {on.layers - 1}", [])  # fmt: skip
    return set(range(on.layers)) - set(left)


def _today(key: str, on: Backbone) -> str:
    """A weight's name as the library has it now, in a model with a head."""
    steps = [_OLD_NAMES.get(step, step) for step in key.split(".")]
    prefix = PREFIX[on.model_type]
    return ".".join(steps if steps[0] != "encoder" else [prefix, *steps])


__all__ = ["HubFolder", "read_adapterhub"]
