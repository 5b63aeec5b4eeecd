"""All metrics: every module of this package with a METRIC (or several METRICS) is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from adapterxl.errors import UsageError, did_you_mean
from adapterxl.evaluation.metrics.base import Metric

__all__ = ["Metric", "all_metrics", "get_metric"]


@cache
def all_metrics() -> Mapping[str, Metric]:
    """Return name -> metric, in alphabetical order.

    Raises:
        UsageError: If a module of the package defines no metric, or two define the same name.
    """
    found: dict[str, Metric] = {}
    for module_info in pkgutil.iter_modules(__path__):
        if module_info.name == "base":
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        metrics = getattr(module, "METRICS", None) or (getattr(module, "METRIC", None),)
        for metric in metrics:
            if not isinstance(metric, Metric):
                raise UsageError(
                    f"{module.__name__}: expected a Metric named METRIC, or several in METRICS, "
                    f"found {type(metric).__name__}."
                )
            if metric.name in found:
                raise UsageError(f"{module.__name__}: there is already a metric '{metric.name}'; rename one.")
            found[metric.name] = metric
    return MappingProxyType(dict(sorted(found.items())))


def get_metric(name: str) -> Metric:
    """Return the metric of this name.

    Raises:
        UsageError: If there is none; the message names the nearest and lists all.
    """
    known = all_metrics()
    if name not in known:
        raise UsageError(f"No metric '{name}'.{did_you_mean(name, known)} Known metrics: {', '.join(known)}.")
    return known[name]
