"""Options that several verbs share, and the values made from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adapterxl.errors import UsageError, did_you_mean
from adapterxl.tasks.base import LANGUAGE_SETS

if TYPE_CHECKING:
    from adapterxl.backbone import Backbone
    from adapterxl.data import HubData

ENGINES = ("packed", "peft", "adapters")

Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="ID|DIR",
        show_default="the miniature",
        help="Frozen backbone: a hub id (FacebookAI/xlm-roberta-base) or a folder. Without it: the embedded miniature.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        show_default="the hub",
        help="Folder with an index adapterxl-data.yaml. Without it: the Hugging Face hub; mini_* tasks are embedded.",
    ),
]
Engine = Annotated[str, typer.Option("--engine", metavar="|".join(ENGINES), help="What executes the modules.")]
Dtype = Annotated[str, typer.Option("--dtype", metavar="fp32|bf16", help="Precision of the backbone.")]
Bits = Annotated[
    int | None,
    typer.Option("--bits", metavar="8|4", show_default="all", help="The frozen matrices in int8 or NF4 (extra quant)."),
]
Embeddings = Annotated[
    str, typer.Option("--embeddings", metavar="device|cpu", help="Where the table of token embeddings is kept.")
]
Checkpointing = Annotated[
    bool,
    typer.Option("--checkpointing", help="Compute activations again in the backward pass: less memory, more time."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile dropout, residual and norm (for a GPU); the first steps take longer.")
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to run.")]
OnBadRow = Annotated[
    Literal["stop", "drop"],
    typer.Option("--on-bad-row", metavar="stop|drop", help="A row that cannot be read: stop, or drop it and count it."),
]
TrainFrom = Annotated[
    str | None,
    typer.Option(
        "--train-from", metavar="TASK", help="The task whose training data stands in for the task's own: say it aloud."
    ),
]
Lock = Annotated[
    Path | None,
    typer.Option(
        "--lock", metavar="FILE", show_default="in the cache",
        help="Hub data: where the digest of each source at first use is kept; other rows later are refused.",
    ),
]  # fmt: skip
AcceptData = Annotated[
    bool,
    typer.Option("--accept-data", help="Hub data: rows that differ from first use are right from now on."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]


def one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    """Return `value`, or refuse it in one line that names what is known."""
    if value not in known:
        raise UsageError(f"{option}: '{value}' is not one of {', '.join(known)}.{did_you_mean(value, known)}")
    return value


def names(option: str, text: str | None) -> tuple[str, ...] | None:
    """Split ``a,b`` into names; None stays None."""
    if text is None:
        return None
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UsageError(f"{option}: '{text}' has an empty name; write names with one comma between, such as a,b")
    return parts


def pattern(option: str, text: str | None, number: type[int] | type[float]) -> dict[str, float] | None:
    """Read ``ffn_up=16,3=4`` as a dict; None stays None."""
    found: dict[str, float] = {}
    for each in names(option, text) or ():
        where, equals, value = each.partition("=")
        try:
            found[where.strip()] = number(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"{option}: cannot read '{each}'; write a place and a number, such as ffn_up=16")
    return found or None


def layer_numbers(text: str | None) -> tuple[int, ...] | None:
    """Read ``0-3,5`` as (0, 1, 2, 3, 5). Layers count from 0; None stays None."""
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"--layers: cannot read '{part.strip()}'; write layers from 0, such as 0-3,5")
        found.extend(range(int(first), int(last) + 1 if dash else int(first) + 1))
    if len(set(found)) != len(found):
        raise UsageError(f"--layers: '{text}' names a layer twice")
    return tuple(found)


def languages_of(text: str) -> str | tuple[str, ...]:
    """Read ``all``, the name of a benchmark (``xtreme-r``) or ``en,de``."""
    return text if text in ("all", *LANGUAGE_SETS) else names("--languages", text) or ()


def backbone(base: str | None, dtype: str = "fp32", device: str = "auto", **memory: Any) -> Backbone:
    """The backbone that the options name. Arguments are checked before torch is imported.

    Args:
        memory: bits, embeddings, checkpointing, compile and load, as of `Backbone`.
    """
    one_of("--dtype", dtype, ("fp32", "bf16"))
    one_of("--device", device, ("auto", "cpu", "cuda"))
    one_of("--embeddings", memory.get("embeddings", "device"), ("device", "cpu"))
    if memory.get("bits") not in (None, 8, 4):
        raise UsageError(f"--bits: {memory['bits']} is not one of 8, 4; without it the weights keep all bits")
    from adapterxl.backbone import Backbone

    return Backbone(base, dtype=dtype, device=device, **memory)


def data_source(data: Path | None, lock: Path | None, accept: bool) -> str | Path | HubData | None:
    """Return what --data, --lock and --accept-data name together."""
    from adapterxl.data import hub_or_folder

    return hub_or_folder(data, lock, accept)


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to stdout, as wide as the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(header):  # names in the first column are there to be copied
        table.add_column(name, overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)
