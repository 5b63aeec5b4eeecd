"""The YAML at the head of a card, as the hub reads it: made with huggingface_hub, without asking the hub anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..artifacts import Manifest
from ..errors import ArtifactError, UsageError
from ..tasks import all_tasks
from .facts import hub_datasets
from .markdown import plain
from .results import Result

# Layout -> the hub's name of the library that loads it.
LIBRARIES = {
    "peft": "peft",
    "adapterhub": "adapter-transformers",
    "adapterhub-setup": "adapter-transformers",
    "adapterxl": "adapterxl",
}
# Kind of task -> the hub's name of it.
PIPELINES = {
    "classify": "text-classification",
    "tag": "token-classification",
    "span": "question-answering",
    "choice": "multiple-choice",
    "retrieve": "sentence-similarity",
    "mask": "fill-mask",
    "": "feature-extraction",
}
# Our metrics under the names that the hub has.
_METRICS = {
    "token_accuracy": "accuracy",
    "retrieval_accuracy": "accuracy",
    "masked_accuracy": "accuracy",
    "span_f1": "f1",
    "udpos_f1": "f1",
}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{1,40}")
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")


def module_data(
    manifest: Manifest, results: Sequence[Result], name: str, base: str | None, licence: str | None
) -> ModelCardData:
    """Metadata of a module.

    Args:
        name: Of the model in its index of results.
        base: Hub id of the backbone, None where there is none.
    """
    if manifest.kind not in PIPELINES:
        known = ", ".join(kind for kind in PIPELINES if kind)
        raise ArtifactError(f"adapterxl.json of '{manifest.name}': kind: found {manifest.kind!r}, expected: {known}.")
    library = LIBRARIES[manifest.layout]
    kinds = dict.fromkeys(part.kind for part in manifest.parts)
    tags = ["adapterxl", *kinds, *([manifest.operator] if manifest.operator != "train" else [])]
    tags += [manifest.task] if manifest.task else []
    tags += ["adapter-transformers"] if library == "adapter-transformers" else []
    tags += [f"base_model:adapter:{base}"] if base else []
    retrieval = not manifest.kind and any(result.is_retrieval for result in results)
    evaluated = [entry for result in results for entry in _eval_results(manifest, result)]
    trained_in = all_tasks()[manifest.task].source_language if manifest.task in all_tasks() else None
    languages = [language for result in results for language in result.languages] or [trained_in or ""]
    return ModelCardData(
        language=languages_of(languages),
        license=licence,
        library_name=library,
        pipeline_tag=PIPELINES["retrieve" if retrieval else manifest.kind],
        base_model=base,
        base_model_relation="adapter",
        datasets=hub_datasets(manifest) or None,
        metrics=list(dict.fromkeys(_metric(metric) for result in results for metric in result.metrics)) or None,
        tags=[plain(tag) for tag in tags],
        model_name=name if evaluated else None,
        eval_results=evaluated or None,
    )


def backbone_data(model_type: str, languages: Sequence[str], licence: str | None, *, masked: bool) -> ModelCardData:
    """Metadata of a backbone; `masked` says that it has its head for masked words."""
    return ModelCardData(
        language=languages_of(languages),
        license=licence_id(licence),
        library_name="transformers",
        pipeline_tag="fill-mask" if masked else "feature-extraction",
        tags=["adapterxl", model_type],
    )


def _eval_results(manifest: Manifest, result: Result) -> list[EvalResult]:
    """One a language and metric, and the zero-shot mean."""
    task = plain(result.own.task)
    kind = "retrieve" if result.is_retrieval else manifest.kind
    rows = [(row.label, row.split, row) for row in result.rows if row.split]
    over = f"zero-shot mean of {result.coverage}" if result.coverage else "zero-shot mean"
    rows += [(over, ", ".join(result.splits), row) for row in result.summary if row.label == "zero-shot mean"]
    return [
        EvalResult(
            task_type=PIPELINES[kind],
            dataset_type=task,
            dataset_name=f"{task} ({plain(label)})",
            dataset_config=plain(label if row.split else "zero-shot-mean"),
            dataset_split=plain(split),
            dataset_args={"n": row.counts[0]} if row.split else None,
            metric_type=_metric(metric),
            metric_name=plain(metric),
            metric_value=round(value.mean, 4),
            metric_args={"seeds": list(result.seeds)},
            verified=False,
        )
        for label, split, row in rows
        for metric, value in zip(result.metrics, row.values, strict=True)
        if value is not None
    ]


def _metric(name: str) -> str:
    return _METRICS.get(name, plain(name))


def languages_of(found: Sequence[str]) -> list[str] | None:
    """Codes as the hub knows them; others stay in the text alone."""
    return [language for language in dict.fromkeys(found) if _LANGUAGE.fullmatch(language)] or None


def base_id(manifest: Manifest, given: str | None) -> str | None:
    """The hub id of a module's backbone: the manifest's, or the one given where that has none."""
    own = manifest.base.id
    if own is not None:
        repo_id(own, f"base.id of '{manifest.name}'")
    if given is not None:
        repo_id(given, "base")
        if own is not None and own != given:
            raise UsageError(f"base: found '{given}', but the manifest of '{manifest.name}' has {own}. Leave it out.")
    return own or given


def repo_id(text: str, field: str) -> str:
    """A hub id as it is, or a UsageError."""
    try:
        validate_repo_id(text)
    except HFValidationError as error:
        raise UsageError(f"{field}: found '{text}', expected a hub id such as someone/name, not a path.") from error
    if text != text.strip():
        raise UsageError(f"{field}: found {text!r}, expected a hub id without spaces around it.")
    return text


def licence_id(text: str | None) -> str | None:
    """A licence's short name as it is, or a UsageError."""
    if text is not None and not _LICENCE.fullmatch(text):
        raise UsageError(f"licence: found '{text}', expected the hub's short name of one, such as apache-2.0.")
    return text


def metadata(card: bytes, path: Path) -> tuple[dict[str, Any], str]:
    """The metadata of a card, and the text below them; none where it begins with text.

    Raises:
        ArtifactError: If the block at its head is not YAML with text keys.
    """
    try:
        text = card.decode()
        found = _FRONT.match(text)
        if found is None:
            return {}, text
        data = yaml.safe_load(found[1]) or {}
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise ValueError("found no names with values")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: its metadata, between the lines ---, cannot be read: {error}") from error
    return data, text[found.end() :]


def with_metadata(card: bytes, drawn: ModelCardData, given: Mapping[str, str], path: Path) -> str:
    """A card with the metadata that it lacks; what it has stays, but for the fields that are `given` and its tags,
    which are joined."""
    found, body = metadata(card, path)
    wanted = {**drawn.to_dict(), **found, **given}
    known = found.get("tags")
    tags = [*(known if isinstance(known, list) else []), *(drawn.tags or [])]
    wanted["tags"] = list(dict.fromkeys(map(str, tags)))
    if wanted == found:
        return card.decode()
    return _safe(f"---\n{yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True)}---\n{body}")


def whole(data: ModelCardData, body: str) -> str:
    """The card; refuses to hold what looks like a hub token."""
    return _safe(f"---\n{data.to_yaml()}\n---\n{body}")


def _safe(text: str) -> str:
    if _TOKEN.search(text):
        raise ArtifactError("The card would hold what looks like a hub token (hf_...). Take it out of its source.")
    return text
