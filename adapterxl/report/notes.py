"""What a reader must know before comparing two numbers of a section, each in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from adapterxl.evaluation.scores import Option, Scores
from adapterxl.report.formats import listed
from adapterxl.report.tables import Section


def notes(section: Section) -> list[str]:
    """Return the notes of a section, gravest first; empty where everything was measured alike."""
    return [
        *_partial(section),
        *_options(section),
        *_train_from(section),
        *_counts(section),
        *_seeds(section),
        *_same_module(section),
        *_retrieval(section),
        *_crossed(section),
    ]


def uncertainty(section: Section) -> str:
    """Return how the spread in the tables was computed."""
    most = max(len(section.seeds(position)) for position in range(len(section.columns)))
    if most < 2:
        return "One seed: no uncertainty shown."
    return (
        "± is the sample standard deviation (n − 1) over seeds of the value beside it; gains are paired by seed."
        " It says how far a seed moves a number, not how far another test set would."
    )


def _partial(section: Section) -> list[str]:
    found = []
    for position, column in enumerate(section.columns):
        missing: dict[str, list[int]] = {}
        for scores in _of(section, position):
            for language in scores.missing_languages:
                missing.setdefault(language, []).append(scores.seed)
        if missing:
            seeds = section.seeds(position)
            names = [
                language + ("" if len(where) == len(seeds) else f" (seed {', '.join(map(str, where))})")
                for language, where in missing.items()
            ]
            found.append(
                f"Partial: “{column.label}” has no score for {listed(names)}. "
                "Its mean covers fewer languages, so it cannot be compared with a full one."
            )
    return found


def _options(section: Section) -> list[str]:
    names = sorted({name for _, scores in section.scores for name in scores.options})
    found = []
    for name in names:
        groups = _by_value(section, partial(_option, name))
        if len(groups) > 1:
            found.append(f"Option “{name}” differs: {_sides(groups)}. These numbers are not measured alike.")
        elif name == "limit" and next(iter(groups)) != "none":
            found.append(f"At most {next(iter(groups))} examples a language were scored, not all.")
    return found


def _train_from(section: Section) -> list[str]:
    groups = _by_value(section, lambda scores: scores.train_from or scores.task)
    if section.is_retrieval:
        return []
    if len(groups) > 1:
        return [f"The data of the target training differs: {_sides(groups)}."]
    source = next(iter(groups))
    if source == section.task:
        return []
    return [f"Target training used the data of {source}, not of {section.task}."]


def _counts(section: Section) -> list[str]:
    rows = [row for group in section.groups if group.primary for row in group.rows]
    uneven = list(dict.fromkeys(row.label for row in rows if row.n and row.n[0] != row.n[1]))
    if not uneven:
        return []
    return [f"The number of examples differs between columns or seeds for {listed(uneven)}."]


def _seeds(section: Section) -> list[str]:
    groups: dict[str, list[str]] = {}
    for position, column in enumerate(section.columns):
        if not (section.is_retrieval and column.is_backbone):
            groups.setdefault(", ".join(map(str, section.seeds(position))), []).append(column.label)
    if len(groups) < 2:
        return []
    return [f"Seeds differ: {_sides(groups)}. A gain between different seeds has no ±."]


def _same_module(section: Section) -> list[str]:
    found = []
    for position, column in enumerate(section.columns):
        by_digest: dict[str, list[str]] = {}
        for scores in _of(section, position):
            if scores.module.digest:
                by_digest.setdefault(scores.module.digest, []).append(str(scores.seed))
        for seeds in by_digest.values():
            if len(seeds) > 1:
                found.append(
                    f"Seeds {listed(seeds)} of “{column.label}” scored one and the same module: "
                    "their ± says nothing about training."
                )
    return found


def _retrieval(section: Section) -> list[str]:
    if not section.is_retrieval:
        return []
    return ["Nothing is trained for retrieval: the modules are used as they came from intermediate training."]


def _crossed(section: Section) -> list[str]:
    if not any(row.kind == "crossed" for group in section.groups for row in group.rows):
        return []
    return ["Rows with a context in another language than the question stand apart: they are in no mean."]


def _of(section: Section, position: int) -> list[Scores]:
    return [scores for found, scores in section.scores if found == position]


def _by_value(section: Section, value_of: Callable[[Scores], str]) -> dict[str, list[str]]:
    """Return value -> labels of the columns that have it in some seed."""
    groups: dict[str, list[str]] = {}
    for position, scores in section.scores:
        labels = groups.setdefault(value_of(scores), [])
        if section.columns[position].label not in labels:
            labels.append(section.columns[position].label)
    return groups


def _sides(groups: Mapping[str, Sequence[str]]) -> str:
    quoted = {value: listed([f"“{label}”" for label in labels]) for value, labels in groups.items()}
    return "; ".join(f"{value} for {labels}" for value, labels in quoted.items())


def _option(name: str, scores: Scores) -> str:
    return option_text(scores.options.get(name))


def option_text(value: Option) -> str:
    """Return the value of an option as a user writes it."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
