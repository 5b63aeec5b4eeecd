"""What loading bad folders does: the corpus of tests/corpus.py through adapterxl, adapters and peft.

    python benchmarks/hostile_corpus.py --out benchmarks/results/hostile_corpus.json
What it measures: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import chdir
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from measures import count, machine, peak_rss
from reporting import Report, finish
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from adapterxl.artifacts import import_folder, load
from adapterxl.artifacts.module import versions
from adapterxl.backbone import Backbone
from adapterxl.engines.vanilla import quiet
from adapterxl.errors import EngineError, UsageError

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from corpus import MANIFEST, Case, cases, write_good  # noqa: E402
from tiny import make_tiny_xlmr  # noqa: E402

Loader = Callable[[Path], Any]
OUTCOMES = ("accepted", "refused", "out of memory", "hung", "crashed")
FIRST = ("adapterxl", "adapterxl, foreign", "adapters", "peft")
CHANGED = ", backbone changed"
EXECUTED = ", code executed"


class Loaders:
    """What loads a folder, by name, each with a model of its own whose weights are watched."""

    def __init__(self, on: Backbone) -> None:
        import adapters
        import peft
        import transformers

        with quiet():
            of_adapters = adapters.AutoAdapterModel.from_pretrained(on.folder)
            of_peft = transformers.AutoModelForSequenceClassification.from_pretrained(on.folder, num_labels=3)

        def by_adapters(folder: Path) -> Any:
            if (folder / "adapter_setup.json").exists():
                return of_adapters.load_adapter_setup(str(folder), use_safetensors=True)
            return of_adapters.load_adapter(str(folder), use_safetensors=True)

        def foreign(folder: Path) -> Any:
            (folder / MANIFEST).unlink(missing_ok=True)
            return import_folder(folder, on=on)

        self.ways: dict[str, tuple[Loader, torch.nn.Module]] = {
            "adapterxl": (load, on.model),
            "adapterxl, foreign": (foreign, on.model),
            "adapters": (by_adapters, of_adapters),
            "peft": (lambda folder: peft.PeftModel.from_pretrained(of_peft, folder), of_peft),
        }


def suits(way: str, case: Case) -> bool:
    """Whether the fault is in a file that this way of loading reads."""
    if way == "adapterxl":
        return True
    return case.library is not None if way == "adapterxl, foreign" else case.library == way


def kind(case: Case) -> str:
    """The row of the table that a case counts in."""
    first, *rest = case.name.split(": ")
    if first in ("manifest", "folder"):
        return first
    return f"{first}: {'config' if len(rest) > 1 else 'tensors'}"


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """sha256 over the bytes of tensors."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def attempt(loader: Loader, model: torch.nn.Module, folder: Path, memory: int, answer: Connection) -> None:
    """In a forked child: load, and tell what came of it."""
    own = [tensor for name, tensor in model.state_dict(keep_vars=True).items() if _of_backbone(name)]
    before, held = digest(own), peak_rss()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    error: BaseException | None = None
    began = time.perf_counter()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            loader(folder)
        except Exception as raised:
            error = raised
    seconds = time.perf_counter() - began
    outcome = "accepted" if error is None else "refused"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        outcome = "out of memory"
    found = {"outcome": outcome, "seconds": seconds, "bytes": peak_rss() - held}
    if error is not None:
        found["lines"] = len(str(error).splitlines())
        found["names_folder"] = folder.name in str(error)
    found["changed"] = digest(own) != before
    found["executed"] = Path("EXECUTED").exists()
    answer.send(found)


def _of_backbone(name: str) -> bool:
    """A weight of the encoder: by our name, or by that of a model with a head."""
    return name.removeprefix("roberta.").startswith(("embeddings.", "encoder."))


def outcome(loader: Loader, model: torch.nn.Module, folder: Path, timeout: float, memory: int) -> dict[str, Any]:
    """What loading a folder comes to, in a process of its own that may hang or die."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=attempt, args=(loader, model, folder, memory, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(timeout):
            return {"outcome": "hung"}
        return dict(ours.recv())
    except EOFError:
        return {"outcome": "crashed"}
    finally:
        child.kill()
        child.join()
        ours.close()


def measure(chosen: Sequence[str], timeout: float, memory: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """All cases in the working directory. Returns case -> way -> outcome, and the backbone's description."""
    on = Backbone(make_tiny_xlmr(Path("tiny-xlmr")), device="cpu")
    good = write_good(on, Path("good"))
    loaders = Loaders(on)
    everything = cases()
    for way, (loader, model) in loaders.ways.items():
        bases = {case.base for case in everything.values() if suits(way, case)}
        for base in sorted(bases):
            same = Case(f"good {base}", base, lambda folder: None, mended=False)
            found = outcome(loader, model, same.make(good, Path(f"good-{way}-{base}")), 10 * timeout, memory)
            if found["outcome"] != "accepted" or found["changed"]:
                raise EngineError(f"{way}: the good folder '{base}' gives {found}; nothing is compared.")
    results: dict[str, Any] = {}
    for index, name in enumerate(tqdm(chosen, desc="cases", disable=None)):
        case = everything[name]
        results[name] = {}
        for place, (way, (loader, model)) in enumerate(loaders.ways.items()):
            if suits(way, case):
                Path(f"{index}-{place}").mkdir()
                with chdir(f"{index}-{place}"):
                    folder = case.make(good.resolve() if good.is_absolute() else Path("..") / good, Path("m"))
                    results[name][way] = outcome(loader, model, folder, timeout, memory)
    return results, on.describe()


