"""What the README shows exists: commands parse, Python compiles and names public things, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import adapterxl
from adapterxl.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("adapterxl ")
]
INLINE = re.findall(r"`(adapterxl (?:train|run|inspect|verify)[^`]*)`", README)


def test_the_readme_shows_commands_at_all():
    assert len(COMMANDS) >= 5 and len(INLINE) >= 3


@pytest.mark.parametrize("line", COMMANDS + INLINE)
def test_every_command_of_the_readme_parses(line):
    _, verb, *arguments = shlex.split(line.split("  #")[0])
    command = get_command(app).commands[verb]
    if verb == "train" and "--out" not in arguments:  # shortened in running text
        arguments += ["--out", "out/x"]
    command.make_context(verb, arguments)


@pytest.mark.parametrize("block", [block for language, block in BLOCKS if language == "python"])
def test_every_python_block_compiles_and_uses_public_names_only(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "axl":
            assert node.attr in adapterxl.__all__


def test_the_two_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README and re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_local_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links and all((ROOT / link).exists() for link in links)
