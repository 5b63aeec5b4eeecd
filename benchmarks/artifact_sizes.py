"""How large a folder is: every kind of module at the sizes of XLM-R base and large, written to disk and measured.

    python benchmarks/artifact_sizes.py --out benchmarks/results/artifact_sizes.json

No backbone is loaded and no head is in it: heads are counted apart, as they depend on the task. Values are random, and
sizes do not depend on them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from adapterxl import Bottleneck, DoRA, LoRA, RsLoRA, TaskModule, compose, fuse, merge, stack
from adapterxl.artifacts.module import versions
from adapterxl.engines.packed import finished
from adapterxl.evaluation.scores import write_whole
from adapterxl.modules import SITES, DoRAPart, FusionPart, Method, Part
from adapterxl.modules.lora import site_shape


@dataclass(frozen=True)
class Size:
    """Dimensions of a backbone, with weights that are zero: enough to lay a module out."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    fingerprint: str = "0" * 64

    def weight(self, layer: int, site: str) -> torch.Tensor:
        return torch.ones(*site_shape(site, self))

    def stored(self, name: str) -> torch.Tensor:
        path = name.removeprefix("encoder.layer.").partition(".")[2].removesuffix(".weight")
        return self.weight(0, next(site for site, found in SITES.items() if found == path))


SIZES = (Size("base", 768, 3072, 12), Size("large", 1024, 4096, 24))
QV = ("query", "value")


def module(method: Method, on: Size, name: str, seed: int = 1) -> TaskModule:
    """A module as training would leave it."""
    part: Part = method.build(name, on, torch.Generator().manual_seed(seed), torch.float32)
    if isinstance(part, DoRAPart):
        part.bind(on.weight, ())
    return TaskModule(
        name=name, task="", kind="", parts=(finished(part),), head=None,
        base={
            "name": on.name, "id": None, "revision": None, "fingerprint": on.fingerprint,
            "model_type": "xlm-roberta", "hidden_size": on.hidden, "layers": on.layers,
        },
    )  # fmt: skip


def fused(on: Size, method: Method, **options: object) -> TaskModule:
    """A trained fusion of two modules, with them."""
    members = [module(method, on, f"m{i}", i) for i in range(2)]
    made = compose(fuse(*members, **options), untrained=True)  # type: ignore[arg-type]
    part = made.parts[0]
    assert isinstance(part, FusionPart)
    begun = part.begun(on, torch.Generator().manual_seed(1), torch.float32, 0.0)  # type: ignore[arg-type]
    return replace(made, parts=(begun.finished(begun.tensors()),))


KINDS: dict[str, Callable[[Size], TaskModule]] = {
    "LoRA rank 8, query and value": lambda on: module(LoRA(sites=QV), on, "a"),
    "LoRA rank 8, six sites": lambda on: module(LoRA(), on, "a"),
    "LoRA rank 8, six sites, top third of the layers": lambda on: module(
        LoRA(layers=tuple(range(on.layers * 2 // 3, on.layers))), on, "a"
    ),
    "rsLoRA rank 32, six sites": lambda on: module(RsLoRA(rank=32), on, "a"),
    "DoRA rank 8, six sites": lambda on: module(DoRA(), on, "a"),
    "seq_bn, reduction 16": lambda on: module(Bottleneck(), on, "a"),
    "double_seq_bn, reduction 16": lambda on: module(Bottleneck(variant="double_seq_bn"), on, "a"),
    "par_bn, reduction 2": lambda on: module(Bottleneck(variant="par_bn"), on, "a"),
    "merge of three LoRA rank 8": lambda on: compose(merge(*(module(LoRA(), on, f"m{i}", i) for i in range(3)))),
    "low-rank fusion of two LoRA rank 8, with them": lambda on: fused(on, LoRA()),
    "low-rank fusion of two seq_bn, with them": lambda on: fused(on, Bottleneck()),
    "AdapterFusion of two seq_bn, with them": lambda on: fused(on, Bottleneck(), kind="adapterfusion"),
    "stack of two seq_bn": lambda on: compose(stack(*(module(Bottleneck(), on, f"m{i}", i) for i in range(2)))),
}


def measure(made: TaskModule, on: Size) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder) / "module", on=on)  # type: ignore[arg-type]
        files = [file for file in (Path(folder) / "module").rglob("*") if file.is_file()]
        weights = sum(file.stat().st_size for file in files if file.suffix == ".safetensors")
        return {"parameters": made.size(), "bytes": sum(f.stat().st_size for f in files), "weight_bytes": weights}


def main(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="JSON of the figures.")] = None,
    sizes: Annotated[str, typer.Option(help="Which of base, large.")] = "base,large",
) -> None:
    """Print the table, and write it."""
    chosen = [size for size in SIZES if size.name in sizes.split(",")]
    rows: list[dict[str, Any]] = []
    table = Table("kind", *(f"{size.name}, {what}" for size in chosen for what in ("weights", "MiB")))
    for kind, make in KINDS.items():
        cells = []
        for size in chosen:
            found = measure(make(size), size)
            rows.append({"kind": kind, "size": size.name} | found)
            cells += [f"{found['parameters']:,}", f"{found['bytes'] / 2**20:.2f}"]
        table.add_row(kind, *cells)
    Console(width=120).print(table)
    if out is not None:
        write_whole(out, [json.dumps({"versions": versions(), "rows": rows}, indent=1) + "\n"])


if __name__ == "__main__":
    typer.run(main)
