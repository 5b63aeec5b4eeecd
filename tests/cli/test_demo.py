"""`adapterxl demo` runs on nothing but the package; the whole of it is run by continuous integration."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapterxl import miniature
from adapterxl.artifacts import load
from adapterxl.cli import main

SMALL = """
seeds: [1, 2]
defaults: {max_steps: 2, batch_size: 8}
modules:
  nli: {task: mini_nli, limit: 16}
  xnli: {task: mini_xnli, limit: 16}
  xnli_nli: {task: mini_xnli, limit: 16, start: merge(nli)}
evaluate:
  - {module: [xnli, xnli_nli], task: mini_xnli, languages: [en, de, zh], limit: 12}
report: report.html
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr(miniature, "DEMO_QUICK", tmp_path / "small.yaml")
    monkeypatch.chdir(tmp_path)


def test_a_demo_keeps_every_module_with_its_size_and_ends_with_the_reports_path(small, capsys):
    assert main(["demo", "--quick"]) == 0
    said = capsys.readouterr().out
    for seed in (1, 2):
        for name in ("nli", "xnli", "xnli_nli"):
            assert f"out/demo/seed{seed}/{name}" in said
            load(Path(f"out/demo/seed{seed}/{name}"))
    assert "KiB" in said and "zero-shot" in said
    assert said.rstrip().endswith("report: out/demo/report.html")
    assert "mini_xnli" in Path("out/demo/report.html").read_text(encoding="utf-8")
    assert "merge(nli)" in Path("out/demo/report.csv").read_text(encoding="utf-8")


def test_what_a_demo_says_to_try_next_works(small, capsys):
    assert main(["demo", "--quick"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("try next: adapterxl ")]
    assert len(lines) == 6
    for line in lines:
        assert main(line.removeprefix("try next: adapterxl ").split()) == 0, line
    assert "out/demo/hub/me/module" in capsys.readouterr().out


def test_a_demo_goes_on_where_it_stopped(small, capsys):
    assert main(["demo", "--quick"]) == 0
    shutil.rmtree("out/demo/seed2")
    capsys.readouterr()
    assert main(["demo", "--quick"]) == 0
    said = capsys.readouterr().out
    assert said.count("kept: out/demo/seed1") == 5 and said.count("saved: out/demo/seed2") == 5


@pytest.mark.parametrize("options", [[], ["--quick"]])
def test_a_dry_run_prints_the_plan_and_writes_nothing(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *options, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "train qa: mini_qa" in said and "evaluate" in said
    assert [*tmp_path.iterdir()] == []
