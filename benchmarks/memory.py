"""What a training step takes of memory, option by option: predicted, and measured on the CPU.

    python benchmarks/memory.py --out benchmarks/results/memory.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from measures import count, machine, saved_bytes
from reporting import finish
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from torch import Tensor
from tqdm import tqdm

from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.data.collate import collate
from adapterxl.data.prepare import Item
from adapterxl.engines.packed import PackedEngine
from adapterxl.evaluation.predict import head_scores
from adapterxl.modules import Bottleneck, Head, LoRA, Part, make_head
from adapterxl.modules.heads import row_losses
from adapterxl.training.cost import Cost, Options, step_cost

METHODS: dict[str, LoRA | Bottleneck] = {"lora": LoRA(rank=8), "bottleneck": Bottleneck()}
# XLM-R large (Conneau et al. 2020); --layers and the others make it smaller.
SHAPE = {"vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
         "intermediate_size": 4096}  # fmt: skip
# One option more in each step, in the order in which a plan takes them.
STEPS: dict[str, Options] = {
    "nothing": Options(),
    "embeddings on the CPU": Options(embeddings="cpu"),
    "+ checkpointing": Options(embeddings="cpu", checkpointing=True),
    "+ 4 batches a step": Options(embeddings="cpu", checkpointing=True, accumulation=4),
    "+ bf16": Options("bf16", None, "cpu", True, 4),
    "+ int8": Options("bf16", 8, "cpu", True, 4),
    "NF4 instead": Options("bf16", 4, "cpu", True, 4),
    "bf16 alone": Options("bf16"),
    "bf16, embeddings on the CPU": Options("bf16", None, "cpu"),
    "bf16, embeddings on the CPU, checkpointing": Options("bf16", None, "cpu", True),
}


def make_folder(folder: Path, shape: dict[str, int], layers: int) -> Path:
    """A backbone of this shape with random weights and a tokenizer that is never used."""
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        **shape | {"num_hidden_layers": layers}, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1,
    )  # fmt: skip
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = XLMRobertaModel(config, add_pooling_layer=False)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: torch.empty(p.shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        for name, p in model.named_parameters()
    }
    save_file(tensors, folder / "model.safetensors")
    Tokenizer(models.Unigram([("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)], unk_id=3)).save(
        str(folder / "tokenizer.json")
    )
    return folder


class Step:
    """A real training step of a few layers."""

    def __init__(self, folder: Path, options: Options, method: LoRA | Bottleneck, items: list[Item]) -> None:
        self.on = Backbone(
            folder, dtype=options.dtype, bits=options.bits, embeddings=options.embeddings,
            checkpointing=options.checkpointing, device="cpu",
        )  # fmt: skip
        self.items = items[: max(1, len(items) // options.accumulation)]
        part, self.head = parts_on(self.on, method)
        self.cost = step_cost(self.on, options, [], part, [(self.head, self.items)])
        self.engine = PackedEngine(self.on, [], part)

    def loss(self) -> Tensor:
        batch = collate("classify", self.items, self.on.device)
        scores = head_scores(self.engine, self.head, batch, training=True)
        return row_losses("classify", scores, batch.ragged, batch.targets)

    def measured(self) -> dict[str, int]:
        """Bytes of the weights and of what the forward pass keeps."""
        model = self.on.model
        learns = [*self.engine.parameters().values(), *self.head.parameters()]
        held = [*model.parameters(), *model.buffers()]
        return {
            "weights": sum(t.numel() * t.element_size() for t in held),
            "kept": saved_bytes(self.loss, chain(held, learns)),
        }


def parts_on(on: Backbone, method: LoRA | Bottleneck) -> tuple[Part, Head]:
    part = method.build("benchmark", on, torch.Generator().manual_seed(1), torch.float32)
    return part, make_head("classify", on, ("a", "b", "c"))


def predicted(folder: Path, options: Options, method: LoRA | Bottleneck, items: list[Item]) -> Cost:
    """The cost of the whole shape, as a CUDA device would bear it, without what that takes for itself."""
    on = Backbone(folder, device="cpu", load=False)
    on.device = torch.device("cuda")  # of the plan alone: nothing runs there
    part, head = parts_on(on, method)
    return step_cost(on, options, [], part, [(head, items[: max(1, len(items) // options.accumulation)])])


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark, as the JSON that is written."""
    torch.set_num_threads(1)
    shape = {key: getattr(arguments, key) or value for key, value in SHAPE.items()}
    items = [Item(0, ((5,) * arguments.length,), ((0,) * arguments.length,), 0) for _ in range(arguments.rows)]
    method, measured_layers = METHODS[arguments.method], min(arguments.measured, shape["num_hidden_layers"])
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        whole = make_shape(Path(temporary) / "whole", shape)
        few = make_folder(
            Path(temporary) / "few", shape | {"vocab_size": min(1000, shape["vocab_size"])}, measured_layers
        )
        for name, options in tqdm(STEPS.items(), desc="options", unit="option", disable=None):
            if arguments.rows < options.accumulation:
                continue
            cost = predicted(whole, options, method, items)
            step = Step(few, options, method, items)
            real = step.measured()
            expected = {"weights": step.cost.matrices + step.cost.embeddings + step.cost.rest, "kept": step.cost.kept}
            results.append({
                "name": name,
                "options": vars(options),
                "predicted": vars(cost) | {"total": cost.total, "total_without_context": cost.total - cost.context},
                "measured_on_cpu": {
                    "layers": measured_layers, "vocab_size": min(1000, shape["vocab_size"]), "bytes": real,
                    "predicted_bytes": expected, "ratio": {key: expected[key] / real[key] for key in real},
                },
            })  # fmt: skip
            del step
            gc.collect()
    return {
        "format": 1,
        "benchmark": "memory",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "shape": shape,
        "rows": arguments.rows,
        "length": arguments.length,
        "method": arguments.method,
        "what": "predicted: the whole shape on a CUDA device, by the model of the cost (no GPU was at hand). "
        "measured_on_cpu: the same code with fewer layers and a small vocabulary, beside its own prediction.",
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
        "results": results,
    }


