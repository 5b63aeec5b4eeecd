"""What stands around the numbers of a section: what was compared, the modules, their cost and their origin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from adapterxl.report import formats
from adapterxl.report.lineage import lineage
from adapterxl.report.model import Column, Section
from adapterxl.report.notes import option_text


@dataclass(frozen=True)
class Part:
    """An intermediate module that others were built on, as their folders name it: one digest a seed."""

    name: str
    task: str
    digests: tuple[str, ...]
    training: str
    steps: str
    rows: str


@dataclass(frozen=True)
class Module:
    """One line of the modules table: the modules of a column, one a seed. A dash is what is not recorded.

    Attributes:
        digests: (seed, whole digest) of each.
    """

    position: int
    column: Column
    names: tuple[str, ...]
    method: str
    parameters: str
    size: str
    training: str
    steps: str
    rows: str
    digests: tuple[tuple[int, str], ...]


def facts(section: Section) -> list[tuple[str, str]]:
    """Return what was compared as (term, value) pairs."""
    everything = [scores for _, scores in section.scores]
    base = section.base
    counts = [row.n for group in section.groups if group.primary for row in group.rows if row.n]
    seeds = sorted({scores.seed for scores in everything})
    identity = [f"revision {short(base.revision)}"] if base.revision else []
    identity.append(f"fingerprint {short(base.fingerprint)}")
    options = [
        f"{name} {option_text(value)}"
        for name, value in sorted(everything[0].options.items())
        if value is not None and all(s.options.get(name) == value for s in everything)
    ]
    return [
        ("base", f"{base.name} ({', '.join(identity)})"),
        ("engine", ", ".join(sorted({scores.engine for scores in everything}))),
        ("split", section.split),
        ("metric", ", ".join(group.metric for group in section.groups if group.primary)),
        ("n per language", formats.span((min(low for low, _ in counts), max(high for _, high in counts)))),
        ("seeds" if len(seeds) > 1 else "seed", ", ".join(map(str, seeds))),
        *([("options", ", ".join(options))] if options else []),
    ]


def modules(section: Section) -> list[Module]:
    """Return the modules of a section, one line a column."""
    found = []
    for position, (column, seeded) in enumerate(section.modules()):
        infos = [info for _, info in seeded]
        told = [lineage(info) for info in infos]
        found.append(
            Module(
                position=position,
                column=column,
                names=tuple(dict.fromkeys(info.name for info in infos)),
                method=", ".join(dict.fromkeys(info.method for info in infos)),
                parameters=_range(info.parameters for info in infos),
                size=f" {formats.DASH} ".join(
                    dict.fromkeys(formats.size(info.bytes) for info in infos if info.bytes is not None)
                ) or formats.DASH,
                training=_seconds(info.train_seconds for info in infos),
                steps=_range(one.cost.steps for one in told if one),
                rows=_range(one.cost.rows for one in told if one),
                digests=tuple((seed, info.digest) for seed, info in seeded if info.digest),
            )
        )  # fmt: skip
    return found


def parts(found: Iterable[Section]) -> list[Part]:
    """Return the intermediate modules that the module folders name, by name.

    A folder tells the cost of its own training only. So a part's is known where the module that made it was
    scored too, as in retrieval.
    """
    told = [one for section in found for _, scores in section.scores if (one := lineage(scores.module))]
    cost = {one.own: one.cost for one in told if one.own}
    digests: dict[tuple[str, str], dict[str, None]] = {}
    for one in told:
        for name, task, digest in one.parts:
            digests.setdefault((name, task), {})[digest] = None
    result = []
    for (name, task), of_part in sorted(digests.items()):
        known = [cost[digest] for digest in of_part if digest in cost]
        result.append(
            Part(
                name, task, tuple(of_part), _seconds(one.seconds for one in known),
                _range(one.steps for one in known), _range(one.rows for one in known),
            )
        )  # fmt: skip
    return result


def data_digests(found: Iterable[Section]) -> list[tuple[str, str]]:
    """Return (file, digest) of the training data that the module folders name."""
    told = [lineage(scores.module) for section in found for _, scores in section.scores]
    return sorted({pair for one in told if one for pair in one.data.items()})


def versions(found: Iterable[Section]) -> list[tuple[str, str]]:
    """Return (name, versions) over all scores; several versions of one thing are all named."""
    named: dict[str, dict[str, None]] = {}
    for section in found:
        for _, scores in section.scores:
            for name, version in scores.versions.items():
                named.setdefault(name, {})[version] = None
    return [(name, ", ".join(named[name])) for name in sorted(named)]


def short(digest: str | None) -> str:
    """Return the first 10 signs of a digest, without the name of its algorithm."""
    return (digest or "").rpartition(":")[2][:10]


def _range(values: Iterable[int | None]) -> str:
    known = [value for value in values if value is not None]
    return formats.span((min(known), max(known)) if known else None)


def _seconds(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return formats.duration(fmean(known) if known else None)
