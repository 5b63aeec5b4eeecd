"""What a reader must know before comparing two numbers of a section, each in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from adapterxl.evaluation.scores import Option, Scores
from adapterxl.report.formats import listed
from adapterxl.report.model import Section
from adapterxl.report.predictions import ABSENT, FEW, FEWEST, OTHER
from adapterxl.report.resample import RESAMPLES

_WITHOUT = "where they are needed, intervals are over seeds alone (Student’s t), and one seed has none."


def notes(section: Section) -> list[str]:
    """Return the notes of a section, gravest first; empty where everything was measured alike."""
    return [
        *_partial(section),
        *_perturbed(section),
        *_options(section),
        *_train_from(section),
        *_counts(section),
        *_seeds(section),
        *_same_module(section),
        *_predictions(section),
        *_examples(section),
        *_retrieval(section),
        *_crossed(section),
    ]


def uncertainty(section: Section) -> str:
    """Return what the intervals and tests of a section are, in words."""
    several = any(len(section.seeds(position)) > 1 for position in range(len(section.columns)))
    resampled = section.is_resampled
    if not several and not resampled:
        return "One seed and no predictions: no uncertainty is shown."
    if not several:
        scope = (
            f"The ranges are 95 % intervals over the test examples ({RESAMPLES:,} bootstrap samples). There is one "
            "seed: how far another seed would move a number is not in them."
        )
    elif not resampled:
        scope = (
            "The ranges are 95 % intervals over seeds (Student’s t). How far another test set would move a number "
            "is not in them."
        )
    else:
        scope = (
            f"The ranges are 95 % intervals over test examples ({RESAMPLES:,} bootstrap samples, the same for all "
            "compositions, seeds and parallel languages) and over seeds (Student’s t on what the examples do not "
            "explain, taken alike for all languages of a composition; one seed: the examples alone)."
        )
    paired = " and ".join(["seed"] * several + ["example"] * resampled)
    return (
        f"{scope} A gain is paired by {paired} and tested against 0, two-sided at 5 %, with Holm’s correction over "
        "the languages of a composition (mean gains: over the compositions of the table); the ranges are not "
        "corrected. “No difference shown” says that these data do not tell the two apart, not that they are alike. "
        "The worst language is picked by its mean; its interval is that of any language."
    )


def _partial(section: Section) -> list[str]:
    found = []
    for position, column in enumerate(section.columns):
        missing: dict[str, list[int]] = {}
        for scores in section.of(position):
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


def _perturbed(section: Section) -> list[str]:
    changed = list(dict.fromkeys(column.perturbed for column in section.columns if column.perturbed))
    if not changed:
        return []
    return [
        f"Scored on a perturbed copy of the input ({listed(changed)}): columns marked “input …”. Their gain is the "
        "difference to the same on clean input."
    ]


def _options(section: Section) -> list[str]:
    names = sorted({name for _, scores in section.scores for name in scores.options})
    found = []
    for name in names:
        if name == "perturbation":
            continue
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
    return [f"Seeds differ: {_sides(groups)}. A gain between different seeds has neither interval nor test."]


def _same_module(section: Section) -> list[str]:
    found = []
    for position, column in enumerate(section.columns):
        by_digest: dict[str, list[str]] = {}
        for scores in section.of(position):
            if scores.module.digest:
                by_digest.setdefault(scores.module.digest, []).append(str(scores.seed))
        for seeds in by_digest.values():
            if len(seeds) > 1:
                found.append(
                    f"Seeds {listed(seeds)} of “{column.label}” scored one and the same module: "
                    "their spread says nothing about training."
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


def _predictions(section: Section) -> list[str]:
    absent = [section.scores[place] for place, why in section.missing if why == ABSENT]
    other = [section.scores[place][1].origin for place, why in section.missing if why == OTHER]
    found = []
    if any(why == FEW for _, why in section.missing):
        found.append(f"Some scores are of fewer than {FEWEST} examples, too few to resample: {_WITHOUT}")
    if absent:
        seeds: dict[str, list[str]] = {}
        for column, scores in absent:
            seeds.setdefault(section.columns[column].label, []).append(str(scores.seed))
        names = [f"“{label}” (seed {', '.join(which)})" for label, which in seeds.items()]
        where = "these scores" if len(absent) == len(section.scores) else f"the scores of {listed(names)}"
        found.append(f"No predictions beside {where}: {_WITHOUT}")
    if other:
        found.append(
            f"The predictions beside {listed(other)} do not give all of its values, so they are not used there: "
            + _WITHOUT
        )
    return found


def _examples(section: Section) -> list[str]:
    uneven = [pair for group in section.groups for pair in group.uneven]
    unpaired = [pair for group in section.groups for pair in group.unpaired]
    return [
        *(f"The seeds of {what} scored different examples: {_WITHOUT}" for what in _columns(section, uneven)),
        *(
            f"On {what}, a composition and its baseline scored different examples, so they are not paired."
            for what in _columns(section, unpaired)
        ),
    ]


def _columns(section: Section, pairs: Sequence[tuple[int, str]]) -> list[str]:
    """Return "“a” in de and fr" for each column of the pairs."""
    languages: dict[str, dict[str, None]] = {}
    for column, language in pairs:
        languages.setdefault(section.columns[column].label, {})[language] = None
    return [f"“{label}” in {listed(list(names))}" for label, names in languages.items()]


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
