"""`verify --against`: load a module folder with the vanilla library alone, and compare its answers with ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..artifacts import TaskModule, load, read_manifest
from ..artifacts.module import check_base
from ..backbone import Backbone
from ..errors import EngineError, did_you_mean
from ..ragged import pack
from .loaders import adapters_model, peft_model
from .packed import PackedEngine

AGAINST = ("peft", "adapters")
_LENGTHS = (3, 7, 16, 5, 33, 64)
# Of the largest score; float32 sums in another order differ by less.
_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Verification:
    """Outcome of a comparison: the largest difference relative to the largest score."""

    max_difference: float
    tolerance: float
    rows: int
    passed: bool
    detail: str


@torch.no_grad()
def verify(path: str | Path, *, on: Backbone, against: str | None = None) -> Verification:
    """Compare a folder as the vanilla library runs it (stock padded model) with the packed engine.

    Args:
        path: A module folder.
        on: The backbone it was trained on.
        against: peft or adapters; the library whose layout the folder has by default.

    Raises:
        EngineError: If the folder has no form that this library loads.
    """
    if against is not None and against not in AGAINST:
        raise EngineError(f"--against {against}: expected one of {', '.join(AGAINST)}.{did_you_mean(against, AGAINST)}")
    folder = Path(path)
    module = load(folder)
    check_base(module, on)
    layout = read_manifest(folder).layout
    library = {"peft": "peft", "adapterhub": "adapters", "adapterhub-setup": "adapters"}.get(layout)
    against = against or library
    if library != against or against is None:
        other = f"verify it --against {library}" if library else "only adapterxl runs it"
        raise EngineError(
            f"{folder}: its layout is {layout}, which {against or 'no vanilla library'} does not load; {other}."
        )
    rows = [_row(on, length, seed) for seed, length in enumerate(_LENGTHS)]
    if module.kind == "choice" and module.head is not None:
        rows = rows[: len(rows) // _choices(module) * _choices(module)] or rows[:1] * _choices(module)
    batch = pack(rows).to(on.device)
    hidden = PackedEngine(on, module.parts, None).hidden(batch)
    ours = hidden if module.head is None else module.head.build(on).to(on.device).eval()(hidden, batch)
    model = (peft_model if against == "peft" else adapters_model)(module, folder, on)
    theirs = _run(model, module, on, rows)
    if module.kind not in ("classify", "choice"):
        theirs = theirs[torch.tensor([i for row in batch.order for i in _flat(rows, row)], device=on.device)]
    scale = float(ours.abs().max())
    difference = float((ours - theirs.to(ours.dtype)).abs().max()) / scale
    tolerance = _TOLERANCE[on.dtype]
    what = "hidden states" if module.head is None else f"{module.head.kind} scores"
    return Verification(
        difference, tolerance, len(rows), difference <= tolerance,
        f"{against} and adapterxl differ by {difference:.1e} of the largest of the {what} on {len(rows)} rows of "
        f"{min(map(len, rows))} to {max(map(len, rows))} tokens (allowed: {tolerance:.0e})",
    )  # fmt: skip


def _row(on: Backbone, length: int, seed: int) -> list[int]:
    """Random words between the special tokens of the tokenizer."""
    words = torch.randint(10, on.config.vocab_size - 10, (length,), generator=torch.Generator().manual_seed(seed))
    return [on.tokenizer.cls_token_id, *words.tolist(), on.tokenizer.sep_token_id]


def _choices(module: TaskModule) -> int:
    return int(module.training.get("choices", 2))


def _flat(rows: list[list[int]], row: int) -> range:
    start = sum(len(earlier) for earlier in rows[:row])
    return range(start, start + len(rows[row]))


def _run(model: Any, module: TaskModule, on: Backbone, rows: list[list[int]]) -> Tensor:
    """Scores (rows, outputs), or (tokens, outputs) in the order of `rows`, from a stock padded batch."""
    longest = max(len(row) for row in rows)
    pad = on.config.pad_token_id
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=on.device)
    mask = (torch.arange(longest)[None] < torch.tensor([len(row) for row in rows])[:, None]).long().to(on.device)
    kind = module.head.kind if module.head else None
    if kind == "choice":
        n = _choices(module)
        output = model(input_ids=ids.view(-1, n, longest), attention_mask=mask.view(-1, n, longest))
        return output.logits.flatten()[:, None]
    output = model(input_ids=ids, attention_mask=mask)
    if kind == "classify":
        return output.logits
    if kind == "span":
        scores = torch.stack((output.start_logits, output.end_logits), dim=-1)
    else:
        scores = output[0] if kind is None else output.logits
    return torch.cat([scores[i, : len(row)] for i, row in enumerate(rows)])
