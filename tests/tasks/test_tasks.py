"""The shipped tasks: found, consistent and named in errors."""

from __future__ import annotations

import pytest

from adapterxl.errors import TaskError
from adapterxl.tasks import KINDS, Task, all_tasks, get_task

NAMES = [
    "codah", "copa", "cosmosqa", "mnli", "panx", "pawsx", "snli", "squad", "tatoeba", "tydiqa", "udpos", "xcopa",
    "xnli", "xquad",
]  # fmt: skip


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
    assert task.metrics and task.summary and task.source
    assert bool(task.labels) == (task.kind in ("classify", "tag"))
    assert len(set(task.labels)) == len(task.labels)
    assert len(set(task.languages)) == len(task.languages) > 0
    assert task.source_language not in task.languages[1:], "the source language comes first"
    assert task.train_from is None or task.train_from in NAMES
    assert set(task.label_aliases.values()) <= set(task.labels)
    if task.name.startswith("mini_"):
        assert task.max_length <= 256, "the positions of the miniature"
    else:
        assert task.max_length == (384 if task.kind == "span" else 256)
    for source in task.hub:
        assert set(source.splits) <= {"train", "dev", "test"}
        assert source.splits and source.columns
        assert not source.configs or set(task.languages) <= set(source.configs)


@pytest.mark.parametrize(
    ("name", "count"),
    [("xnli", 15), ("pawsx", 7), ("panx", 40), ("udpos", 33), ("tydiqa", 9), ("xcopa", 11), ("tatoeba", 36)],
)
def test_languages_are_those_of_the_benchmark(name: str, count: int):
    assert len(get_task(name).languages) == count


def test_tasks_without_own_training_data_name_their_source():
    assert {n: t.train_from for n, t in all_tasks().items() if t.train_from} == {
        "xnli": "mnli",
        "xquad": "squad",
        "xcopa": "copa",
    }
    for name, source in {"xnli": "mnli", "xcopa": "copa", "xquad": "squad"}.items():
        assert get_task(name).labels == get_task(source).labels
        assert get_task(name).kind == get_task(source).kind
