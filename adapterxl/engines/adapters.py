"""The adapters engine: vanilla AdapterHub objects over the same backbone. Bottlenecks, stacks of them, and LoRA."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..artifacts import adapterhub_layout
from ..backbone import Backbone, share_structure
from ..errors import EngineError
from ..modules import SITES, BottleneckPart, DoRAPart, LoRAPart, Part
from ..ragged import RaggedBatch
from .packed import finished
from .vanilla import quiet, run_vanilla

_ATTENTION = {"query": "q", "key": "k", "value": "v"}


class AdaptersEngine:
    """All parts as one `Stack` of the adapters library.

    Refuses what the library runs, but runs wrongly: stacks of bottlenecks with par_bn (of two, only the last
    acts) and of LoRA (their product instead of their sum); and LoRA at the attention's output, for which it
    has no site.

    Args:
        padded: Run stock padded batches instead of putting the packed attention in.
    """

    name = "adapters"

    def __init__(self, backbone: Backbone, frozen: Sequence[Part], new: Part | None, *, padded: bool = False) -> None:
        import adapters
        from adapters.composition import Stack

        self.backbone, self.padded, self.new = backbone, padded, new
        parts = [*frozen, *([new] if new is not None else [])]
        _check(parts)
        self.model = share_structure(backbone.model)
        adapters.init(self.model)
        self.names = [f"part{index}" for index in range(len(parts))]
        for name, part in zip(self.names, parts, strict=True):
            self.model.add_adapter(name, config=_config(part, backbone))
            targets = self._weights(name, part)
            for key, tensor in part.tensors().items():
                targets[key].data = tensor.detach().clone().to(backbone.device)
        if parts:
            with quiet():
                self.model.set_active_adapters(Stack(*self.names))
        self.model.requires_grad_(False)
        for parameter in self.parameters().values():
            parameter.requires_grad_(True)

    def hidden(self, batch: RaggedBatch, *, training: bool = False, upto: int | None = None) -> Tensor:
        return run_vanilla(self.model, self.backbone, batch, training=training, upto=upto, padded=self.padded)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {} if self.new is None else self._weights(self.names[-1], self.new)

    def export(self) -> Part | None:
        if self.new is None:
            return None
        result = copy.deepcopy(self.new).cpu()
        weights = self._weights(self.names[-1], self.new)
        with torch.no_grad():
            for key, tensor in result.tensors().items():
                tensor.copy_(weights[key])
        return finished(result)

    def _weights(self, name: str, part: Part) -> dict[str, Any]:
        """The library's parameters for a part, under our canonical names."""
        found: dict[str, Any] = {}
        for key in part.tensors():
            layer, place, weight = key.split(".", 2)
            if isinstance(part, LoRAPart):
                linear = self.model.get_submodule(f"encoder.layer.{layer}.{SITES[place]}")
                lora = linear.loras[name]
                found[key] = lora.lora_A if weight == "A" else lora.lora_B
            else:
                block = "attention.output" if place == "attention" else "output"
                adapter = self.model.get_submodule(f"encoder.layer.{layer}.{block}").adapters[name]
                module = adapter.adapter_down[0] if weight.startswith("down") else adapter.adapter_up
                found[key] = getattr(module, weight.split(".")[1])
        return found


def _check(parts: Sequence[Part]) -> None:
    other = next((part for part in parts if not isinstance(part, LoRAPart | BottleneckPart)), None)
    if other is not None:
        raise EngineError(f"The adapters engine runs LoRA and bottlenecks, not {other.kind}; use --engine packed.")
    loras = [part for part in parts if isinstance(part, LoRAPart)]
    bottlenecks = [part for part in parts if isinstance(part, BottleneckPart)]
    if len(loras) > 1:
        raise EngineError("The adapters library multiplies stacked LoRA modules instead of adding them; "
                          "use --engine packed or --engine peft.")  # fmt: skip
    if len(bottlenecks) > 1 and any(part.variant == "par_bn" for part in bottlenecks):
        raise EngineError("The adapters library runs par_bn in a stack of bottlenecks wrongly (of two, only the last "
                          "acts); use --engine packed.")  # fmt: skip
    for part in loras:
        if part.rescales or isinstance(part, DoRAPart):
            raise EngineError("The adapters library computes DoRA wrongly (it scales the bias, and leaves alpha / r "
                              "out of the norm); use --engine packed or --engine peft.")  # fmt: skip
        if "attention_output" in part.sites:
            raise EngineError("The adapters library has no LoRA site at attention_output; use --engine packed or peft, "
                              "or --sites query,key,value,ffn_up,ffn_down.")  # fmt: skip
        if len({(part.rank(*key), part.scales[key]) for key in part.keys}) > 1 or len(part.keys) != len(
            part.layers
        ) * len(part.sites):
            raise EngineError("The adapters library has one rank, alpha and choice of sites for all layers of a LoRA; "
                              "use --engine packed or peft.")  # fmt: skip


def _config(part: Part, backbone: Backbone) -> Any:
    import adapters

    if isinstance(part, LoRAPart):
        rank = part.rank(*part.keys[0])
        return adapters.LoRAConfig(
            r=rank,
            alpha=rank * part.scale,
            dropout=part.dropout_p,
            attn_matrices=[letter for site, letter in _ATTENTION.items() if site in part.sites],
            selfattn_lora=any(site in part.sites for site in _ATTENTION),
            intermediate_lora="ffn_up" in part.sites,
            output_lora="ffn_down" in part.sites,
            leave_out=[layer for layer in range(backbone.layers) if layer not in part.layers],
        )
    assert isinstance(part, BottleneckPart)
    base = {"hidden_size": backbone.hidden, "layers": backbone.layers, "id": None, "model_type": backbone.model_type}
    fields = adapterhub_layout.config(part, "part", base)["config"]
    return adapters.BnConfig(**fields | {"dropout": part.dropout_p})


build = AdaptersEngine
