"""LoRA and IA3 in AdapterHub folders: how the adapters library lays them out, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ArtifactError
from ..modules import SITES, IA3Part, LoRAPart
from ..modules.lora import Key, site_shape
from .adapterhub_layout import described
from .peft_layout import PREFIX

ATTENTION = {"query": "q", "key": "k", "value": "v"}
HUB_SITES = (*ATTENTION, "ffn_up", "ffn_down")


class Sizes:
    """Sizes of a backbone, as `site_shape` wants them, from what an artifact records of it."""

    def __init__(self, hidden: int, intermediate: int, layers: int) -> None:
        self.hidden, self.intermediate, self.layers = hidden, intermediate, layers


def config(part: LoRAPart | IA3Part, name: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """adapter_config.json of one folded LoRA (alpha = rank, the largest of all sites) or of one IA3.

    The library has no form for DoRA and attention_output: that is for the caller to refuse.
    """
    rank = max(part.rank(*key) for key in part.keys) if isinstance(part, LoRAPart) else 1
    fields = {
        "architecture": "lora",
        "selfattn_lora": any(site in ATTENTION for site in part.sites),
        "intermediate_lora": "ffn_up" in part.sites,
        "output_lora": "ffn_down" in part.sites,
        "leave_out": [layer for layer in range(base["layers"]) if layer not in part.layers],
        "r": rank,
        "alpha": rank,
        "dropout": 0.0,
        "attn_matrices": [letter for site, letter in ATTENTION.items() if site in part.sites],
        "composition_mode": "add" if isinstance(part, LoRAPart) else "scale",
        "init_weights": "lora" if isinstance(part, LoRAPart) else "ia3",
        "use_gating": False,
        "use_dora": False,
        "vera_d": None,
        "vera_b": None,
        "dtype": None,
    }  # fmt: skip
    return {"config": fields} | described(name, base)


def tensors(part: LoRAPart | IA3Part, name: str, model_type: str, sizes: Sizes) -> dict[str, Tensor]:
    """Weights under the library's keys. It has one rank and one choice of sites for all layers: where the part has
    less, rows and columns of zeros (of IA3: ones) fill up, which change nothing."""
    named = {}
    rank = max(part.rank(*key) for key in part.keys) if isinstance(part, LoRAPart) else 1
    for layer in part.layers:
        for site in part.sites:
            start = f"{PREFIX[model_type]}.encoder.layer.{layer}.{SITES[site]}.loras.{name}"
            outputs, inputs = site_shape(site, sizes)
            if isinstance(part, IA3Part):
                rows = part.row_scale(layer, site)
                named[f"{start}.lora_B"] = torch.ones(outputs, 1) if rows is None else rows.detach()[:, None]
                continue
            found = part.factors(layer, site)
            a, b = torch.zeros(rank, inputs), torch.zeros(outputs, rank)
            if found is not None:
                a, b = a.to(found[0].dtype), b.to(found[1].dtype)
                a[: found[0].shape[0]], b[:, : found[1].shape[1]] = found[0].detach(), found[1].detach()
            named[f"{start}.lora_A"], named[f"{start}.lora_B"] = a, b
    return named


def places(found: Mapping[str, Tensor], name: str, model_type: str, where: str) -> dict[Key, dict[str, Tensor]]:
    """The weights of a file of the library: layer and site -> lora_A, lora_B -> tensor; every key is one of these."""
    paths = {SITES[site]: site for site in HUB_SITES}
    start, middle = f"{PREFIX[model_type]}.encoder.layer.", f".loras.{name}."
    sites: dict[Key, dict[str, Tensor]] = {}
    for key, tensor in found.items():
        left, _, end = key.partition(middle)
        layer, _, path = left.removeprefix(start).partition(".")
        if not key.startswith(start) or not layer.isdigit() or path not in paths or end not in ("lora_A", "lora_B"):
            raise ArtifactError(f"{where}: tensor {key} has no place in a LoRA of the adapters library named '{name}'.")
        sites.setdefault((int(layer), paths[path]), {})[end] = tensor
    return sites
