"""`adapterxl verify --deep` and `--trust-foreign`: what they say, and what they refuse, on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import parts_of
from samples import make_module

from adapterxl.artifacts import store
from adapterxl.backbone import Backbone
from adapterxl.cli import main
from adapterxl.operators import compose, merge


def test_deep_walks_the_parents_and_needs_no_backbone(
    tiny_xlmr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = Backbone(tiny_xlmr, device="cpu")
    make_module(on, "nli", parts_of("lora", on)).save(tmp_path / "in/nli")
    compose(merge(tmp_path / "in/nli"), name="both").save(tmp_path / "out/both")
    told = ["verify", str(tmp_path / "out/both"), "--deep", "--among"]
    assert main([*told, str(tmp_path / "in")]) == 0
    assert "merge of 'nli': made again, equal bit for bit" in capsys.readouterr().out
    assert main([*told, str(tmp_path / "out")]) == 1
    assert "'nli'" in (said := capsys.readouterr().err) and "is not here" in said


def test_a_foreign_folder_is_checked_on_trust(
    tiny_xlmr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on = Backbone(tiny_xlmr, device="cpu")
    make_module(on, "nli", parts_of("lora", on)).save(tmp_path / "m")
    (tmp_path / "m" / store.MANIFEST).unlink()
    told = ["verify", str(tmp_path / "m"), "--base", str(tiny_xlmr), "--device", "cpu"]
    assert main(told) == 1
    assert "no adapterxl.json" in capsys.readouterr().err
    assert main([*told, "--trust-foreign"]) == 0
    assert "all accounted for" in (said := capsys.readouterr().out) and "Written by another program" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--trust-foreign", "--deep"], "--trust-foreign"),
        (["--trust-foreign", "--against", "peft"], "--trust-foreign"),
        (["--among", "x"], "--among"),
        (["--deep", "--against", "peft"], "--deep and --against"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "x", *given]) == 1
    assert said in capsys.readouterr().err
