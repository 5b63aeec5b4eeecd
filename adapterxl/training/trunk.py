"""Which rows a training reads from the trunk cache: its own, and the dev rows that it is scored on."""

from __future__ import annotations

from ..engines import Engine
from ..engines.packed import PackedEngine
from ..engines.trunk import TrunkCache
from ..errors import UsageError
from .job import Job


def use_trunk_cache(engine: Engine, job: Job, *, progress: bool) -> None:
    """Let an engine read the layers below all that learns from a cache, if the settings ask for it.

    Raises:
        UsageError: If the engine has no such cache, or there is no layer below.
    """
    settings = job.settings
    if settings.trunk_cache is None:
        return
    if not isinstance(engine, PackedEngine):
        raise UsageError(f"Trunk cache: the {job.engine} engine has none; use --engine packed, or leave the cache out.")
    if any(one.task.kind == "mask" for one in job.given):
        raise UsageError("Trunk cache: masks are drawn anew for every batch, so no row comes twice; leave it out.")
    fill(engine.cache_trunk(settings.trunk_cache, settings.trunk_cache_limit * 1e9), job, progress=progress)


def fill(trunk: TrunkCache, job: Job, *, progress: bool) -> None:
    """Add the rows of one job, of all its tasks."""
    for one in job.given:
        for items in [one.rows.items] + ([one.dev.items] if one.dev else []):
            trunk.add((row for item in items for row in zip(item.rows, item.types, strict=True)), progress=progress)