def make_shape(folder: Path, shape: dict[str, int]) -> Path:
    """The whole shape: a folder with a configuration, whose weights are never read."""
    made = make_folder(folder, shape | {"vocab_size": 8, "hidden_size": shape["num_attention_heads"]}, 1)
    config = json.loads((made / "config.json").read_text(encoding="utf-8"))
    (made / "config.json").write_text(json.dumps(config | shape), encoding="utf-8")
    return made


def show(report: dict[str, Any], console: Console) -> None:
    shape = report["shape"]
    title = f"{report['rows']} x {report['length']} tokens, {report['method']}, {shape['num_hidden_layers']} layers"
    table = Table(title=title, title_justify="left")
    keys = ("matrices", "embeddings", "rest", "trained", "kept", "temporary", "total_without_context")
    for name in ("options", *keys, "kept: predicted / measured"):
        table.add_column(name.replace("_", " "), justify="left" if name == "options" else "right")
    for result in report["results"]:
        cost, ratio = result["predicted"], result["measured_on_cpu"]["ratio"]
        table.add_row(result["name"], *(f"{cost[key] / 1e6:,.1f}" for key in keys), f"{ratio['kept']:.3f}")
    console.print(table)
    console.print("MB (10^6 bytes) on the device, predicted; the context of CUDA comes on top.")


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    parser = argparse.ArgumentParser(description="Memory of a training step, option by option.")
    for key, value in SHAPE.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=count, help=f"default {value}")
    parser.add_argument("--rows", type=count, default=64)
    parser.add_argument("--length", type=count, default=96, help="tokens of a row")
    parser.add_argument("--measured", type=count, default=2, help="layers that are really run")
    parser.add_argument("--method", choices=tuple(METHODS), default="lora")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    return finish(arguments.out, lambda: run(arguments), show, width=160)


if __name__ == "__main__":
    sys.exit(main())
