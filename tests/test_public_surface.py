"""The public names are a contract: they are these, they resolve, and importing the package stays cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import adapterxl

PUBLIC = {
    "AdapterXLError", "Backbone", "Bottleneck", "DoRA", "LoRA", "RsLoRA", "Scores", "Settings", "TaskModule",
    "__version__", "add", "average", "compose", "dare", "evaluate", "fuse", "import_folder", "load", "merge", "mix",
    "parse", "prune", "pull", "push", "report", "search", "stack", "svd", "ties", "to_adapters", "to_peft", "train",
}  # fmt: skip


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these_and_no_others():
    assert set(adapterxl.__all__) == PUBLIC
    assert dir(adapterxl) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_every_public_name_resolves_to_something_callable(name):
    assert callable(getattr(adapterxl, name))


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = adapterxl.trian  # type: ignore[attr-defined]


def test_importing_the_package_does_not_import_torch():
    assert run("import sys, adapterxl; print([m for m in ('torch', 'transformers') if m in sys.modules])") == "[]"


@pytest.mark.parametrize("first", ["adapterxl.report", "adapterxl.report.tables", "adapterxl"])
def test_report_is_callable_whatever_was_imported_first(first):
    code = f"import {first}, adapterxl as axl; from adapterxl.report import to_table; print(callable(axl.report))"
    assert run(code) == "True"


def test_report_called_by_its_public_name_is_the_function(monkeypatch):
    monkeypatch.setattr(adapterxl.report, "report", lambda scores, out: (scores, out))
    assert adapterxl.report([1], out="page.html") == ([1], "page.html")


def test_the_version_is_the_one_of_the_installed_package():
    try:
        installed = version("adapterxl")
    except ModuleNotFoundError:
        pytest.skip("adapterxl is not installed in this environment")
    assert adapterxl.__version__ == installed
