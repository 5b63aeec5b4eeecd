"""One folder, several writers and readers at once: what the readers get, for ours and the two libraries' own saves.

    python benchmarks/concurrent_saves.py --out benchmarks/results/concurrent_saves.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measures import machine
from random_backbone import write_backbone
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from adapterxl import Backbone, LoRA, load
from adapterxl.artifacts.module import TaskModule, versions
from adapterxl.engines.packed import finished
from adapterxl.evaluation.scores import write_whole

Save = Callable[[int], object]
LIBRARIES = ("adapterxl", "adapters", "peft")
# alpha of save number i is FIRST + i; every weight of it is the same number
FIRST = 1


def saver(library: str, base: Path, folder: Path) -> Save:
    """What writes save number i of a library; the model is made once."""
    backbone = Backbone(base, device="cpu")
    if library == "adapterxl":
        part = finished(LoRA(rank=4).build("m", backbone, torch.Generator().manual_seed(1), torch.float32))
        facts = {"name": "tiny", "id": None, "revision": None, "fingerprint": backbone.fingerprint,
                 "model_type": "xlm-roberta", "hidden_size": backbone.hidden, "layers": backbone.layers}  # fmt: skip

        def ours(number: int) -> None:
            for tensor in part.parameters():
                tensor.data.fill_(number)
            TaskModule("m", "", "", (part,), None, facts, training={"save": number}).save(folder, overwrite=True)

        return ours
    if library == "peft":
        import peft

        wrapped = peft.get_peft_model(backbone.model, peft.LoraConfig(r=4, target_modules=["query", "value"]))

        def theirs(number: int) -> None:
            wrapped.peft_config["default"].lora_alpha = number
            _fill(wrapped, number)
            wrapped.save_pretrained(folder)

        return theirs
    import adapters

    model = adapters.AutoAdapterModel.from_pretrained(base)

    def hub(number: int) -> None:
        if "m" in model.adapters_config:
            model.delete_adapter("m")
        model.add_adapter("m", config=adapters.LoRAConfig(r=4, alpha=number))
        _fill(model, number)
        model.save_adapter(str(folder), "m", use_safetensors=True)

    return hub


def _fill(model: torch.nn.Module, number: int) -> None:
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.fill_(number)


def read(library: str, folder: Path) -> str:
    """Read config and weights as a loader does; "whole", "mixed" of two saves, or what failed."""
    try:
        if library == "adapterxl":
            module = load(folder)
            said, tensors = module.training["save"], module.parts[0].tensors()
            tensors = {name: tensor for name, tensor in tensors.items() if name.endswith(".A")}  # B has the scale in it
        else:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            said = config["config"]["alpha"] if library == "adapters" else config["lora_alpha"]
            weights = "adapter.safetensors" if library == "adapters" else "adapter_model.safetensors"
            tensors = load_file(folder / weights)
        found = {float(value) for tensor in tensors.values() for value in tensor.unique()}
    except Exception as error:
        return f"failed: {type(error).__name__}"
    return "whole" if found == {float(said)} else "mixed"


def _write(library: str, base: Path, folder: Path, first: int, step: int, stop: Any, out: Any) -> None:
    torch.set_num_threads(1)
    save, number, failed = saver(library, base, folder), first, Counter[str]()
    while not stop.is_set():
        try:
            save(number)
        except Exception as error:
            failed[type(error).__name__] += 1
        number += step
    out.put(((number - first) // step, failed))


def _read(library: str, folder: Path, reads: int, out: Any) -> None:
    torch.set_num_threads(1)
    out.put(Counter(read(library, folder) for _ in range(reads)))


def measure(library: str, base: Path, writers: int, readers: int, reads: int) -> dict[str, Any]:
    """What `reads` reads by all readers together got while the writers went on."""
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "module"
        saver(library, base, folder)(FIRST)
        stop, found, saves = fork.Event(), fork.Queue(), fork.Queue()
        processes = [
            fork.Process(target=_write, args=(library, base, folder, FIRST + i, writers, stop, saves))
            for i in range(writers)
        ] + [fork.Process(target=_read, args=(library, folder, reads // readers, found)) for _ in range(readers)]
        for process in processes:
            process.start()
        total = sum((found.get() for _ in range(readers)), Counter[str]())
        stop.set()
        done = [saves.get() for _ in range(writers)]
        for process in processes:
            process.join()
        left = sorted(path.name for path in Path(place).iterdir() if path != folder)
    return {
        "library": library,
        "reads": dict(sorted(total.items())),
        "saves": sum(count for count, _ in done),
        "failed_saves": dict(sum((failed for _, failed in done), Counter[str]())),
        "left_beside": left,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--reads", type=int, default=2000, help="of all readers, in each run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each library, in turns")
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        base = write_backbone(Path(place) / "base", "tiny", torch.float32, torch.device("cpu"))
        runs = [
            measure(library, base, given.writers, given.readers, given.reads)
            for _ in range(given.repeats)
            for library in given.libraries.split(",")
        ]
    table = Table("library", "whole", "mixed", "failed", "saves", "failed saves")
    for run in runs:
        reads = run["reads"]
        failed = sum(count for what, count in reads.items() if what.startswith("failed"))
        cells = (reads.get("whole", 0), reads.get("mixed", 0), failed, run["saves"], sum(run["failed_saves"].values()))
        table.add_row(run["library"], *map(str, cells))
    Console(width=120).print(table)
    if given.out is not None:
        what = {"writers": given.writers, "readers": given.readers, "runs": runs, "versions": versions(),
                "machine": machine(torch.device("cpu"))}  # fmt: skip
        write_whole(given.out, [json.dumps(what, indent=1) + "\n"])


if __name__ == "__main__":
    main()