def tables(results: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """By way: counts of outcomes over all cases, and by kind of case."""
    everything = cases()
    totals: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    for way in FIRST:
        rows = [(everything[name], found[way]) for name, found in results.items() if way in found]
        refused = [found for _, found in rows if "lines" in found]
        ended = [found for _, found in rows if "seconds" in found]
        totals[way] = {
            "cases": len(rows),
            **_counts(found for _, found in rows),
            "errors_in_one_line": sum(found["lines"] == 1 for found in refused),
            "errors_that_name_the_folder": sum(found["names_folder"] for found in refused),
            "seconds_most": max((found["seconds"] for found in ended), default=None),
            "bytes_most": max((found["bytes"] for found in ended), default=None),
        }
        for label in dict.fromkeys(kind(case) for case, _ in rows):
            kinds.setdefault(label, {})[way] = _counts(found for case, found in rows if kind(case) == label)
    return totals, kinds


def _counts(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    found = list(rows)
    number = Counter(row["outcome"] for row in found)
    return {
        **{name: number[name] for name in OUTCOMES},
        "backbone_changed": sum(row.get("changed", False) for row in found),
        "code_executed": sum(row.get("executed", False) for row in found),
    }


def said(found: dict[str, Any]) -> str:
    """An outcome in words."""
    changed = CHANGED if found.get("changed") else ""
    return found["outcome"] + changed + (EXECUTED if found.get("executed") else "")


def run(arguments: argparse.Namespace) -> Report:
    """The whole benchmark, as the JSON that is written."""
    if sys.platform != "linux":
        raise UsageError(f"This benchmark forks and limits memory as Linux does; found {sys.platform}.")
    torch.set_num_threads(1)  # children are forked
    names = list(cases())
    absent = sorted(set(arguments.cases or ()) - set(names))
    if absent:
        raise UsageError(f"--cases: no case '{absent[0]}'; names are those of tests/corpus.py, such as '{names[0]}'.")
    with tempfile.TemporaryDirectory() as work, chdir(work):
        results, base = measure(arguments.cases or names, arguments.timeout, arguments.memory << 20)
    totals, kinds = tables(results)
    return {
        "format": 1,
        "benchmark": "hostile_corpus",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "arguments": {"timeout": arguments.timeout, "memory": arguments.memory},
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
        "base": base,
        "totals": totals,
        "kinds": kinds,
        "cases": {name: {way: said(one) for way, one in found.items()} for name, found in results.items()},
    }


def show(report: Report, console: Console) -> None:
    """A row for each kind: refused of all, and what else came of it."""
    table = Table("kind", *FIRST)
    for label, ways in [*report["kinds"].items(), ("all", report["totals"])]:
        table.add_row(label, *(_cell(ways[way]) if way in ways else "" for way in FIRST))
    console.print(table)


def _cell(found: dict[str, int]) -> str:
    whole = sum(found[name] for name in OUTCOMES)
    other = [f"{found[name]} {name}" for name in OUTCOMES if name != "refused" and found[name]]
    other += [f"backbone changed by {found['backbone_changed']}"] if found["backbone_changed"] else []
    other += [f"code executed by {found['code_executed']}"] if found["code_executed"] else []
    return "\n".join([f"{found['refused']} of {whole} refused", *other])


def main(given: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 and one line on bad input."""
    parser = argparse.ArgumentParser(description="Bad module folders through adapterxl, adapters and peft.")
    parser.add_argument("--cases", action="append", metavar="NAME", help="this case only; several times for more")
    parser.add_argument("--timeout", type=count, default=20, help="seconds after which a loader hangs")
    parser.add_argument("--memory", type=count, default=4096, help="MiB that a loader may take")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args(given)
    arguments.out = arguments.out.absolute()
    return finish(arguments.out, lambda: run(arguments), show)


if __name__ == "__main__":
    sys.exit(main())
