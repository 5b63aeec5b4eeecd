"""The model card of a backbone folder: sizes, languages, results, and how modules name it as their base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..backbone import fingerprint, read_config, weight_files
from ..errors import BackboneError, UsageError
from ..evaluation.scores import write_whole
from .front_matter import backbone_data, repo_id, whole
from .markdown import CARD, Markdown, code, licence_text, plain, render
from .snippets import literal

_OURS = """import adapterxl as axl

backbone = axl.Backbone(base)
print(backbone.model_type, backbone.layers, backbone.fingerprint)
"""
_VANILLA = """import torch
from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained(base, add_pooling_layer=False).eval()
tokenizer = AutoTokenizer.from_pretrained(base)
inputs = tokenizer("The river is longer than the road.", return_tensors="pt")
with torch.no_grad():
    hidden = model(**inputs).last_hidden_state
print(hidden.shape)
"""


def backbone_card(
    folder: str | Path,
    *,
    languages: Sequence[str],
    results: Sequence[Mapping[str, object]] = (),
    about: str = "",
    name: str | None = None,
    repo: str | None = None,
    licence: str | None = None,
    limits: Sequence[str] = (),
) -> str:
    """The model card of a backbone folder.

    Args:
        languages: Those it was trained on.
        results: Rows of a table, all with the same columns in the same order: text and whole numbers as they
            are, other numbers with four digits.
        about: A paragraph on how it was made.
        name: Heading; the repository's or folder's name if not given.
        repo, licence, limits: As for `card`.

    Raises:
        BackboneError: If the folder holds no backbone.
        UsageError: If rows differ in their columns.
    """
    folder = Path(folder)
    sizes = _read(folder)
    columns = list(results[0]) if results else []
    for number, row in enumerate(results, 1):
        if list(row) != columns:
            raise UsageError(f"results: row {number} has the columns {list(row)}, expected {columns} as in row 1.")
    if repo:
        repo_id(repo, "repo")
    name = plain(name or (repo or folder.resolve().name).split("/")[-1])
    data = backbone_data(sizes.model_type, languages, licence, masked=sizes.masked)
    start = f"base = {literal(name)}  # this folder\n\n"
    body = render(
        "backbone.md.j2",
        name=name,
        what=Markdown(
            f"A multilingual encoder ({code(sizes.model_type)}, {sizes.layers} layers). Modules of adapterxl are "
            "trained on it while it stays frozen."
        ),
        about=about,
        sizes=sizes.rows,
        languages=languages,
        fingerprint=sizes.fingerprint,
        columns=columns,
        rows=[[f"{x:.4g}" if isinstance(x, float) else x for x in row.values()] for row in results],
        repo=repo,
        ours=Markdown(start + _OURS),
        vanilla=Markdown(start + _VANILLA),
        limits=limits or ["None are stated."],
        licence=licence_text(licence),
    )
    return whole(data, body)


def write_backbone_card(folder: str | Path, **options: Any) -> Path:
    """Write `backbone_card(folder, ...)` as README.md into the folder, in one step; returns its path."""
    path = Path(folder) / CARD
    write_whole(path, [backbone_card(folder, **options)])
    return path


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a backbone, and the rows of the table that shows them."""

    model_type: str
    layers: int
    fingerprint: str
    masked: bool  # with its head for masked words
    rows: list[tuple[str, str]]


def _read(folder: Path) -> _Sizes:
    """Read the config and the headers of the weight files of a backbone folder.

    Raises:
        BackboneError: If it is none.
    """
    config, files = read_config(folder), weight_files(folder)
    sizes: dict[str, int] = {}
    try:
        for file in files:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():
                    count = 1
                    for width in tensors.get_slice(name).get_shape():
                        count *= width
                    sizes[name] = count
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"{folder}: its weights cannot be read ({error}).") from error
    embeddings = sum(count for name, count in sizes.items() if "embeddings." in name)
    encoder = sum(count for name, count in sizes.items() if "encoder." in name)
    others = sum(sizes.values()) - embeddings - encoder
    labels = {
        "layers": "num_hidden_layers",
        "hidden size": "hidden_size",
        "feed-forward size": "intermediate_size",
        "attention heads": "num_attention_heads",
        "vocabulary": "vocab_size",
        "positions": "max_position_embeddings",
    }
    rows = [("architecture", config["model_type"])]
    rows += [(label, f"{config[key]:,}") for label, key in labels.items() if key in config]
    rows += [("weights of the embeddings", f"{embeddings:,}"), ("weights of the layers", f"{encoder:,}")]
    rows += [("other weights (heads)", f"{others:,}")] if others else []
    rows.append(("bytes of the weight files", f"{sum(file.stat().st_size for file in files):,}"))
    return _Sizes(
        model_type=config["model_type"],
        layers=config.get("num_hidden_layers", 0),
        fingerprint=fingerprint(folder),
        masked=any(name.startswith(("lm_head.", "cls.predictions.")) for name in sizes),
        rows=rows,
    )
