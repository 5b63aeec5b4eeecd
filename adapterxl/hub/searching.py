"""`search`: modules by task, base and language, on the hub by their tags or in a folder by their manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from ..artifacts import read_manifest
from ..console import say
from ..errors import AdapterXLError, HubError, UsageError, did_you_mean
from ..tasks import all_tasks
from .folders import FolderHub
from .front_matter import metadata
from .markdown import CARD, plain
from .remote import Listing, Remote
from .transport import Patience, Wire

HUB = "hub"
LIMIT = 20  # repositories of the hub, unless --limit says otherwise
_TAG = "adapterxl"
_BASE = "base_model:adapter:"
_KINDS = ("lora", "bottleneck", "ia3", "fusion")
_MEAN = "zero-shot-mean"  # as our cards call it in their results


@dataclass(frozen=True)
class Found:
    """A module that search has found; what its card does not say is None or empty.

    Attributes:
        place: Its id on the hub, or its folder.
        task: "" for a composition.
        made_by: "train" or an operator, and the kinds of its parts.
        base: Hub id or name of its backbone.
        languages: Those it was scored in; else that of its training.
        score: "token_accuracy 71.3 %", its zero-shot mean.
        size: Bytes.
    """

    place: str
    task: str
    made_by: str
    base: str | None
    languages: tuple[str, ...]
    score: str | None
    size: int | None


def search(
    hub: str | Path = HUB,
    *,
    task: str | None = None,
    base: str | None = None,
    language: str | None = None,
    limit: int = LIMIT,
    patience: Patience | None = None,
) -> list[Found]:
    """Find modules.

    Args:
        hub: The word `hub` (the Hugging Face hub, or what HF_ENDPOINT names), or a folder of modules.
        task: Name of the task that it was trained for.
        base: Hub id of its backbone; in a folder also its name, or the first eight or more digits of its fingerprint.
        language: Code of a language that it was scored in (or trained in, where it was not scored).
        limit: Most that are given.

    Raises:
        HubError: If the hub does not answer, or there is no such folder.
        UsageError: If an argument cannot be used as given.
    """
    if limit < 1:
        raise UsageError(f"limit: found {limit}, expected a number from 1.")
    if "://" in str(hub):
        raise UsageError(f"hub: found '{hub}', expected the word {HUB} or a folder. Another address: HF_ENDPOINT={hub}")
    wanted = {"task": task, "base": base, "language": language}
    if any(value == "" for value in wanted.values()):
        raise UsageError("task, base, language: found an empty text; leave out what does not matter.")
    if str(hub) != HUB:
        return [found for found in _in_folder(FolderHub(hub)) if _fits(found, **wanted)][:limit]
    if constants.HF_HUB_OFFLINE:
        raise HubError("search: HF_HUB_OFFLINE is set. Unset it, or give a folder of modules.")
    wire = Wire(patience or Patience())
    tags = [_TAG, *([task] if task else []), *([_BASE + base] if base else []), *([language] if language else [])]
    return wire.within("search", lambda: _on_hub(Remote(wire), tags, limit))


def unknown_task(task: str | None) -> str:
    """A hint for a task that is none of ours, where nothing was found; it may still be a user's own."""
    return "" if task is None or task in all_tasks() else did_you_mean(task, all_tasks())


def _on_hub(remote: Remote, tags: Sequence[str], limit: int) -> list[Found]:
    found = []
    for one in remote.search(tags, limit)[:limit]:
        repo, known = str(one.get("id")), [plain(tag) for tag in one["tags"]]
        data = one.get("cardData")
        card: Mapping[str, Any] = data if isinstance(data, dict) else {}
        base = next((tag.removeprefix(_BASE) for tag in known if tag.startswith(_BASE)), None)
        kinds = [tag for tag in known if tag in _KINDS]
        task = next((tag for tag in known if tag in all_tasks()), "")
        try:
            listing: Listing | None = remote.listing(repo, str(one.get("sha") or "main"))
        except HubError as error:
            say([f"{repo}: its size is not known ({error})"])
            listing = None
        sizes = [each.size for each in listing.files.values()] if listing else [None]
        size = None if None in sizes else sum(size or 0 for size in sizes)
        found.append(Found(plain(repo), task, " ".join(kinds), base, _languages(card), _score(card), size))
    return found


def _in_folder(hub: FolderHub) -> Iterable[Found]:
    for folder in hub.modules():
        try:
            manifest = read_manifest(folder)
            card = metadata((folder / CARD).read_bytes(), folder / CARD)[0] if (folder / CARD).is_file() else {}
        except AdapterXLError as error:
            say([f"left out: {error}"])
            continue
        task = all_tasks().get(manifest.task)
        kinds = list(dict.fromkeys(part.kind for part in manifest.parts))
        made = [] if manifest.operator == "train" else [f"{manifest.operator} of"]
        yield Found(
            place=str(folder),
            task=manifest.task,
            made_by=" ".join([*made, *kinds]) or "head",
            base=manifest.base.id or f"{manifest.base.name} ({manifest.base.fingerprint[:12]})",
            languages=_languages(card) or ((task.source_language,) if task else ()),
            score=_score(card),
            size=sum(entry.size for entry in manifest.files.values()),
        )


def _fits(found: Found, task: str | None, base: str | None, language: str | None) -> bool:
    named = found.base or ""
    name, _, rest = named.partition(" (")
    by_digits = base is not None and len(base) >= 8 and (rest.rstrip(")") or "-").startswith(base[:12])
    return (
        (task is None or found.task == task)
        and (base is None or base in (named, name) or by_digits)
        and (language is None or language in found.languages)
    )


def _languages(card: Mapping[str, Any]) -> tuple[str, ...]:
    found = card.get("language")
    return tuple(plain(each) for each in (found if isinstance(found, list) else [found] if found else []))


def _score(card: Mapping[str, Any]) -> str | None:
    """The zero-shot mean of a card's results; of a foreign card's, the first."""
    index = card.get("model-index")
    results = index[0].get("results") if isinstance(index, list) and index and isinstance(index[0], dict) else None
    for wanted in (True, False):
        for result in results if isinstance(results, list) else []:
            try:
                if wanted and result["dataset"].get("config") != _MEAN:
                    continue
                metric = result["metrics"][0]
                return f"{plain(metric.get('name') or metric['type'])} {100 * float(metric['value']):.1f}"
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                continue
    return None
