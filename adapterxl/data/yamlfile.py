"""Strict YAML: safe values only, no repeated keys, no aliases, errors with file and line or field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from adapterxl.errors import DataError, did_you_mean

MAX_BYTES = 4_000_000  # an index is text that a person wrote

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys (the last would win in silence) and aliases (they can grow)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "found an alias (*name), expected plain values", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                # YAML reads a bare `no` (Norwegian) as false and `1` as a number.
                name = key.value if isinstance(key.value, str) else "here"
                problem = f"found the key {name} as {key.tag.rpartition(':')[2]}, expected text; put it in quotes"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                problem = f"found the key '{key.value}' twice, expected each once"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=True)


def load_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        DataError: If it cannot be read, is too large, or is not plain YAML; names file and line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: found {path.stat().st_size:,} bytes, expected at most {MAX_BYTES:,}.")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: found byte {error.start} that is not UTF-8. Convert the file to UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from error
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else 1
        raise DataError(f"{path}:{line}: {error.problem or error}.") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path}: {error}") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: no YAML that can be read: {error}.") from error


def validate(model: type[Model], raw: Any, path: Path) -> Model:
    """Check a document against its schema.

    Raises:
        DataError: With file, field path, what was found and what was expected; the first of several problems.
    """
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else type(raw).__name__
        raise DataError(f"{path}:1: found {found}, expected keys such as {', '.join(model.model_fields)}.")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{path}: {_first_problem(error, raw, model)}") from error


def _first_problem(error: ValidationError, raw: dict[str, Any], model: type[BaseModel]) -> str:
    problems = error.errors(include_url=False)
    # An unknown key is most often the cause of the others (the right one is then missing), so it goes first.
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    # The last step is the key itself, whatever it looks like.
    keys = [part for part in first["loc"][:-1] if not _is_union_branch(part)] + list(first["loc"][-1:])
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, keys[:-1])
        return f"{place}: unknown key, expected one of: {', '.join(known)}.{did_you_mean(str(keys[-1]), known)}{more}"
    if first["type"] == "missing":
        return f"{place}: missing; it is required.{more}"
    message = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        return f"{'.'.join(filter(None, [place, message]))}.{more}"  # a rule over several fields names one itself
    found = repr(first["input"])
    return f"{place}: found {found if len(found) <= 60 else found[:57] + '...'}; {message}.{more}"


def _is_union_branch(part: int | str) -> bool:
    """Say whether pydantic added this part to tell apart the branches of a union."""
    return isinstance(part, str) and (part in ("str", "int") or "[" in part)


def _fields_at(model: type[BaseModel], keys: list[int | str]) -> list[str]:
    """Return the field names of the schema that holds the last key."""
    current: type[BaseModel] = model
    for key in keys:
        field = current.model_fields.get(str(key))
        if field is None:
            continue  # a free name, such as that of a task
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)), current)
    return list(current.model_fields)
