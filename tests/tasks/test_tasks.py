"""The shipped tasks: found, consistent and named in errors."""

from __future__ import annotations

import pytest

from adapterxl.errors import TaskError
from adapterxl.evaluation.metrics import get_metric
from adapterxl.tasks import KINDS, Task, all_tasks, get_task
from adapterxl.tasks.base import LANGUAGE_SETS

NAMES = [
    "afriqa", "afriqa_pivot", "afrisenti", "anli", "anli_plus", "bucc", "bucc_gold", "ccg", "codah", "commonsenseqa",
    "conjnli", "copa", "cosmosqa", "hellaswag", "lareqa", "mewslix", "mlqa", "mlqa_passages", "mnli", "nusax", "panx",
    "paws", "pawsx", "piqa", "qqp", "siqa", "snli", "squad", "squad_v2", "sst2", "tatoeba", "tydiqa",
    "tydiqa_passages", "udpos", "xcopa", "xnli", "xquad", "xquad_passages",
]  # fmt: skip
INTERMEDIATE = {  # the nine of Phang et al. 2020
    "anli_plus", "mnli", "qqp", "squad_v2", "squad", "hellaswag", "ccg", "cosmosqa", "commonsenseqa",
}  # fmt: skip


def test_every_task_file_is_found_and_sorted():
    real = [name for name in all_tasks() if not name.startswith("mini_")]
    assert real == NAMES and len(all_tasks()) == len(NAMES) + 11


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(TaskError, match=r"^No task 'xlni'\. Did you mean 'xnli'\? See: adapterxl list tasks$"):
        get_task("xlni")


def test_changing_the_returned_table_changes_nothing_for_others():
    all_tasks().clear()
    assert get_task("xnli").name == "xnli"


@pytest.mark.parametrize("task", all_tasks().values(), ids=lambda task: task.name)
def test_facts_of_a_task_agree_with_each_other(task: Task):
    assert task.kind in KINDS
    assert task.metrics and task.summary and task.source and task.licence
    assert all(task.kind in get_metric(name).kinds for name in task.metrics)
    assert (bool(task.labels) or task.labels_in_data) == (task.kind in ("classify", "tag")) or task.kind == "choice"
    assert not (task.labels and task.labels_in_data)
    assert len(set(task.labels)) == len(task.labels)
    assert len(set(task.languages)) == len(task.languages) > 0
    assert task.source_language not in task.languages[1:], "the source language comes first"
    assert set(task.context_languages) <= set(task.languages)
    assert all(get_task(part).labels == task.labels and get_task(part).kind == task.kind for part in task.parts)
    assert task.train_from is None or task.train_from in NAMES
    assert set(task.label_aliases.values()) <= set(task.labels)
    if task.name.startswith("mini_"):
        assert task.max_length <= 256, "the positions of the miniature"
    else:
        assert task.max_length == (512 if task.candidates == "context" else 384 if task.kind == "span" else 256)
    for source in task.hub:
        assert set(source.splits) <= {"train", "dev", "test"}
        assert source.splits and source.columns
        assert not source.configs or set(task.languages) <= set(source.configs)
        assert not source.configs or "{config}" in f"{source.config} {source.folder}"


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("xnli", 15),
        ("pawsx", 7),
        ("panx", 40),
        ("udpos", 33),
        ("tydiqa", 9),
        ("xcopa", 11),
        ("tatoeba", 36),
        ("mlqa", 7),
        ("xquad", 12),
        ("afriqa", 10),
        ("nusax", 12),
        ("afrisenti", 14),
        ("bucc", 4),
        ("lareqa", 11),
        ("mewslix", 11),
    ],
)
def test_languages_are_those_of_the_benchmark(name: str, count: int):
    assert len(get_task(name).languages) == count


def test_the_languages_of_xtreme_and_xtreme_r_are_complete():
    # Hu et al. 2020 and Ruder et al. 2021, as in the lists of xtreme/evaluate.py; PAWS-X is not in XTREME-R.
    counts = {n: {name: len(set(found)) for name, found in t.sets.items()} for n, t in all_tasks().items() if t.sets}
    both = {"xnli": 15, "mlqa": 7, "tydiqa": 9}
    more = {"udpos": (33, 38), "panx": (40, 48), "xquad": (11, 12), "tatoeba": (36, 41)}
    expected = {n: {"xtreme": count, "xtreme-r": count} for n, count in both.items()}
    expected |= {n: {"xtreme": one, "xtreme-r": other} for n, (one, other) in more.items()}
    expected |= {"pawsx": {"xtreme": 7}, "bucc": {"xtreme": 4}}
    expected |= {n: {"xtreme-r": 11} for n in ("xcopa", "lareqa", "mewslix")}
    assert {n: found for n, found in counts.items() if not n.endswith("_passages")} == expected
    for task in all_tasks().values():
        assert set(task.sets) <= set(LANGUAGE_SETS)
        assert set(task.sets.get("xtreme", ())) <= set(task.sets.get("xtreme-r", task.languages))


def test_the_first_metric_of_a_target_is_the_one_its_benchmark_ranks_by():
    qa = ("squad", "f1", "exact_match")  # the first is the mean of the other two
    assert all(get_task(name).metrics == qa for name in ("squad", "xquad", "tydiqa", "afriqa", "afriqa_pivot"))
    assert get_task("mlqa").metrics == ("mlqa", "mlqa_f1", "mlqa_exact_match")
    assert get_task("udpos").metrics == ("udpos_f1", "token_accuracy")


def test_tasks_without_own_training_data_name_their_source():
    assert {n: t.train_from for n, t in all_tasks().items() if t.train_from} == {
        "xnli": "mnli",
        "xquad": "squad",
        "xcopa": "copa",
        "mlqa": "squad",
        "afriqa": "squad",
        "afriqa_pivot": "squad",
        "afrisenti": "nusax",
        "pawsx": "paws",
    }
    for task in all_tasks().values():
        if task.train_from:
            source = get_task(task.train_from)
            assert (source.labels, source.kind) == (task.labels, task.kind)
            assert task.source_language in source.languages


def test_the_nine_intermediate_tasks_and_what_is_in_anli_plus():
    assert set(NAMES) >= INTERMEDIATE and all(get_task(name).languages == ("en",) for name in INTERMEDIATE)
    assert get_task("anli_plus").parts == ("snli", "mnli", "anli")


@pytest.mark.parametrize(
    ("name", "key", "spoken"),
    [("mlqa", "de", ("de", "de")), ("mlqa", "de.en", ("en", "de")), ("xquad", "de", ("de", None))],
)
def test_a_language_key_names_the_question_and_the_context(name: str, key: str, spoken: tuple[str, str | None]):
    assert get_task(name).spoken(key) == spoken
