"""Foreign text in Markdown and YAML: made plain, then escaped, so that it can be read but breaks nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from ..tasks import Task

CARD = "README.md"
DASH = "–"
_LIMIT = 300
_NAME = r"[^\s/\\'\"(),;<>|]+"
# /home/me/x, ~/x, C:\x, file:///x; not and/or, someone/repository or https://host/x
_PATH = re.compile(rf"(?<![\w./\\:~-])(?:file://)?(?:~[\w.-]*|[A-Za-z]:)?[/\\](?:{_NAME}[/\\])*({_NAME})")
_IDENTIFIER = re.compile(r"[\w .,:;+=/()@-]+")
# An underscore inside a word marks nothing.
_SPECIAL = re.compile(r"([\\`*\[\]{}|~$#]|(?<![^\W_])_|_(?![^\W_]))")
_BLOCK_START = re.compile(r"^(?:(\d+)([.)])(?=\s|$)|([-+=]))")


class Markdown(str):
    """Text that is Markdown already. Templates escape everything else that they print."""


def plain(value: object) -> str:
    """One line of printable characters, 300 at most; of absolute paths only the last name is left."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    text = _PATH.sub(lambda found: found[1], " ".join(text.split()))
    return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"


def escape(value: object) -> Markdown:
    """Plain text as Markdown that shows just that text, in paragraphs, lists and table cells alike."""
    text = plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markdown(_BLOCK_START.sub(r"\1\\\2\3", _SPECIAL.sub(r"\\\1", text)))


def code(value: object) -> Markdown:
    """A name or an expression as a code span; escaped text where a code span could not hold it."""
    text = plain(value)
    return Markdown(f"`{text}`") if _IDENTIFIER.fullmatch(text) else escape(text or DASH)


def codes(values: Iterable[object]) -> Markdown:
    """Several names in a row; a dash for none."""
    return Markdown(", ".join(code(value) for value in values) or DASH)


def licence_text(licence: str | None, task: Task | None = None) -> Markdown:
    """What is known of the licences of weights and data."""
    stated = f"{code(licence)}." if licence else "None is stated for these weights."
    data = f" The data of {code(task.name)} has its own: {escape(task.licence)}." if task and task.licence else ""
    return Markdown(stated + data)


def render(template: str, **values: object) -> str:
    """A template of this package with its values, each escaped unless it is Markdown."""
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markdown) else escape(value),
    )
    environment.filters.update(code=code, codes=codes)
    return environment.from_string(files(__package__).joinpath(template).read_text(encoding="utf-8")).render(values)
