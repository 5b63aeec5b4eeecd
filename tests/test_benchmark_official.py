"""The comparison with official scripts runs what it is given, notices differences, and names what was not run."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
WRONG = "def evaluate(dataset, predictions, lang):\n    return {'exact_match': 50.0, 'f1': 50.0}\n"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import official_metrics

    return official_metrics


def test_what_is_not_given_is_named_and_what_differs_fails(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, script = tmp_path / "out.json", tmp_path / "mlqa.py"
    script.write_text(WRONG, encoding="utf-8")
    assert bench.main(["--cases", "3", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert {"xtreme", "mlqa", "squad_v1", "squad_v2", "seqeval"} <= set(report["not_run"])
    assert "Not run, as no script was given: xtreme, mlqa" in capsys.readouterr().out
    assert [row["metrics"] for row in report["comparisons"]] == ["macro_f1", "weighted_f1", "qqp"]
    assert bench.main(["--cases", "3", "--mlqa", str(script), "--out", str(out)]) == 1
    rows = json.loads(out.read_text(encoding="utf-8"))["comparisons"]
    assert [row["differing"] for row in rows[:3]] == [0, 0, 0] and min(row["differing"] for row in rows[3:]) > 0
    content = WRONG.encode()
    assert rows[3]["blobs"] == {"mlqa.py": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}


def test_random_answers_are_of_every_sort(bench: ModuleType):
    draw, texts = random.Random(0), []
    for _ in range(300):
        data, predictions, golds = bench.questions(draw, fewest=1)
        assert len(predictions) == len(golds) == len(data[0]["paragraphs"][0]["qas"])
        texts += [*predictions.values(), *(answer for gold in golds for answer in gold)]
        texts += ["="] if any(predictions[str(i)] in gold for i, gold in enumerate(golds)) else []
    for sort in ("", "...", "。", "กรุงเทพ", "中国", "القاهرة"):
        assert any(text.strip() == sort for text in texts), sort
    assert texts.count("=") > 100


def test_the_recorded_comparison_has_a_thousand_cases_of_each_and_none_differs():
    report = json.loads((FOLDER / "results" / "official_metrics.json").read_text(encoding="utf-8"))
    assert report["not_run"] == []
    assert all(row["cases"] == 1000 and row["differing"] == 0 for row in report["comparisons"])
    compared = " ".join(row["metrics"] for row in report["comparisons"])
    for name in ("squad_v2", "mlqa", "udpos_f1", "span_f1", "map_at_20", "mrr_at_20", "mining", "qqp", "macro_f1"):
        assert name in compared
