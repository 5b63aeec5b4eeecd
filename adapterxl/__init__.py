"""The public names of adapterxl. They are imported on first use, so that `import adapterxl` stays fast."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterxl.artifacts import TaskModule as TaskModule
    from adapterxl.artifacts import import_folder as import_folder
    from adapterxl.artifacts import load as load
    from adapterxl.backbone import Backbone as Backbone
    from adapterxl.engines import to_adapters as to_adapters
    from adapterxl.engines import to_peft as to_peft
    from adapterxl.errors import AdapterXLError as AdapterXLError
    from adapterxl.evaluation import evaluate as evaluate
    from adapterxl.evaluation.scores import Scores as Scores
    from adapterxl.hub import pull as pull
    from adapterxl.hub import push as push
    from adapterxl.hub import search as search
    from adapterxl.modules import Bottleneck as Bottleneck
    from adapterxl.modules import LoRA as LoRA
    from adapterxl.operators.compose import compose as compose
    from adapterxl.operators.expression import fuse as fuse
    from adapterxl.operators.expression import merge as merge
    from adapterxl.operators.expression import parse as parse
    from adapterxl.operators.expression import stack as stack
    from adapterxl.report import report as report
    from adapterxl.training import train as train
    from adapterxl.training.sampling import mix as mix
    from adapterxl.training.settings import Settings as Settings

__version__ = "0.1.0"

# Public name -> the module that defines it.
_HOMES = {
    "AdapterXLError": "adapterxl.errors",
    "Backbone": "adapterxl.backbone",
    "Bottleneck": "adapterxl.modules",
    "DoRA": "adapterxl.modules",
    "LoRA": "adapterxl.modules",
    "RsLoRA": "adapterxl.modules",
    "Scores": "adapterxl.evaluation.scores",
    "Settings": "adapterxl.training.settings",
    "TaskModule": "adapterxl.artifacts",
    "add": "adapterxl.operators",
    "average": "adapterxl.operators",
    "compose": "adapterxl.operators",
    "dare": "adapterxl.operators",
    "evaluate": "adapterxl.evaluation",
    "fuse": "adapterxl.operators",
    "import_folder": "adapterxl.artifacts",
    "load": "adapterxl.artifacts",
    "merge": "adapterxl.operators",
    "mix": "adapterxl.training.sampling",
    "parse": "adapterxl.operators",
    "prune": "adapterxl.operators",
    "pull": "adapterxl.hub",
    "push": "adapterxl.hub",
    "report": "adapterxl.report",
    "search": "adapterxl.hub",
    "stack": "adapterxl.operators",
    "svd": "adapterxl.operators",
    "ties": "adapterxl.operators",
    "to_adapters": "adapterxl.engines",
    "to_peft": "adapterxl.engines",
    "train": "adapterxl.training",
}

__all__ = [  # noqa: F822 - most are made by __getattr__
    "AdapterXLError",
    "Backbone",
    "Bottleneck",
    "DoRA",
    "LoRA",
    "RsLoRA",
    "Scores",
    "Settings",
    "TaskModule",
    "__version__",
    "add",
    "average",
    "compose",
    "dare",
    "evaluate",
    "fuse",
    "import_folder",
    "load",
    "merge",
    "mix",
    "parse",
    "prune",
    "pull",
    "push",
    "report",
    "search",
    "stack",
    "svd",
    "ties",
    "to_adapters",
    "to_peft",
    "train",
]


class _CallablePackage(ModuleType):
    """The package `adapterxl.report`, callable as its function `report`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.report(*args, **kwargs)


class _Root(ModuleType):
    """Makes `adapterxl.report` callable: the import system binds that package to the function's public name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "report" and isinstance(value, ModuleType):
            value.__class__ = _CallablePackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'adapterxl' has no attribute '{name}'")
    home = importlib.import_module(_HOMES[name])
    value = home if name == "report" else getattr(home, name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
