"""The benchmark of the training step: its measures are right, its variants comparable, its report complete."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adapterxl.backbone import Backbone
from adapterxl.data.prepare import Item, prepare
from adapterxl.data.resolve import resolve_task
from adapterxl.errors import EngineError

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
WORDS = "The quick brown fox jumps over the lazy dog and sleeps in London".split()
INDEX = """
format: 1
tasks:
  mnli:
    reader: csv
    columns: {text: premise, text_pair: hypothesis, label: label}
    train: {en: [mnli.csv]}
  udpos:
    reader: conllu
    column: upos
    train: {en: [pos.conllu]}
  tydiqa: {reader: squad, train: {en: [qa.json]}}
  copa: {reader: csv, columns: {context: a, question: b, choices: [c, d], label: e}, train: {en: [mnli.csv]}}
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import train_step

    return train_step


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 rows of NLI and of tagging, of very different lengths."""
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(1)
    labels = ("entailment", "neutral", "contradiction")
    pairs = [[" ".join(draw.choices(WORDS, k=draw.randint(1, 30))) for _ in range(2)] for _ in range(24)]
    rows = [f"{a},{b},{labels[i % 3]}" for i, (a, b) in enumerate(pairs)]
    (folder / "mnli.csv").write_text("\n".join(["premise,hypothesis,label", *rows, ""]), encoding="utf-8")
    sentences = [
        "".join(f"{i}\t{w}\t_\t{draw.choice(('NOUN', 'VERB'))}\t_\t_\t_\t_\t_\t_\n" for i, w in enumerate(a.split(), 1))
        for a, _ in pairs
    ]
    (folder / "pos.conllu").write_text("\n".join([*sentences, ""]), encoding="utf-8")
    asked = [
        {"id": str(i), "question": b, "answers": [{"text": a.split()[0], "answer_start": 0}]}
        for i, (a, b) in enumerate(pairs)
    ]
    paragraphs = [{"context": a, "qas": [one]} for (a, _), one in zip(pairs, asked, strict=True)]
    (folder / "qa.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8")
    (folder / "adapterxl-data.yaml").write_text(INDEX, encoding="utf-8")
    return folder


def make(bench: ModuleType, base: Path, data: Path, task: str, method: str) -> list[Any]:
    on = Backbone(base, device="cpu")
    found, source = resolve_task(task, data)
    items = prepare(found.kind, source.load(found, "train", "en").examples, on.tokenizer, 256).items
    return list(bench.make_runners(on, found.kind, found.labels, items, [method], size=4, repeats=2, seed=1))


def command(base: Path, data: Path, out: Path, options: dict[str, object]) -> list[str]:
    given = {"base": base, "data": data, "out": out, "batch-size": 4, "batches": 2, "repeats": 3} | options
    return [text for key, value in given.items() for text in (f"--{key}", str(value))]


@pytest.mark.parametrize(
    ("task", "method"), [("mnli", "lora"), ("udpos", "bottleneck"), ("tydiqa", "lora"), ("mnli", "bottleneck")]
)
def test_analytic_flops_equal_those_that_pytorch_counts(
    bench: ModuleType, tiny_xlmr: Path, data: Path, task: str, method: str
) -> None:
    for runner in make(bench, tiny_xlmr, data, task, method):
        items = runner.batches[0]
        for training in (True, False):
            # Only the math kernel is made of operations that the counter knows.
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                runner.loss(items, training=training).backward()
            assert runner.flops(items) == counter.get_total_flops(), runner.variant


def test_a_saved_storage_counts_once_and_weights_do_not(bench: ModuleType) -> None:
    weight = torch.ones(10, 10, requires_grad=True)
    x = torch.ones(5, 10)

    def forward() -> torch.Tensor:
        y = x @ weight  # keeps x: 200 bytes; its gradient in x is not asked for
        return (y * y).sum() + (y.view(-1) * 1.5).sum()  # keeps y, twice, in one storage: 200 bytes

    assert bench.saved_bytes(forward, [weight]) == 400


def test_peak_memory_counts_what_is_held_at_once(bench: ModuleType) -> None:
    def step() -> None:
        for _ in range(3):
            first = torch.ones(1000)
            second = first.relu()  # both held: 8,000 bytes
            del first, second

    assert bench.peak_bytes(step, torch.device("cpu")) == 8000


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_both_batchings_hold_the_same_items_in_equal_shares(bench: ModuleType, repeats: int) -> None:
    lengths = [3 + i * 7 % 90 for i in range(24)]
    items = [Item(i, [[5] * length], [[0] * length], 0) for i, length in enumerate(lengths)]
    drawn = bench.draw(items, size=4, repeats=repeats, seed=3)
    padding = {}
    for name, batches in drawn.items():
        assert sorted(item.example for batch in batches for item in batch) == list(range(24))
        assert [len(batch) for batch in batches] == [4] * 6
        padding[name] = sum(4 * max(item.tokens for item in batch) for batch in batches)
    assert padding["grouped"] < padding["random"]


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_all_engines_train_the_same_weights_and_packed_rows_keep_least(
    bench: ModuleType, tiny_xlmr: Path, data: Path, method: str
) -> None:
    runners = make(bench, tiny_xlmr, data, "mnli", method)
    losses = bench.check_agreement(runners)
    assert len(losses) == 6
    results = bench.measure(runners, 2, torch.device("cpu"))
    bench.add_ratios(results)
    assert len({result["trained_weights"] for result in results}) == 1
    for result in results:
        over = result["over_packed"]["random"]
        if result["padded"]:
            assert min(over["flops"], over["saved_bytes"], over["peak_bytes"]) > 1
        else:
            assert result["fill"] == 1 and (over["flops"] == 1) == (result["engine"] == "packed")
            assert over["flops"] >= 1  # of the last layer, ours computes what the head looks at
    assert results[0]["over_packed"]["random"]["seconds"] == {"median": 1, "min": 1, "max": 1, "whole": 1}


def test_nothing_is_timed_when_an_engine_computes_something_else(
    bench: ModuleType, tiny_xlmr: Path, data: Path
) -> None:
    runners = make(bench, tiny_xlmr, data, "mnli", "lora")
    padded = next(runner for runner in runners if runner.variant.padded)
    with torch.no_grad():
        next(iter(padded.engine.parameters().values())).mul_(1.5)
    with pytest.raises(EngineError, match=r"^lora, peft engine, padded rows, random batches: .* nothing is timed"):
        bench.check_agreement(runners)


def test_the_report_has_every_figure_and_no_path_of_the_machine(
    bench: ModuleType, tiny_xlmr: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "step.json"
    threads = torch.get_num_threads()
    assert bench.main(command(tiny_xlmr, data, out, {"task": "udpos", "threads": threads})) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["versions"].keys() >= {"torch", "transformers", "peft", "adapters", "adapterxl", "python"}
    assert report["machine"].keys() == {"processor", "system", "cpus", "threads", "gpu"}
    assert report["arguments"] == {
        "task": "udpos", "batch_size": 4, "batches": 2, "repeats": 3, "threads": threads, "method": "both", "seed": 1,
        "device": "cpu",
    }  # fmt: skip
    assert report["rows"] == 24 and [entry["file"] for entry in report["data"]] == ["pos.conllu"]
    assert str(tmp_path) not in out.read_text() and str(tiny_xlmr.parent) not in out.read_text()
    found = [(r["method"], r["engine"], r["padded"], r["batching"]) for r in report["results"]]
    assert found == [
        (method, engine, padded, batching)
        for method, vanilla in (("lora", "peft"), ("bottleneck", "adapters"))
        for engine, padded in (("packed", False), (vanilla, True), (vanilla, False))
        for batching in ("random", "grouped")
    ]
    for result in report["results"]:
        assert len(result["seconds"]) == len(result["cpu_seconds"]) == len(result["tokens"]) == 3
        assert min(result["seconds"]) > 0 and len(result["saved_bytes"]["by_batch"]) == 6
        assert 0 < result["fill"] <= 1 and result["flops"] > 0 and result["peak_bytes"] > 0
        assert result["tokens_per_second"].keys() == result["tokens_per_cpu_second"].keys() == {"median", "min", "max"}
        for over in result["over_packed"].values():
            assert over.keys() == {"flops", "saved_bytes", "peak_bytes", "seconds", "cpu_seconds"}
            assert over["seconds"].keys() == {"median", "min", "max", "whole"}
    assert len({sum(result["tokens"]) for result in report["results"]}) == 1
    shown = capsys.readouterr().out
    assert "adapters, padded" in shown and "tokens/s" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"repeats": 4}, "--repeats 4 x --batches 2 x --batch-size 4 need 32 rows; mnli has 24"),
        ({"task": "mnlli"}, "mnli"),
        ({"task": "copa"}, "kind choice"),
        ({"data": "nowhere"}, "nowhere"),
        ({"base": "./nowhere"}, "No backbone folder"),
    ],
)
def test_bad_input_gives_one_line_and_no_file(
    bench: ModuleType, tiny_xlmr: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: dict[str, object], said: str,
) -> None:  # fmt: skip
    out = tmp_path / "results" / "step.json"
    assert bench.main(command(tiny_xlmr, data, out, options)) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and said in captured.err
    assert captured.err.count("\n") == 1 and not out.parent.exists()


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_count_below_one_is_wrong_usage(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(command(tmp_path, tmp_path, tmp_path / "step.json", {"repeats": value}))
    assert stopped.value.code == 2 and "--repeats" in capsys.readouterr().err
