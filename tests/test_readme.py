"""What README and docs say in running text holds too: commands parse, names are public, and the README stays short.

Their blocks are run by tests/docs.
"""

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
RECORDS = ("decisions.md", "log.md")
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in RECORDS)]
TEXT = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
PROSE = {name: re.sub(r"```.*?```", "", text, flags=re.DOTALL) for name, text in TEXT.items()}
PYTHON = [(name, block) for name, text in TEXT.items() for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
VERBS = get_command(app).commands
OPTIONS = {
    option
    for command in VERBS.values()
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
} | {"--help"}
_COMMAND = re.compile(rf"`(adapterxl (?:{'|'.join(VERBS)}) [^`|…]*)`")
INLINE = sorted({command for text in PROSE.values() for command in _COMMAND.findall(text) if "..." not in command})
# Options of other programs that pages speak of.
FOREIGN = {
    "troubleshooting.md": {"--local-dir"},
    "coming-from.md": {
        "--tasks", "--model_load_mode", "--model_load_path", "--eval_every_steps", "--no_improvements_for_n_evals",
        "--eval_subset_num",
    },
}  # fmt: skip


def test_the_readme_is_read_in_a_few_minutes():
    assert len(README.splitlines()) <= 130


def test_the_pages_name_commands_and_options_in_running_text():
    assert len(INLINE) >= 5


@pytest.mark.parametrize("line", INLINE)
def test_a_command_in_running_text_parses(line):
    _, verb, *arguments = shlex.split(line)
    if verb == "train" and "--out" not in arguments:  # shortened in running text
        arguments += ["--out", "out/x"]
    VERBS[verb].make_context(verb, arguments)


@pytest.mark.parametrize("page", TEXT)
def test_an_option_in_running_text_is_one_of_a_command(page):
    for inline in re.findall(r"`([^`\n]+)`", PROSE[page]):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", inline):
            assert option in OPTIONS | FOREIGN.get(page, set()), option


@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_a_python_block_uses_public_names_only(page, block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "axl":
            assert node.attr in adapterxl.__all__, page


def test_the_two_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README and re.search(rf"^{target}:", makefile, re.MULTILINE)
