"""Wrong usage is one line on stderr and a code that is not 0, before anything is loaded."""

from __future__ import annotations

import pytest

from adapterxl.cli import main, options
from adapterxl.errors import UsageError

TRAIN = ["train", "udpos", "--out", "never-written"]
WRONG = {
    "unknown verb": (["trian"], 2, "Did you mean 'train'"),
    "unknown option": ([*TRAIN, "--byte", "4"], 2, "--byte"),
    "bits that are not there": ([*TRAIN, "--base", "x", "--bits", "3"], 1, "--bits: 3 is not one of 8, 4"),
    "a memory without a unit": ([*TRAIN, "--base", "x", "--memory", "4"], 1, "a size such as 4GB"),
    "embeddings nowhere": ([*TRAIN, "--base", "x", "--embeddings", "disk"], 1, "'disk' is not one of device, cpu"),
    "missing out": (["train", "udpos"], 2, "--out"),
    "not a number": ([*TRAIN, "--rank", "eight"], 2, "--rank"),
    "unknown method": ([*TRAIN, "--method", "lara"], 1, "bottleneck, none. Did you mean 'lora'?"),
    "unknown engine": ([*TRAIN, "--engine", "adapter"], 1, "Did you mean 'adapters'?"),
    "unknown dtype": ([*TRAIN, "--base", "x", "--dtype", "fp16"], 1, "'fp16' is not one of fp32, bf16"),
    "unknown device": ([*TRAIN, "--base", "x", "--device", "gpu"], 1, "'gpu' is not one of auto, cpu, cuda"),
    "unknown bad-row rule": ([*TRAIN, "--on-bad-row", "skip"], 2, "'skip' is not one of"),
    "rank of a bottleneck": (
        [*TRAIN, "--method", "bottleneck", "--rank", "4"], 1, "rslora, dora, not to bottleneck"
    ),
    "reduction of the head alone": ([*TRAIN, "--method", "none", "--reduction", "4"], 1, "reduction: belongs to"),
    "layers that are no numbers": ([*TRAIN, "--layers", "0-x"], 1, "cannot read '0-x'"),
    "epochs and steps": ([*TRAIN, "--epochs", "1", "--max-steps", "5"], 1, "--epochs and --max-steps"),
    "rows and tokens": ([*TRAIN, "--batch-size", "1", "--tokens-per-batch", "5"], 1, "--tokens-per-batch"),
    "one name for two": ([*TRAIN, "mnli", "--name", "x"], 1, "--name"),
    "an empty site": ([*TRAIN, "--sites", "query,,key"], 1, "--sites"),
    "an unknown site": ([*TRAIN, "--sites", "query,kee"], 1, "Did you mean 'key'?"),
    "an unknown variant": ([*TRAIN, "--method", "bottleneck", "--variant", "seq"], 1, "Did you mean 'seq_bn'?"),
    "a negative rate": ([*TRAIN, "--lr", "-1"], 1, "lr"),
    "a lock of own files": (
        [*TRAIN, "--data", "d", "--lock", "l"], 1, "--lock l: is for data of the hub, found --data d"
    ),
    "own files accepted": (
        ["evaluate", "none", "--task", "udpos", "--data", "d", "--accept-data"], 1, "--accept-data: is for data of"
    ),
    "a recipe that is not there, accepted": (["run", "absent.yaml", "--accept-data"], 1, "absent.yaml"),
    "unknown list": (["list", "task"], 1, "Did you mean 'tasks'?"),
    "an empty language": (["evaluate", "none", "--task", "udpos", "--languages", "de,,fr"], 1, "--languages"),
    "an empty task": (["evaluate", "none", "--task", "udpos,"], 1, "--task: 'udpos,' has an empty name"),
    "verify against what": (["verify", "x", "--against", "torch"], 1, "'torch' is not one of peft, adapters"),
    "report of nothing": (["report", "absent.json"], 1, "absent.json"),
    "inspect of nothing": (["inspect", "absent"], 1, "absent"),
    "run of nothing": (["run", "absent.yaml"], 1, "absent.yaml"),
    "composition of nothing": (["compose", 'merge("absent")', "--out", "never-written"], 1, "absent"),
    "import of nothing": (["import", "absent", "--out", "never-written"], 1, "No folder 'absent'"),
    "import with an empty label": (
        ["import", "absent", "--labels", "a,,b", "--out", "never-written"], 1, "--labels: 'a,,b' has an empty name"
    ),
    "import into nowhere": (["import", "absent"], 2, "--out"),
    "conversion of nothing": (["convert", "absent", "--out", "never-written"], 1, "No folder 'absent'"),
    "head of nobody": (["compose", "merge(absent)", "--head", "x", "--out", "never-written"], 1, "absent"),
    "unknown operator": (["compose", "marge(a, b)", "--out", "never-written"], 1, "Did you mean 'merge'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_and_writes_nothing(case, tmp_path, monkeypatch, capsys):
    arguments, code, said = WRONG[case]
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert said in printed.err
    assert [*tmp_path.iterdir()] == []


def test_layers_are_read_as_ranges():
    assert options.layer_numbers("0-3,5") == (0, 1, 2, 3, 5)
    assert options.layer_numbers(None) is None


@pytest.mark.parametrize("text", ["3-1", "", "1-", "-1", "1,1", "1.5", "²"])
def test_layers_that_make_no_sense_are_refused(text):
    with pytest.raises(UsageError, match="--layers"):
        options.layer_numbers(text)


def test_languages_are_all_those_of_a_benchmark_or_a_list():
    assert [options.languages_of(name) for name in ("all", "xtreme-r")] == ["all", "xtreme-r"]
    assert options.languages_of("en, de") == ("en", "de")


def test_an_interrupt_is_code_130_and_one_line(monkeypatch, capsys):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("adapterxl.artifacts.inspect", interrupted)
    assert main(["inspect", "x"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    def broken(path):
        raise ZeroDivisionError

    monkeypatch.setattr("adapterxl.artifacts.inspect", broken)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "x"])
