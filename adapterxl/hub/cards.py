"""Model cards: the README.md of a module folder drawn from its manifest and from scores.

The same inputs give the same bytes: no date, no path and nothing of the machine goes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..artifacts import read_manifest
from ..evaluation.scores import Scores, write_whole
from ..tasks import all_tasks
from . import facts
from .front_matter import base_id, licence_id, metadata, module_data, repo_id, whole, with_metadata
from .markdown import CARD, Markdown, code, licence_text, render
from .results import Result, summarise
from .snippets import with_adapterxl, with_vanilla

__all__ = ["CARD", "card", "complete_card", "write_card"]

# Layout -> the package that loads it.
_PACKAGES = {"peft": "peft", "adapterhub": "adapters", "adapterhub-setup": "adapters", "adapterxl": "adapterxl"}


def card(
    folder: str | Path,
    scores: Sequence[Scores | str | Path] = (),
    *,
    repo: str | None = None,
    base: str | None = None,
    licence: str | None = None,
    limits: Sequence[str] = (),
) -> str:
    """The model card of a module folder, whose files are checked on the way.

    Args:
        scores: Of this module: files written by `evaluate`, or Scores; one a task. Scores of other seeds of the
            same module may stand beside its own: the card then shows means over seeds. None at all gives a card
            that says "not evaluated".
        repo: Hub id that the folder goes to.
        base: Hub id of the backbone, where the manifest has none.
        licence: The hub's short name of the licence, such as apache-2.0; left out if not given.
        limits: What a user should know, one sentence each, beside what the card finds itself.

    Raises:
        ArtifactError: If the folder is no whole module folder.
        BackboneError, UsageError: If scores are of another backbone or module, or are not alike.
        DataError: If a scores file cannot be read.
    """
    from ..artifacts import load  # with torch, which fetching and searching do without

    folder = Path(folder)
    module, manifest = load(folder), read_manifest(folder)
    known_base = base_id(manifest, base)
    read = [item if isinstance(item, Scores) else Scores.load(item) for item in scores]
    results = summarise(manifest, module.digest(), read)
    name = repo_id(repo, "repo").split("/")[-1] if repo else manifest.name
    headless = manifest.head is None
    vanilla = with_vanilla(manifest, known_base)
    task = all_tasks().get(manifest.task)
    front = module_data(manifest, results, name, known_base, licence_id(licence))
    body = render(
        "card.md.j2",
        manifest=manifest,
        what=facts.what(manifest),
        summary=task.summary if task else "",
        results=[_view(result) for result in results],
        several=any(len(result.seeds) > 1 for result in results),
        training=facts.training(manifest, task),
        lineage=facts.lineage(manifest),
        parts=facts.parts(manifest, module),
        notes=manifest.notes,
        base=facts.base(manifest, known_base),
        digest=module.digest(),
        weights=f"{module.size():,}",
        bytes=f"{sum(entry.size for entry in manifest.files.values()):,}",
        repo=repo,
        ours=Markdown(with_adapterxl(manifest, known_base, results[0] if results else None)),
        headless=headless,
        vanilla=Markdown(vanilla) if vanilla else None,
        library=code(_PACKAGES[manifest.layout]),
        limits=[*limits, *facts.limits(manifest, results)],
        licence=licence_text(licence, task),
    )
    return whole(front, body)


def write_card(folder: str | Path, scores: Sequence[Scores | str | Path] = (), **options: Any) -> Path:
    """Write `card(folder, scores, ...)` as README.md into the folder, in one step; returns its path.

    The manifest does not list it: the weights' digests stay what they are, and a card may be drawn again.
    """
    path = Path(folder) / CARD
    write_whole(path, [card(folder, scores, **options)])
    return path


def complete_card(
    folder: Path,
    there: bytes | None,
    *,
    repo: str,
    scores: Sequence[str | Path] = (),
    licence: str | None = None,
    base: str | None = None,
) -> tuple[str, list[str]]:
    """The card that goes to a hub: drawn anew with scores or where there is none; else the one that is there, with
    the metadata that it lacks.

    Args:
        there: Content of the folder's README.md.

    Returns:
        The card, and what is still not known, one sentence each.
    """
    if there is None or scores:
        text = card(folder, scores, repo=repo, base=base, licence=licence)
    else:
        manifest = read_manifest(folder)
        data = module_data(manifest, [], manifest.name, base_id(manifest, base), licence_id(licence))
        given = {"license": licence, "base_model": base}
        text = with_metadata(there, data, {key: value for key, value in given.items() if value}, folder / CARD)
    front = metadata(text.encode(), folder / CARD)[0]
    notes = {
        "license": "the card names no licence: give --licence, such as apache-2.0",
        "base_model": "the card names no base model, as this one has no hub id: give --base someone/name",
    }
    return text, [note for key, note in notes.items() if not front.get(key)]


def _view(result: Result) -> dict[str, Any]:
    """A result as the template reads it."""
    shown = {field: getattr(result, field) for field in ("own", "seeds", "metrics", "rows", "summary", "splits")}
    return shown | {
        "headings": result.metrics,
        "several": len(result.seeds) > 1,
        "coverage": result.coverage,
        "facts": facts.evaluation(result),
    }
