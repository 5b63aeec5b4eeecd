"""The recipes of open questions: planned at full size, run at a tiny size; what they compare is there in the scores."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from statistics import fmean
from types import ModuleType

import pytest
from samples import write_data

from adapterxl.cli import main
from adapterxl.errors import UsageError
from adapterxl.evaluation.scores import BaseInfo, ModuleInfo, Record, Scores
from adapterxl.recipes.schema import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
QUESTIONS = ("order_of_tasks", "question_retrieval", "sentiment", "afriqa", "augmentation")
TINY = ["seeds=[1]", "defaults={max_steps: 1, batch_size: 4}", "modules.*.limit=24", "evaluate.*.limit=3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few made-up rows of every task that the recipes name."""
    folder = write_data(tmp_path_factory.mktemp("data"))
    index = json.loads((folder / "adapterxl-data.yaml").read_text())
    tasks = index["tasks"]
    tasks["squad"] = {"reader": "squad", "train": tasks["tydiqa"]["train"]}
    asked = tasks["tydiqa"]["train"]["en"]
    tasks["tydiqa"]["train"] = dict.fromkeys(("en", "ar", "bn", "fi", "id", "ko", "ru", "sw", "te"), asked)
    tasks["xquad"]["test"] = {"en": asked, "de": asked}
    tasks["tatoeba"]["test"] |= dict.fromkeys(("es", "ru", "vi", "zh"), tasks["tatoeba"]["test"]["de"])
    mood = "".join(f"text {n},{('negative', 'neutral', 'positive')[n % 3]}\n" for n in range(30))
    (folder / "mood.csv").write_text("text,label\n" + mood)
    answers = [{"text": "Rome", "answer_start": 0}]
    rows = [{"id": n, "c": f"Rome {n} is old.", "q": "Ina?", "p": "Where?", "a": answers} for n in range(30)]
    (folder / "afriqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"id": "id", "context": "c", "question": "q", "question_pivot": "p", "answers": "a"}
    trained = {code: ["afriqa.jsonl"] for code in ("bem", "fon", "hau", "ibo")}
    tested = trained | {"swa": ["afriqa.jsonl"]}
    index["tasks"]["afriqa"] = {"reader": "jsonl", "columns": columns, "train": trained, "test": tested}
    files = {"train": {"en": ["mood.csv"]}, "test": {"en": ["mood.csv"], "jv": ["mood.csv"]}}
    index["tasks"]["nusax"] = {"reader": "csv", "columns": {"text": "text", "label": "label"}, **files}
    (folder / "adapterxl-data.yaml").write_text(json.dumps(index))
    return folder


def run(name: str, base: Path, data: Path, out: Path, *more: str) -> int:
    given = [f"base={base}", f"data={data}", *more]
    changes = [word for change in given if not change.startswith("--") for word in ("--set", change)]
    flags = [word for flag in more if flag.startswith("--") for word in flag.split()]
    return main(["run", str(RECIPES / f"{name}.yaml"), "--out", str(out), *flags, *changes])


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_planned_at_full_size_on_a_backbone_of_the_hub(name, tiny_xlmr, data, tmp_path, capsys):
    full = load_recipe(RECIPES / f"{name}.yaml")
    assert full.base == "FacebookAI/xlm-roberta-base" and full.seeds == (1, 2, 3)
    limits = {module.limit for module in full.modules.values()}
    assert limits == ({3000} if name == "question_retrieval" else {None}), "as many rows on both sides, or all"
    assert run(name, tiny_xlmr, data, tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out
    for module in full.modules:
        assert f"train {module}: " in said
    assert "trained weights: " in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_run_at_a_tiny_size_and_its_scores_are_those_it_asks_for(name, tiny_xlmr, data, tmp_path):
    more = {"sentiment": ["modules.*.settings={}"], "afriqa": []}.get(name, ["evaluate.*.languages=all"])
    assert run(name, tiny_xlmr, data, tmp_path, "--size small", *TINY, *more) == 0
    found = [Scores.load(path) for path in sorted(tmp_path.glob("seed1/scores/*.json"))]
    assert (tmp_path / "report.html").is_file()
    told = {(scores.task, scores.options.get("perturbation"), scores.module.composition) for scores in found}
    expected = {
        "order_of_tasks": {
            ("xquad", how, start)
            for how in (None, "characters=0.1", "casing=upper")
            for start in (None, "merge(nli, ner_after_nli)", "merge(ner, nli_after_ner)")
        },
        "sentiment": {("nusax", None, start) for start in (None, "merge(nli)", "merge(qa)")},
        "afriqa": {
            (task, None, start)
            for task in ("afriqa", "afriqa_pivot")
            for start in (None, "merge(nli)", "merge(qa)")
        },
    }  # fmt: skip
    expected["question_retrieval"] = {("xquad_passages", None, None)}
    expected["augmentation"] = {("panx", None, start) for start in (None, "merge(nli)")}
    assert told == expected[name]
    counts = {"order_of_tasks": 9, "question_retrieval": 3, "sentiment": 3, "afriqa": 6, "augmentation": 4}
    assert len(found) == counts[name]
    metrics = {"sentiment": "macro_f1", "question_retrieval": "recall_at_10", "augmentation": "span_f1"}
    assert all(metrics.get(name, "squad") in scores.zero_shot_mean for scores in found)
    page = (tmp_path / "report.html").read_text()
    columns = {"question_retrieval": ("tydiqa", "afriqa"), "augmentation": ("augmented by codeswitch",)}
    assert all(column in page for column in columns.get(name, ()))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saved(folder: Path, name: str, composition: str | None, right: dict[str, list[bool]], seed: int) -> str:
    """A scores file with predictions: language -> which examples are right."""
    records = [
        Record(language=language, split="test", metric="accuracy", value=fmean(found), n=len(found), primary=True)
        for language, found in right.items()
    ]
    scores = Scores.build(
        task="xnli", base=BaseInfo(name="xlmr", fingerprint="aa"), seed=seed, engine="packed", records=records,
        module=ModuleInfo(name=name, method="lora", task="xnli", composition=composition), versions={}, seconds=1.0,
        expected_languages=list(right),
    )  # fmt: skip
    rows = [
        {"language": language, "id": f"{n}", "prediction": "a" if good else "b", "gold": "a"}
        for language, found in right.items()
        for n, good in enumerate(found)
    ]
    return str(scores.save(folder / f"{name}{seed}.json", rows))


def test_two_compositions_are_set_against_each_other_by_seed_and_example(tmp_path, capsys):
    half = [n % 2 == 0 for n in range(40)]
    files = [
        saved(tmp_path, name, composition, {"en": half, "de": german, "sw": half}, seed)
        for seed in (1, 2)
        for name, composition, german in (
            ("none", None, half), ("one", "merge(a, b)", [True] * 40), ("other", "merge(b, a)", half)
        )
    ]  # fmt: skip
    assert script("compare").main(["merge(a, b)", "merge(b, a)", *files]) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert (
        lines["de"][1:4] == ["100.0", "50.0", "+50.0"] and lines["de"][-1] == "0.003"
    )  # the smallest there is, times three languages
    assert lines["sw"][1:4] == ["50.0", "50.0", "0.0"] and float(lines["sw"][-1]) == 1.0
    assert lines["mean"][1:4] == ["75.0", "50.0", "+25.0"]
    with pytest.raises(UsageError, match=r"no columns 'merge\(c\)' and .*; there are: no intermediate task; m"):
        script("compare").main(["merge(c)", "merge(b, a)", *files])
    with pytest.raises(UsageError, match="expected: python"):
        script("compare").main(["merge(c)"])


def test_one_command_makes_a_table_of_every_target_with_files(tiny_xlmr, data, tmp_path, capsys):
    rows = "".join(f"a {n}\tb {n}\t{n % 2}\n" for n in range(1040))
    (data / "pawsx").mkdir()
    for language in ("en", "de"):
        (data / f"pawsx/dev-{language}.tsv").write_text(rows)
    index = json.loads((data / "adapterxl-data.yaml").read_text())
    index["tasks"]["pawsx"] = {"reader": "tsv", "header": False, "columns": {"text": 0, "text_pair": 1, "label": 2},
                               "dev": {code: [f"pawsx/dev-{code}.tsv"] for code in ("en", "de")}}  # fmt: skip
    (data / "adapterxl-data.yaml").write_text(json.dumps(index))
    given = ["--base", str(tiny_xlmr), "--data", str(data), "--steps", "1", "--rows", "3", "--out", str(tmp_path)]
    script("all_targets").main(given)
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out and (tmp_path / "report.html").is_file()
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in table.splitlines()[2:]}
    assert set(cells) == {"xnli", "pawsx", "udpos", "xquad", "tydiqa", "panx", "afriqa", "nusax", "tatoeba"}
    assert cells["xquad"][1:5] == ["tydiqa", "test", "1 of 11", "6"] and "squad" in cells["xquad"][6]
    assert cells["pawsx"][1] == "pawsx_rest" and len((tmp_path / "rest.tsv").read_text().splitlines()) == 40
    scores = Scores.load(tmp_path / "udpos.json")
    assert f"udpos_f1 {100 * scores.zero_shot_mean['udpos_f1']:.1f}; token_accuracy" in cells["udpos"][6]
