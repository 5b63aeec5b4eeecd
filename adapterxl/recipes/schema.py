"""What a recipe file says, checked field by field before anything runs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from adapterxl.data.augment import read_augmentations
from adapterxl.data.perturb import Perturbation
from adapterxl.data.yamlfile import load_yaml, validate
from adapterxl.errors import CompositionError, UsageError, did_you_mean
from adapterxl.recipes.method import METHOD_OPTIONS, check_method

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")  # as module names are, but never like a number


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModuleStep(_Strict):
    """One module to train. Fields are those of `adapterxl train`; `start` names modules that stand above it."""

    task: str
    method: str = "lora"
    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    sites: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    reduction: int | None = None
    variant: str | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    start: str | None = None
    engine: Literal["packed", "peft", "adapters"] = "packed"
    train_from: str | None = None
    train_languages: tuple[str, ...] | None = None
    limit: int | None = Field(default=None, ge=1)
    augment: str | tuple[str, ...] | None = None
    on_bad_row: Literal["stop", "drop"] = "stop"
    settings: dict[str, Any] = Field(default_factory=dict)

    def method_options(self) -> dict[str, Any]:
        """The fields that describe the method; None where the recipe says nothing."""
        keys = {key for options in METHOD_OPTIONS.values() for key in options}
        return {key: value for key, value in self if key in keys}


class EvaluateStep(_Strict):
    """What to score: one task for one or several modules, compositions, or "none" (the backbone alone)."""

    task: str
    module: str | tuple[str, ...]
    languages: Literal["all", "xtreme", "xtreme-r"] | tuple[str, ...] = "all"
    split: str | None = None
    engine: Literal["packed", "peft", "adapters"] = "packed"
    limit: int | None = Field(default=None, ge=1)
    layer: int | None = Field(default=None, ge=0)
    sweep_layers: tuple[str, ...] | None = None
    pooling: Literal["mean", "cls"] = "mean"
    center: bool = False
    train_from: str | None = None
    head: str | None = None
    tokens_per_batch: int = Field(default=8192, ge=1)
    on_bad_row: Literal["stop", "drop"] = "stop"
    perturb: str | None = None

    @field_validator("perturb")
    @classmethod
    def _perturbation_can_be_read(cls, perturb: str | None) -> str | None:
        try:
            return None if perturb is None else str(Perturbation.parse(perturb))
        except UsageError as error:
            raise ValueError(str(error).removeprefix("perturb: ")) from None

    @property
    def modules(self) -> tuple[str, ...]:
        return (self.module,) if isinstance(self.module, str) else self.module


class Recipe(_Strict):
    """A whole experiment: modules in the order they are trained, then what is scored, then one report.

    With `together`, modules that stand next to each other and do not build on one another are trained in one pass over
    the backbone, as `train` does for several tasks.
    """

    base: str | None = None
    data: str | None = None
    lock: str | None = None
    dtype: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bits: Literal[8, 4] | None = None
    embeddings: Literal["device", "cpu"] = "device"
    checkpointing: bool = False
    compile: bool = False
    together: bool = False
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    vars: dict[str, str] = Field(default_factory=dict)
    sizes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    defaults: dict[str, Any] = Field(default_factory=dict)
    modules: dict[str, ModuleStep] = Field(min_length=1)
    evaluate: tuple[EvaluateStep, ...] = ()
    report: str | None = None

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"a seed stands twice in {list(seeds)}")
        return seeds

    @field_validator("lock")
    @classmethod
    def _lock_is_for_the_hub(cls, lock: str | None, known: ValidationInfo) -> str | None:
        if lock is not None and known.data.get("data") is not None:
            raise ValueError("is for data of the hub, but the recipe names a folder: data; leave one out")
        return lock

    @field_validator("report")
    @classmethod
    def _report_is_a_name(cls, report: str | None) -> str | None:
        if report is not None and (Path(report).name != report or not report.endswith(".html")):
            raise ValueError(f"'{report}': expected a file name that ends in .html; it is written into --out")
        return report


def load_recipe(path: str | Path, changes: Sequence[str] = (), size: str | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        path: The YAML file. Paths in it that start with ``./`` or ``../`` are relative to its folder.
        changes: ``key=value`` each: a variable of the `vars` block, or a field with dots
            (``defaults.epochs=1``, ``modules.nli.limit=100``, of all modules ``modules.*.limit=100``). Values are read
            as YAML.
        size: One of the recipe's `sizes`, blocks of such fields; `changes` come after it.

    Raises:
        AdapterXLError: One line with the file, the field and what was expected.
    """
    path = Path(path)
    content = load_yaml(path)
    if isinstance(content, dict):  # anything else is refused by the schema
        content = _with_variables(path, _with_size(path, content, size), changes)
    recipe = validate(Recipe, content, path)
    _check_names(path, recipe)
    return recipe


def references(expression: str) -> list[str]:
    """The modules that an expression names, in order: names of the recipe's modules, or folders.

    Raises:
        CompositionError: If it cannot be read or names an unknown operator.
    """
    from adapterxl.operators import parse
    from adapterxl.operators.expression import leaves

    return [leaf.reference for leaf in leaves(parse(expression))]


