"""The peft engine: vanilla peft objects over the same backbone. LoRA only; peft has no bottleneck adapters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..backbone import Backbone, share_structure
from ..errors import EngineError
from ..modules import SITES, DoRAPart, FusionPart, LoRAPart, Part
from ..modules.lora import concatenate, flat_name
from ..ragged import RaggedBatch
from .packed import finished, weight
from .vanilla import run_vanilla

_FROZEN, _NEW = "frozen_parts", "new_part"


class PeftEngine:
    """The frozen parts are one peft adapter (their ranks side by side), the learning part another; both act.

    Args:
        padded: Run stock padded batches instead of putting the packed attention in.
    """

    name = "peft"

    def __init__(self, backbone: Backbone, frozen: Sequence[Part], new: Part | None, *, padded: bool = False) -> None:
        import peft

        self.backbone, self.padded = backbone, padded
        lora = [part for part in (*frozen, *([new] if new is not None else [])) if isinstance(part, LoRAPart)]
        if any(isinstance(part, FusionPart) for part in frozen):
            raise EngineError("The peft library has no fusion; use --engine packed (or adapters, for AdapterFusion).")
        if len(lora) != len(frozen) + (new is not None):
            raise EngineError(
                "The peft engine runs LoRA only. Use --engine packed or --engine adapters for bottlenecks."
            )
        self.model = share_structure(backbone.model)
        self.new = new if isinstance(new, LoRAPart) else None
        if backbone.bits and any(part.rescales for part in lora):
            raise EngineError(
                f"The peft library cannot take DoRA's norms from weights in {backbone.bits} bits; use --engine packed."
            )
        parts: dict[str, LoRAPart] = {}
        if frozen:
            parts[_FROZEN] = concatenate(lora[: len(frozen)], _FROZEN)
        if self.new is not None:
            parts[_NEW] = self.new
        wrapped = None
        for name, part in parts.items():
            if len(parts) > 1 and part.rescales:
                raise EngineError(
                    "The peft library runs DoRA together with another module wrongly (its norms are those of the plain "
                    "backbone); use --engine packed."
                )
            ranks = {f"layer.{layer}.{SITES[site]}": part.rank(layer, site) for layer, site in part.keys}
            config = peft.LoraConfig(
                r=max(ranks.values()),
                lora_alpha=max(ranks.values()),
                rank_pattern=ranks,
                alpha_pattern={
                    f"layer.{layer}.{SITES[site]}": part.rank(layer, site) * part.scales[layer, site]
                    for layer, site in part.keys
                },
                use_dora=part.rescales,
                target_modules=list(ranks),
                lora_dropout=part.dropout_p,
            )
            if wrapped is None:
                wrapped = peft.get_peft_model(self.model, config, adapter_name=name)
            else:
                wrapped.add_adapter(name, config)
            for layer, site in part.keys:
                module = self.model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}")
                found = part.factors(layer, site)
                assert found is not None
                for target, tensor in zip((module.lora_A[name], module.lora_B[name]), found, strict=True):
                    target.weight.data = tensor.detach().clone().to(backbone.device)
                if part.rows:  # of a DoRA that is yet to be trained, peft's own first magnitudes are ours
                    length = (module.base_layer.weight + found[1].detach() @ found[0].detach()).norm(dim=1)
                    rows = part.row_scale(layer, site)
                    module.lora_magnitude_vector[name].weight.data = length if rows is None else length * rows
        if wrapped is not None:
            wrapped.base_model.set_adapter(list(parts))  # PeftModel.set_adapter takes one name only
            self.model.requires_grad_(False)
        for parameter in self.parameters().values():
            parameter.requires_grad_(True)

    def hidden(self, batch: RaggedBatch, *, training: bool = False, upto: int | None = None) -> Tensor:
        return run_vanilla(self.model, self.backbone, batch, training=training, upto=upto, padded=self.padded)

    def parameters(self) -> dict[str, nn.Parameter]:
        found = {name: p for name, p in self.model.named_parameters() if f".{_NEW}." in name}
        return dict(sorted(found.items()))

    def export(self) -> Part | None:
        if self.new is None:
            return None
        part = copy.deepcopy(self.new).cpu()
        with torch.no_grad():
            for layer, site in part.keys:
                module = self.model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}")
                flat = flat_name((layer, site))
                part.a[flat].copy_(module.lora_A[_NEW].weight)
                part.b[flat].copy_(module.lora_B[_NEW].weight)
            if isinstance(part, DoRAPart):
                part.bind(partial(weight, self.backbone), ())
                for layer, site in part.keys:
                    module = self.model.get_submodule(f"encoder.layer.{layer}.{SITES[site]}")
                    part.m[flat_name((layer, site))].copy_(module.lora_magnitude_vector[_NEW].weight)
        return finished(part)

    def fusions(self) -> dict[int, FusionPart]:
        return {}

    def penalty(self) -> Tensor | None:
        return None


build = PeftEngine
