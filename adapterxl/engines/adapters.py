"""The adapters engine: vanilla AdapterHub objects over the same backbone. Bottlenecks, stacks, AdapterFusion, LoRA."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..artifacts import adapterhub_layout, adapterhub_lora
from ..backbone import Backbone, share_structure
from ..errors import EngineError
from ..modules import SITES, BottleneckPart, FusionPart, LoRAPart, Part
from ..ragged import RaggedBatch
from .packed import finished
from .vanilla import quiet, run_vanilla


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
        from adapters.composition import Fuse, Stack

        self.backbone, self.padded, self.new = backbone, padded, new
        self.given = list(frozen)
        parts = [*frozen, *([new] if new is not None else [])]
        if backbone.bits:
            raise EngineError(
                f"The adapters library would take Linears in {backbone.bits} bits for plain ones; use --engine packed "
                "(or peft, for LoRA)."
            )
        _check(parts)
        self.model = share_structure(backbone.model)
        adapters.init(self.model)
        self.names: list[str] = []
        setup: list[Any] = []
        for index, part in enumerate(parts):
            name = f"part{index}"
            if isinstance(part, FusionPart):
                members = [f"{name}member{number}" for number in range(len(part.members))]
                for member, (bottleneck,) in zip(members, part.members, strict=True):
                    self._add(member, bottleneck)
                setup.append(Fuse(*members))
                name = setup[-1].name
                self.model.add_adapter_fusion(setup[-1], "dynamic")
                self._fill(name, part)
                for layer, place in part.shared:  # the library's own rate is for training the fusion itself
                    self._block(str(layer), place).adapter_fusion_layer[name].dropout.p = part.dropout_p
            else:
                self._add(name, part)
                setup.append(name)
            self.names.append(name)
        if parts:
            with quiet():
                self.model.set_active_adapters(Stack(*setup))
        self.model.requires_grad_(False)
        for parameter in self.parameters().values():
            parameter.requires_grad_(True)

    def _add(self, name: str, part: Part) -> None:
        self.model.add_adapter(name, config=_config(part, self.backbone))
        self._fill(name, part)

    def _fill(self, name: str, part: Part) -> None:
        targets = self._weights(name, part)
        for key, tensor in part.tensors().items():
            targets[key].data = tensor.detach().clone().to(self.backbone.device)

    def hidden(self, batch: RaggedBatch, *, training: bool = False, upto: int | None = None) -> Tensor:
        from adapters.context import ForwardContext

        return run_vanilla(
            self.model, self.backbone, batch, training=training, upto=upto, padded=self.padded,
            context=ForwardContext.get_context,
        )  # fmt: skip

    def parameters(self) -> dict[str, nn.Parameter]:
        found = {
            f"fusion{i}.{key}": parameter
            for i, part in self._learning().items()
            for key, parameter in self._weights(self.names[i], part).items()
            if key in part.learnable()
        }
        return found | ({} if self.new is None else self._weights(self.names[-1], self.new))

    def fusions(self) -> dict[int, FusionPart]:
        return {i: part.finished(self._weights(self.names[i], part)) for i, part in self._learning().items()}

    def penalty(self) -> Tensor | None:
        found: Tensor | None = self.model.get_fusion_regularization_loss()
        return found

    def _learning(self) -> dict[int, FusionPart]:
        return {i: part for i, part in enumerate(self.given) if isinstance(part, FusionPart) and not part.trained}

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
            elif isinstance(part, FusionPart):
                which, kind = weight.split(".")
                found[key] = getattr(getattr(self._block(layer, place).adapter_fusion_layer[name], which), kind)
            else:
                adapter = self._block(layer, place).adapters[name]
                module = adapter.adapter_down[0] if weight.startswith("down") else adapter.adapter_up
                found[key] = getattr(module, weight.split(".")[1])
        return found

    def _block(self, layer: str, place: str) -> Any:
        block = "attention.output" if place == "attention" else "output"
        return self.model.get_submodule(f"encoder.layer.{layer}.{block}")


def _check(parts: Sequence[Part]) -> None:
    fusions = [part for part in parts if isinstance(part, FusionPart)]
    if any(part.variant != "adapterfusion" for part in fusions):
        raise EngineError("The adapters library has no low-rank fusion; use --engine packed.")
    other = next((part for part in parts if not isinstance(part, LoRAPart | BottleneckPart | FusionPart)), None)
    if other is not None:
        raise EngineError(f"The adapters engine runs LoRA and bottlenecks, not {other.kind}; use --engine packed.")
    loras = [part for part in parts if isinstance(part, LoRAPart)]
    bottlenecks = [part for part in parts if isinstance(part, BottleneckPart)]
    if len(loras) > 1:
        raise EngineError("The adapters library multiplies stacked LoRA modules instead of adding them; "
                          "use --engine packed or --engine peft.")  # fmt: skip
    if len(bottlenecks) + len(fusions) > 1 and any(part.variant == "par_bn" for part in bottlenecks):
        raise EngineError("The adapters library runs par_bn in a stack of bottlenecks wrongly (of two, only the last "
                          "acts); use --engine packed.")  # fmt: skip
    for part in loras:
        if part.rescales:
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
            attn_matrices=[letter for site, letter in adapterhub_lora.ATTENTION.items() if site in part.sites],
            selfattn_lora=any(site in part.sites for site in adapterhub_lora.ATTENTION),
            intermediate_lora="ffn_up" in part.sites,
            output_lora="ffn_down" in part.sites,
            leave_out=[layer for layer in range(backbone.layers) if layer not in part.layers],
        )
    assert isinstance(part, BottleneckPart)
    base = {"hidden_size": backbone.hidden, "layers": backbone.layers, "id": None, "model_type": backbone.model_type}
    fields = adapterhub_layout.config(part, "part", base)["config"]
    return adapters.BnConfig(**fields | {"dropout": part.dropout_p})


build = AdaptersEngine