def _with_size(path: Path, content: dict[str, Any], size: str | None) -> dict[str, Any]:
    """Apply the fields of a size: a block in `sizes`, field -> value, in their order."""
    if size is None:
        return content
    sizes = content.get("sizes")
    fields = sizes.get(size) if isinstance(sizes, dict) else None
    if not isinstance(fields, dict):
        known = [str(name) for name in sizes] if isinstance(sizes, dict) else []
        raise UsageError(
            f"--size {size}: {path} has no such block in sizes; it has: {', '.join(known) or 'none'}."
            f"{did_you_mean(size, known)}"
        )
    for key, value in fields.items():
        _set_field(path, content, str(key), value, {})
    return content


def _with_variables(path: Path, content: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Apply the changes, then put the variables in, each path relative to where it was written."""
    variables = content.get("vars") or {}
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise UsageError(f"{path}: vars: expected names with texts, such as shared: ../../shared")
    here = path.resolve().parent
    values = {name: _anchored(value, here) for name, value in variables.items()}
    for name in values:
        given = os.environ.get(f"ADAPTERXL_{name.upper()}")
        if given:
            values[name] = os.path.abspath(given)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise UsageError(f"--set: '{change}' is not key=value, such as defaults.epochs=1")
        if key in values:
            values[key] = _anchored(text, Path.cwd())
        else:
            _set_field(path, content, key, _yaml_value(change, text), values)

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(item) for key, item in value.items()}
        if isinstance(value, list):
            return [put(item) for item in value]
        return _anchored(_VARIABLE.sub(known, value), here) if isinstance(value, str) else value

    def known(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UsageError(f"{path}: no variable '{match[1]}' in vars.{did_you_mean(match[1], values)}")
        return values[match[1]]

    return {key: put(value) for key, value in content.items() if key != "vars"} | {"vars": values}


def _anchored(value: str, folder: Path) -> str:
    return os.path.normpath(folder / value) if value.startswith(("./", "../")) else value


def _yaml_value(change: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set: the value in '{change}' is not YAML") from None


def _set_field(path: Path, content: dict[str, Any], key: str, value: Any, variables: dict[str, str]) -> None:
    *folders, last = key.split(".")
    if not folders and key not in Recipe.model_fields:
        known = [*variables, *Recipe.model_fields]
        raise UsageError(f"--set: '{key}' is no variable and no field of {path}.{did_you_mean(key, known)}")
    places: list[Any] = [content]
    for part in folders:
        places = [inner for place in places for inner in _inside(place, part)]
    if not places or not all(isinstance(place, dict) for place in places):
        raise UsageError(
            f"--set: {path} has no place '{key}'; name a field such as defaults.epochs or modules.nli.limit"
        )
    for place in places:
        place[last] = deepcopy(value)  # a later change of one is none of another


def _inside(place: Any, part: str) -> list[Any]:
    """What stands in a place under a name or number; under ``*`` everything, nothing where there is no such place."""
    if isinstance(place, dict):
        if part in ("defaults", "settings"):
            place.setdefault(part, {})
        return list(place.values()) if part == "*" else [place[part]] if part in place else []
    if isinstance(place, list):
        return place if part == "*" else [place[int(part)]] if part.isdigit() and int(part) < len(place) else []
    return []


def _check_names(path: Path, recipe: Recipe) -> None:
    """Names are usable as folders, expressions refer to modules above, and options fit their method."""
    above: list[str] = []
    for name, step in recipe.modules.items():
        if not _NAME.fullmatch(name) or name in ("none", "steps", "scores"):
            raise UsageError(
                f"{path}: modules.{name}: a name is lower-case letters, digits, _ and -, and not none, steps or scores"
            )
        start = [] if step.start is None else _references(path, f"modules.{name}.start", step.start)
        for used in start:
            if used not in above and "/" not in used:
                hint = " It stands further down: modules are trained in order." if used in recipe.modules else ""
                raise UsageError(
                    f"{path}: modules.{name}.start: no module '{used}' above it.{hint or did_you_mean(used, above)}"
                )
        try:
            check_method(step.method, step.method_options())
            read_augmentations(step.augment)
        except UsageError as error:
            raise UsageError(f"{path}: modules.{name}.{error}") from None
        above.append(name)
    for position, scored in enumerate(recipe.evaluate):
        place = f"evaluate[{position}].module"
        for text in scored.modules:
            for used in [] if text == "none" else _references(path, place, text):
                if used not in above and "/" not in used:
                    raise UsageError(f"{path}: {place}: no module '{used}'.{did_you_mean(used, above)}")
    for settings in (recipe.defaults, *(step.settings for step in recipe.modules.values())):
        if "seed" in settings:
            raise UsageError(f"{path}: seed: a recipe's seeds stand in its field 'seeds', not in settings")


def _references(path: Path, place: str, text: str) -> list[str]:
    try:
        return references(text)
    except CompositionError as error:
        raise UsageError(f"{path}: {place}: {error}") from None
