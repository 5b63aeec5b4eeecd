"""Scores for the tests of reports: small, typed, with values that a reader can check by head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from adapterxl.evaluation.scores import BaseInfo, ModuleInfo, Record, Scores


def make_scores(
    values: Mapping[str, float],
    *,
    composition: str | None = None,
    seed: int = 1,
    task: str = "xnli",
    metric: str = "accuracy",
    records: list[Record] | None = None,
    expected: list[str] | None = None,
    base: str = "aaaa",
    method: str = "lora",
    **changes: Any,
) -> Scores:
    """Return scores with one primary record a language, or with the `records` given."""
    records = records or [
        Record(language=language, split="test", metric=metric, value=value, n=100, primary=True)
        for language, value in values.items()
    ]
    module = ModuleInfo(
        name=changes.pop("name", f"{task}-{seed}"),
        method=method,
        digest=changes.pop("digest", f"sha256:{task}{composition}{seed}"),
        task=changes.pop("trained_for", task),
        composition=composition,
        parameters=changes.pop("parameters", 1000),
        path=changes.pop("path", None),
        bytes=2_500_000,
        train_seconds=65.0,
    )
    engine = changes.pop("engine", "packed")
    return Scores.build(
        task=task,
        base=BaseInfo(name="xlmr", fingerprint=base),
        module=module,
        seed=seed,
        engine=engine,
        records=records,
        expected_languages=expected or list(dict.fromkeys(record.language for record in records)),
        versions={"torch": "2.13.0"},
        seconds=1.0,
        **changes,
    )


def accuracy_rows(right: Mapping[str, Sequence[bool]], prefix: str = "") -> list[dict[str, Any]]:
    """Return prediction rows of accuracy, one an example: language -> which examples are right."""
    return [
        {"language": language, "id": f"{prefix}{place:04d}", "prediction": "yes" if one else "no", "gold": "yes"}
        for language, found in right.items()
        for place, one in enumerate(found)
    ]


def measured_scores(right: Mapping[str, Sequence[bool]], **options: Any) -> Scores:
    """Return scores of accuracy whose values are those of the examples."""
    records = [
        Record(language=language, split="test", metric="accuracy", value=sum(found) / len(found), n=len(found),
               primary=True)
        for language, found in right.items()
    ]  # fmt: skip
    return make_scores({}, records=records, **options)


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., Path]:
    """Write scores with their predictions beside them: language -> which examples are right."""

    def build(name: str, right: Mapping[str, Sequence[bool]], prefix: str = "", **options: Any) -> Path:
        return measured_scores(right, **options).save(tmp_path / f"{name}.json", accuracy_rows(right, prefix))

    return build


@pytest.fixture
def make() -> Callable[..., Scores]:
    return make_scores


@pytest.fixture
def retrieval() -> Callable[..., Scores]:
    """Scores with two directions: language -> (into English, out of English)."""

    def build(values: Mapping[str, tuple[float, float]], **options: Any) -> Scores:
        records = [
            Record(
                language=language, split="test", metric="accuracy", value=value, n=50, primary=True,
                direction=direction,
            )
            for language, pair in values.items()
            for direction, value in zip((f"{language}->en", f"en->{language}"), pair, strict=True)
        ]  # fmt: skip
        return make_scores({}, records=records, task="tatoeba", **options)

    return build
