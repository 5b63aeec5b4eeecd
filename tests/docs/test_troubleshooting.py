"""Every message that docs/troubleshooting.md quotes is one that the package can say."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)


@cache
def said() -> list[str]:
    """Every text of the package's source, with a mark for each value that is put in."""
    found = []
    for path in sorted((ROOT / "adapterxl").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def in_one_text(message: str) -> bool:
    """Whether the fixed parts of a message stand in one text of the source, in order."""
    parts = [part.strip(" '") for part in message.split("…")]
    pattern = re.compile(".*?".join(re.escape(part) for part in parts if part), re.DOTALL)
    return any(pattern.search(text) for text in said())


def test_the_page_quotes_messages():
    assert len(QUOTED) >= 35 and len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message):
    assert in_one_text(message)


def test_a_message_of_nobody_is_not_found():
    assert not in_one_text("No task '…' in the moon")
