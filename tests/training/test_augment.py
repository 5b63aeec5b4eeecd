"""Augmented training: which rows are trained on, what the lineage says of them, and what is not gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterxl import Backbone, LoRA, Settings, TaskModule, evaluate, load, mix
from adapterxl.cli import main
from adapterxl.data.augment.codeswitch import CodeSwitch
from adapterxl.data.examples import SpanExample, TagExample
from adapterxl.errors import DataError, TaskError, TrainingError, UsageError
from adapterxl.hub.facts import training as card_rows
from adapterxl.report.lineage import augmentations, variants
from adapterxl.training.job import Job, prepare_job

Fit = Callable[..., TaskModule]


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    (tmp_path / "muse").mkdir()
    (tmp_path / "muse" / "en-de.tsv").write_text("the\tder\nquick\tflink\nfox\tFuchs\ndog\tHund\nbook\tBuch\n")
    return tmp_path / "muse"


@pytest.fixture
def prepared(on: Backbone, data: Path) -> Callable[..., Job]:
    def job(task: Any, **options: Any) -> Job:
        given: dict[str, Any] = dict(
            on=on, method=LoRA(rank=2), settings=Settings(), start=None, engine="packed", data=data, train_from=None,
            train_languages=None, limit=None, name=None, progress=False,
        )  # fmt: skip
        return prepare_job(task, **given | options)

    return job


def test_training_rows_are_switched_and_dev_rows_are_not(prepared: Callable[..., Job], lexicon: Path) -> None:
    how = CodeSwitch(ratio=1.0, lexicon=lexicon)
    for task in ("udpos", "tydiqa"):
        plain, switched = prepared(task), prepared(task, augment=how)
        assert plain.dev == switched.dev and plain.rows.examples != switched.rows.examples
        assert [row.id for row in plain.rows.examples] == [row.id for row in switched.rows.examples]
        for row in switched.rows.examples:
            words = row.words if isinstance(row, TagExample) else row.context.split()  # type: ignore[union-attr]
            assert not {"the", "fox", "dog", "book"} & set(words)
            if isinstance(row, SpanExample):
                assert all(row.context[start : start + len(text)] == text for text, start in row.answers)
        assert plain.request_digest() != switched.request_digest()


def test_the_limit_counts_rows_before_they_are_copied(prepared: Callable[..., Job], lexicon: Path) -> None:
    rows = prepared("udpos", limit=10, augment=f"codeswitch(lexicon={lexicon}, ratio=1, keep=true)").rows.examples
    plain = prepared("udpos", limit=10).rows.examples
    assert [row.id for row in rows if "~" not in row.id] == [row.id for row in plain] and 15 < len(rows) <= 20


def test_the_lineage_names_the_operator_its_counts_and_the_lexicon(fit: Fit, lexicon: Path, tmp_path: Path) -> None:
    fit(augment=f"codeswitch(ratio=0.9, lexicon={lexicon})", out=tmp_path / "m")
    module = load(tmp_path / "m")
    (told,) = module.training["augment"]
    text = "codeswitch(ratio=0.9, languages=[de], lexicon=muse)"  # where the folder lies is nobody else's business
    assert told["operator"] == text == augmentations(module.training) and str(tmp_path) not in json.dumps(told)
    assert told["rows"] == 60 and 40 < told["rows_changed"] <= 60 and len(told["lexicons"]["de"]) == 64
    assert module.training["data_digests"]["lexicon muse, de"] == told["lexicons"]["de"]
    from adapterxl.artifacts import read_manifest

    assert text in dict(card_rows(read_manifest(tmp_path / "m"), None))["augmented by"].replace("\\", "")
    assert "augment" not in fit().training


def test_a_run_is_not_gone_on_with_another_augmentation(
    fit: Fit, lexicon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapterxl.training.together import Together

    settings = {"max_steps": 4, "checkpoint_every": 2}
    how = f"codeswitch(lexicon={lexicon})"
    whole = fit(settings=settings, augment=how)
    step = Together._one_step

    def stopped(self: Together) -> None:
        if self.loops[0].step == 3:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Together, "_one_step", stopped)
        fit(settings=settings, augment=how, out=tmp_path / "cut")
    for other in (None, f"codeswitch(lexicon={lexicon}, ratio=0.4)"):
        with pytest.raises(TrainingError, match="was started otherwise: .*augment"):
            fit(settings=settings, augment=other, out=tmp_path / "cut", resume=True)
    with (lexicon / "en-de.tsv").open("a") as stream:
        stream.write("cow\tKuh\n")
    with pytest.raises(TrainingError, match="was started otherwise: .*augment"):
        fit(settings=settings, augment=how, out=tmp_path / "cut", resume=True)
    (lexicon / "en-de.tsv").write_text("the\tder\nquick\tflink\nfox\tFuchs\ndog\tHund\nbook\tBuch\n")
    assert fit(settings=settings, augment=how, out=tmp_path / "cut", resume=True).digest() == whole.digest()
    with pytest.raises(UsageError, match="nothing to resume"):
        fit(settings=settings, out=tmp_path / "cut", resume=True)


def test_every_task_of_a_mix_is_switched(prepared: Callable[..., Job], lexicon: Path) -> None:
    job = prepared(mix("udpos", "mnli"), augment=f"codeswitch(lexicon={lexicon})")
    assert [one["task"] for one in job.augmented] == ["udpos", "mnli"]
    assert all(one["rows_changed"] > 10 for one in job.augmented)


def test_a_training_of_which_nothing_is_changed_is_refused_and_one_task_of_a_mix_may_stay(
    prepared: Callable[..., Job], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("Der Hund bellt\n" * 30)
    task = "name: words\nkind: mask\nreader: lines\ntrain: {de: [text.txt]}\nsource_language: de\n"
    (tmp_path / "words.yaml").write_text(task)
    (tmp_path / "de.tsv").write_text("the\tder\n")
    how = f"codeswitch(lexicon={tmp_path})"
    job = prepared(mix("udpos", str(tmp_path / "words.yaml")), augment=how)
    assert [one["rows_changed"] > 0 for one in job.augmented] == [True, False]
    with pytest.raises(
        UsageError, match=r"no training row was changed \(.*rows 28, rows_changed 0, .*rows_not_english 28"
    ):
        prepared(str(tmp_path / "words.yaml"), augment=how)
    (tmp_path / "de.tsv").write_text("nowhere\tnirgends\n")
    with pytest.raises(UsageError, match=r"rows_changed 0, rows_without_known_word 60"):
        prepared("udpos", augment=how)


def marked(data: Path, folder: Path) -> Path:
    """The data with German training rows of mnli, said to be machine translated, and French ones that are not."""
    shutil.copytree(data, folder)
    index = json.loads((folder / "adapterxl-data.yaml").read_text())
    own = index["tasks"]["mnli"]
    own["train"] |= {"de": own["train"]["en"], "fr": own["train"]["en"]}
    own["translated"] = ["de"]
    (folder / "adapterxl-data.yaml").write_text(json.dumps(index))
    return folder


def test_translated_rows_are_added_where_the_index_says_that_they_are(
    prepared: Callable[..., Job], data: Path, tmp_path: Path
) -> None:
    mine = marked(data, tmp_path / "marked")
    by_operator = prepared("mnli", data=mine, augment="translated(languages=[de])")
    by_language = prepared("mnli", data=mine, train_languages=["en", "de"])
    assert by_operator.rows.examples == by_language.rows.examples
    assert by_operator.request_digest() == by_language.request_digest()
    told = {"operator": "translated(languages=[de])", "rows": 117, "added": 60}
    assert by_operator.augmented == [told] == by_language.augmented
    assert {row.language for row in by_operator.dev} == {"en"}
    assert prepared("mnli", data=mine, train_languages=["en", "fr"]).augmented == []
    with pytest.raises(UsageError, match=r"does not say that the training rows of mnli in 'fr' are machine translated"):
        prepared("mnli", data=mine, augment="translated(languages=[fr])")
    with pytest.raises(TaskError, match="No training rows of mnli in 'ru'"):
        prepared("mnli", data=mine, augment="translated(languages=[ru])")


def test_translated_and_switched_rows_go_together(
    prepared: Callable[..., Job], data: Path, tmp_path: Path, lexicon: Path
) -> None:
    both = ["translated(languages=[de])", f"codeswitch(lexicon={lexicon})"]
    job = prepared("mnli", data=marked(data, tmp_path / "marked"), augment=both)
    assert [one["operator"].partition("(")[0] for one in job.augmented] == ["translated", "codeswitch"]
    assert job.augmented[1]["rows_not_english"] == 60


def test_an_index_that_marks_languages_without_training_rows_is_refused(
    data: Path, tmp_path: Path, on: Backbone
) -> None:
    mine = marked(data, tmp_path / "marked")
    path = mine / "adapterxl-data.yaml"
    path.write_text(path.read_text().replace('"translated": ["de"]', '"translated": ["ru"]'))
    with pytest.raises(DataError, match="translated: found ru, expected languages of train: en, de, fr"):
        prepare_job(
            "mnli", on=on, method=None, settings=None, start=None, engine="packed", data=mine, train_from=None,
            train_languages=None, limit=None, name=None,
        )  # fmt: skip


def test_command_and_recipe_take_the_same_text(
    lexicon: Path, data: Path, tiny_xlmr: Path, tmp_path: Path, capsys: Any
) -> None:
    how, base = f"codeswitch(ratio=0.8, lexicon={lexicon})", ["--base", str(tiny_xlmr), "--data", str(data)]
    given = ["train", "udpos", *base, "--max-steps", "1", "--limit", "20", "--augment", how]
    assert main([*given, "--dry-run"]) == 0
    assert "augmented by: codeswitch(ratio=0.8, languages=[de], lexicon=muse)" in capsys.readouterr().out
    assert main([*given, "--out", str(tmp_path / "m")]) == 0
    assert main(["inspect", str(tmp_path / "m")]) == 0
    assert "'operator': 'codeswitch(ratio=0.8, languages=[de], lexicon=muse)'" in capsys.readouterr().out
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"vars: {{words: ./muse}}\nbase: {tiny_xlmr}\ndata: {data}\ndefaults: {{max_steps: 1}}\nmodules:\n"
        '  udpos: {task: udpos, limit: 20, augment: "codeswitch(ratio=0.8, lexicon=${words})"}\n'
    )
    run = ["run", str(recipe), "--out", str(tmp_path / "out")]
    assert main([*run, "--dry-run"]) == 0 and "augmented by: codeswitch" in capsys.readouterr().out
    assert main(run) == 0
    assert load(tmp_path / "out/seed1/udpos").digest() == load(tmp_path / "m").digest()
    assert main(run) == 0 and "kept:" in capsys.readouterr().out
    (lexicon / "en-de.tsv").write_text("the\tdie\n")
    assert main(run) == 1 and "changed: augment" in capsys.readouterr().err
    recipe.write_text(recipe.read_text().replace("codeswitch(", "codeswich("))
    assert main(run) == 1 and "modules.udpos.augment: 'codeswich' is not one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("codeswich(lexicon=a)", "Did you mean 'codeswitch'"),
        (
            "codeswitch(lexicon=nowhere)",
            "lexicon nowhere: found nothing, expected a folder with files such as en-de.tsv",
        ),
        ("codeswitch(induced=udpos)", "udpos (tag) is no parallel text"),
        ("codeswitch(induced=tatoeba, languages=[xx])", "no language 'xx'"),
        ("translated(languages=[de])", "No training rows of udpos in 'de'"),
    ],
)
def test_the_command_refuses_in_one_line_what_cannot_be_done(
    how: str, message: str, data: Path, tiny_xlmr: Path, tmp_path: Path, capsys: Any
) -> None:
    given = ["train", "udpos", "--base", str(tiny_xlmr), "--data", str(data), "--augment", how]
    assert main([*given, "--out", str(tmp_path / "m")]) == 1
    said = capsys.readouterr().err
    assert message in said and said.splitlines()[-1].startswith("error: ") and not (tmp_path / "m").exists()


def test_each_of_several_modules_may_have_its_own(fit: Fit, lexicon: Path) -> None:
    how = f"codeswitch(lexicon={lexicon})"
    both: Any = fit({"plain": {"task": "udpos"}, "switched": {"task": "udpos", "augment": how}})
    assert "augment" not in both["plain"].training and "augment" in both["switched"].training


def test_a_report_tells_modules_apart_by_their_augmentation(
    fit: Fit, lexicon: Path, data: Path, on: Backbone, tmp_path: Path
) -> None:
    fit(out=tmp_path / "plain")
    fit(out=tmp_path / "switched", augment=f"codeswitch(lexicon={lexicon})")
    found = [
        evaluate(tmp_path / name, on=on, task="udpos", data=data, progress=False) for name in ("plain", "switched")
    ]
    assert variants(found) == ["augmented by none", "augmented by codeswitch(languages=[de], lexicon=muse)"]
