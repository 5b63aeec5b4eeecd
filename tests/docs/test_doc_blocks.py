"""Every fenced block of README.md and docs/*.md is run on the miniature's data, or is on the list of those not run.

A page is run from top to bottom in a folder of its own: ```bash commands in this process, ```python blocks in one
namespace, and a block after a line such as `my_task.yaml`: is written to that file. ```bash fails: the command fails,
and the ```text block after it shows its message. ```sh (needs a hub, an installation or minutes) is only parsed.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import adapterxl.evaluation.metrics
import adapterxl.operators.expression
import adapterxl.tasks
from adapterxl.cli import app, main
from adapterxl.miniature import BACKBONE

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN_HERE = ("decisions.md", "log.md")  # the records of the project: commands of their day
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in NOT_RUN_HERE)]

# Backbone of all pages, also where a page names none; None: the tiny random one of the tests.
BASE: Path | None = BACKBONE
# What a block names and what it is run with; the folder of the backbone takes the place of the hub id.
HUB_BASE = "FacebookAI/xlm-roberta-base"
SUBSTITUTIONS = {
    r"\bmnli\b": "mini_nli",
    r"\bxnli\b(?!\.)": "mini_xnli",  # not in names of files
    r"\bpanx\b": "mini_xner",
    r"\budpos\b": "mini_xpos",
    r"(?<!reader: )\bsquad\b": "mini_qa",  # not the reader
    r"\btatoeba\b": "mini_bitext",
    r"--dtype bf16|dtype: bf16": "",  # on a CPU it is slow
    r"\bnum_labels=17\b": "num_labels=14",
}
ROWS = {"train": 24, "dev": 8, "test": 8}  # of every task of the miniature
# Blocks of each page that are not run, and why; a new one has to be added here.
UNRUN = {
    "README.md": {"sh": 2, "text": 1},  # make, pip; the road
    "coming-from.md": {"sh": 1},  # jiant
    "concepts.md": {"text": 1},  # the road
    "many-tasks.md": {"sh": 1},  # launchers of several processes
    "miniature.md": {"sh": 1},  # minutes
    "questions.md": {"sh": 3},  # hours, or files beside the checkout
    "sharing.md": {"sh": 1},  # the hub
    "tasks.md": {"sh": 1},  # the hub
}
_FENCE = re.compile(r"^```(\S+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^`([\w./-]+)`:\n\Z", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its language, what follows that, the file it is written to, and its first line's number."""

    language: str
    extra: str
    file: str | None
    text: str
    line: int

    @property
    def runs(self) -> bool:
        return self.language in ("bash", "python") or self.file is not None


def blocks_of(page: Path) -> list[Block]:
    content = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(content):
        named = _FILE.search(content[: match.start()])
        line = content.count("\n", 0, match.start()) + 2
        found.append(Block(match[1], match[2].strip(), named[1] if named else None, match[3], line))
    assert content.count("```") == 2 * len(found), f"{page.name}: a fence without an end or a language"
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a bash block as words; `name=value` lines are variables of the page."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


class Reader:
    """Runs the blocks of one page in order, as a reader would who has nothing but the miniature."""

    def __init__(self, page: Path, folder: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.page, self.folder, self.base, self.capsys = page, folder, base, capsys
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.variables: dict[str, str] = {}
        self.message: str | None = None  # of a command that failed, as its page says

    def run(self, block: Block) -> None:
        place = f"{self.page.name}:{block.line}"
        if block.file is not None:
            target = self.folder / block.file
            assert target.resolve().is_relative_to(self.folder), place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.substituted(block.text), encoding="utf-8")
        elif block.language == "bash":
            self.shell(block, place)
        elif block.language == "python":
            code = compile("\n" * (block.line - 1) + self.substituted(block.text), str(self.page), "exec")
            exec(code, self.names)
        elif block.language == "text" and self.message is not None:
            shown = " ".join(block.text.split())
            assert shown in " ".join(self.message.split()), f"{place}: {self.message}"
            self.message = None

    def shell(self, block: Block, place: str) -> None:
        assert block.extra in ("", "fails"), place
        for words in commands(self.substituted(block.text)):
            name, equals, value = words[0].partition("=")
            if equals and len(words) == 1:
                self.variables[name] = value
                continue
            assert words[0] == "adapterxl", f"{place}: {words[0]} cannot be run here; is it ```sh?"
            words = [re.sub(r"\$(\w+)", lambda found: self.variables[found[1]], word) for word in words[1:]]
            self.capsys.readouterr()
            code = main(words)
            said = self.capsys.readouterr()
            assert code == (1 if block.extra else 0), f"{place}: {' '.join(words)}: {said.err}"
            self.message = said.err if block.extra else None

    def substituted(self, text: str) -> str:
        for pattern, instead in SUBSTITUTIONS.items():
            text = re.sub(pattern, instead, text)
        return text.replace(HUB_BASE, str(self.base))


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def base(tiny_xlmr) -> Path:
    return BASE or tiny_xlmr


@pytest.fixture
def installed(tmp_path, monkeypatch, cache, base) -> Iterator[Path]:
    """A newcomer's place: an empty folder, few rows of the miniature, and what pages add to the package is undone."""
    from adapterxl import backbone
    from adapterxl.miniature import data

    for name, source in data.SOURCES.items():
        few = {split: ROWS[split] for split in source.sizes}
        monkeypatch.setitem(data.SOURCES, name, dataclasses.replace(source, sizes=few))
    monkeypatch.setenv("ADAPTERXL_CACHE", str(cache))
    monkeypatch.setattr(backbone, "BACKBONE", base)
    for package in (adapterxl.tasks, adapterxl.evaluation.metrics, adapterxl.operators):
        below = tmp_path.joinpath(*package.__name__.split("."))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(below)])
    known = dict(adapterxl.operators.expression.OPERATORS)
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()
    adapterxl.operators.expression.OPERATORS.clear()
    adapterxl.operators.expression.OPERATORS.update(known)


def forget() -> None:
    """Look for tasks and metrics anew."""
    adapterxl.tasks._discover.cache_clear()
    adapterxl.evaluation.metrics.all_metrics.cache_clear()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs_from_top_to_bottom(page, installed, base, capsys):
    reader = Reader(page, installed, base, capsys)
    for block in blocks_of(page):
        reader.run(block)
        if block.file is not None:
            forget()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_is_on_the_list(page):
    unrun: dict[str, int] = {}
    before = None
    for block in blocks_of(page):
        shows_a_message = block.language == "text" and before is not None and before.extra == "fails"
        if not block.runs and not shows_a_message:
            unrun[block.language] = unrun.get(block.language, 0) + 1
        before = block
    assert unrun == UNRUN.get(page.name, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_not_run_parse_and_name_targets_of_the_makefile(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for block in blocks_of(page):
        for words in commands(block.text) if block.language == "sh" else ():
            if words[0] == "make":
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), block.line
            if words[0] == "adapterxl":
                get_command(app).commands[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings], link


def test_every_page_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in readme, page.name
