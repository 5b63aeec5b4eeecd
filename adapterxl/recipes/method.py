"""From plain options, as a command line or a recipe gives them, to a method and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapterxl.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from adapterxl.modules import Bottleneck, LoRA
    from adapterxl.training.settings import Settings

# Method -> the options that belong to it; "none" trains the head alone. Written out, as the methods
# themselves import torch; a test holds the two together.
_LORA = ("rank", "alpha", "dropout", "sites", "layers", "rank_pattern", "alpha_pattern")
METHOD_OPTIONS: dict[str, tuple[str, ...]] = {
    "lora": _LORA,
    "rslora": _LORA,
    "dora": _LORA,
    "bottleneck": ("reduction", "variant", "dropout", "layers"),
    "none": (),
}


def check_method(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given (not None), or refuse one that belongs to another method."""
    if name not in METHOD_OPTIONS:
        raise UsageError(
            f"method: '{name}' is not one of {', '.join(METHOD_OPTIONS)}.{did_you_mean(name, METHOD_OPTIONS)}"
        )
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in METHOD_OPTIONS[name]:
            owners = ", ".join(owner for owner, keys in METHOD_OPTIONS.items() if key in keys)
            raise UsageError(f"{key}: belongs to method {owners}, not to {name}; leave it out or change the method")
    return given


def make_method(name: str, options: Mapping[str, Any]) -> LoRA | Bottleneck | None:
    """Build the method; None for "none". An option that belongs to another method is refused."""
    given = check_method(name, options)
    if name == "none":
        return None
    from adapterxl.modules import METHODS

    return METHODS[name](**given)


def make_settings(options: Mapping[str, Any]) -> Settings:
    """Build Settings from the options that were given (not None)."""
    from adapterxl.training.settings import Settings

    return Settings(**{key: value for key, value in options.items() if value is not None})
