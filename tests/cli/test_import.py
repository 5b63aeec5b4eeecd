"""`adapterxl import` and `compose --head` from the shell: what was taken, left behind and refused is said."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
from foreign import peft_model

from adapterxl.artifacts import load
from adapterxl.backbone import Backbone
from adapterxl.cli import main


@pytest.fixture(scope="module")
def theirs(tiny_xlmr: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, on = tmp_path_factory.mktemp("theirs"), Backbone(tiny_xlmr, device="cpu")
    for name, task_type, kind in (("nli", "SEQ_CLS", "classify"), ("pos", "TOKEN_CLS", "tag")):
        peft_model(on, peft.LoraConfig(task_type=task_type, target_modules=[name == "nli" and "query" or "key"]), kind
                   ).save_pretrained(root / name)  # fmt: skip
    return {"base": tiny_xlmr, "nli": root / "nli", "pos": root / "pos"}


def test_folders_are_imported_and_composed_with_a_head(
    theirs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nli", "pos"):
        out, base = str(tmp_path / name), str(theirs["base"])
        assert main(["import", str(theirs[name]), "--base", base, "--labels", "a,b,c", "--out", out]) == 0
        said = capsys.readouterr()
        assert said.out == f"saved: {out}\n" and "note: The folder names" in said.err
    assert load(tmp_path / "nli").name == "nli" and main(["inspect", str(tmp_path / "nli")]) == 0
    assert "made by: import" in capsys.readouterr().out
    expression = f"merge({tmp_path}/nli, {tmp_path}/pos)"
    assert main(["compose", expression, "--head", "pos", "--out", str(tmp_path / "both")]) == 0
    assert "Heads not taken along: nli (classify)." in capsys.readouterr().err
    both = load(tmp_path / "both")
    assert both.kind == "tag" and both.head is not None and both.head.labels == ("a", "b", "c")
    assert main(["compose", expression, "--head", "qa", "--out", str(tmp_path / "none")]) == 1
    assert "No member 'qa'" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert main(["verify", str(tmp_path / "both"), "--base", str(theirs["base"])]) == 0


def test_a_refused_import_is_one_line_and_writes_nothing(
    theirs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = str(theirs["base"]), str(tmp_path / "new")
    assert main(["import", str(theirs["nli"]), "--base", base, "--task", "udpos", "--out", out]) == 1
    assert main(["import", str(theirs["base"]), "--base", base, "--out", out]) == 1
    assert main(["import", str(theirs["nli"]), "--base", base, "--name", "Not A Name", "--out", out]) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    assert main(["import", str(theirs["nli"]), "--base", base, "--out", str(tmp_path / "mine")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and all(line.startswith("error: ") for line in said)
    assert "a tag task" in said[0] and "no folder of peft or adapters" in said[1]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
