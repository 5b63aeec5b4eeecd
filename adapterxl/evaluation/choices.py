"""Which split and which languages an evaluation scores, and which a whole result would have."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.source import DataSource
from ..errors import TaskError, did_you_mean
from ..tasks.base import Task


def choose_split(task: Task, source: DataSource, split: str | None) -> str:
    """The split to score: the one asked for, else the task's own, else the other labelled one."""
    splits = source.splits(task)
    if split is not None:
        if split not in splits or split in ("train", "pool"):
            there = ", ".join(name for name in splits if name not in ("train", "pool")) or "none"
            raise TaskError(f"--split {split}: {task.name} has these evaluation splits in {source.describe}: {there}.")
        return split
    for candidate in (task.eval_split, "test", "dev"):
        if candidate in splits:
            return candidate
    raise TaskError(f"{task.name} has no evaluation split in {source.describe}; found: {', '.join(splits) or 'none'}.")


def choose_languages(
    task: Task, source: DataSource, split: str, languages: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    """Languages to score and languages that a whole result would have. "all" is without crossed languages."""
    there = source.languages(task, split)
    if isinstance(languages, str) and languages in task.sets:
        whole = task.sets[languages]
        found = [language for language in whole if language in there]
        if not found:
            at_hand = ", ".join(there)
            raise TaskError(f"{source.describe} has no language of {languages} for {task.name}; it has: {at_hand}.")
        return found, list(whole)
    if languages == "all":
        own = [key for key in there if len(set(task.spoken(key)) - {None}) == 1]
        return own, list(dict.fromkeys((*task.languages, *own)))
    wanted = languages.split(",") if isinstance(languages, str) else list(languages)
    wanted = list(dict.fromkeys(language.strip() for language in wanted))
    for language in wanted:
        if language not in there:
            raise TaskError(
                f"No language '{language}' for {task.name} {split} in {source.describe}."
                f"{did_you_mean(language, there)} Languages there: {', '.join(there)}."
            )
    return wanted, list(dict.fromkeys(task.spoken(language)[0] for language in wanted))
