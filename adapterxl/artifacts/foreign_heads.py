"""Heads of other programs as ours: Hugging Face's classes for a task, and the flexible heads of adapters."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from ..backbone import Backbone
from ..errors import ArtifactError, BackboneError
from ..modules import make_head
from ..tasks import Task
from . import adapterhub_layout
from .foreign_files import Fields, check_shape, is_count, is_text, short
from .module import HeadState
from .peft_layout import PREFIX

# The end of a Hugging Face class's name -> kind of task.
CLASSES = {
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "tag",
    "ForQuestionAnswering": "span",
    "ForMultipleChoice": "choice",
}
_TYPES = {"classification": "classify", "tagging": "tag", "question_answering": "span", "multiple_choice": "choice"}


def kind_of_class(name: object) -> str | None:
    """The kind of task of a class, by its name alone."""
    return next((kind for end, kind in CLASSES.items() if str(name).endswith(end)), None)


def plain_head(
    found: dict[str, Tensor], kind: str | None, labels: Sequence[str] | None, on: Backbone, where: str
) -> HeadState | None:
    """Take a Hugging Face head out of `found` (names without prefix); None where there is none.

    Args:
        kind: What the folder, or the user, says it is; None for nothing.

    Raises:
        ArtifactError: If it is none of Hugging Face's heads for this architecture, or of another kind.
    """
    pooler = [name for name in found if name.startswith(("pooler.dense.", f"{PREFIX[on.model_type]}.pooler.dense."))]
    names = [name for name in found if name.startswith(("classifier.", "qa_outputs.")) and ".lora_" not in name]
    if not names:
        return None
    tensors = {name: found.pop(name) for name in names}
    tensors |= {name.removeprefix(f"{PREFIX[on.model_type]}."): found.pop(name) for name in pooler}
    kind = _kind(tensors, kind, on, where)
    if kind == "choice" or (kind == "classify" and on.model_type == "bert"):
        for end in ("weight", "bias"):  # frozen in training, so not saved: it is the backbone's own
            name = f"pooler.dense.{end}"
            if name not in tensors:
                try:
                    tensors[name] = on.stored(name).float()
                except BackboneError as error:
                    raise ArtifactError(
                        f"{where}: its head needs {name}, which neither this folder nor the backbone holds."
                    ) from error
    return _fitted(kind, tensors, labels, on, where)


def flexible_head(
    fields: Fields, found: dict[str, Tensor], on: Backbone, where: str, labels: Sequence[str] | None
) -> tuple[HeadState, int | None]:
    """Take the head that head_config.json describes out of `found`; with the number of choices it was made for."""
    name = fields.values.get("name")
    inner = fields.values.get("config")
    if inner is None:  # a head of one of Hugging Face's own classes
        kind = kind_of_class(fields.values.get("model_class"))
        head = plain_head(found, kind, labels or _labels(fields), on, where)
        if head is None:
            raise ArtifactError(f"{where}: no head in it that belongs to {fields.values.get('model_class')}.")
        return head, None
    if not isinstance(inner, dict) or not is_text(name):
        raise ArtifactError(
            f"{fields.where}: config, name: found {short(inner)}, {short(name)}, expected an object and a text."
        )
    config = Fields(inner, f"{fields.where}: config")
    kind = _TYPES[config.get("head_type", lambda value: value in _TYPES, f"one of {', '.join(_TYPES)}")]
    two = kind in ("classify", "choice")
    why = ": adapterxl has the library's default head"
    config.must("layers", 2 if two else 1, why=why)
    if two:
        config.must("activation_function", "tanh", why=why)
        config.must("use_pooler", False, False, why)
        config.must("bias", True, True, why)
    choices = config.get("num_choices", is_count, "a whole number", 2) if kind == "choice" else None
    said = config.get("num_labels", lambda value: value is None or is_count(value), "a whole number from 1")
    config.ignore("dropout_prob", "label2id", "activation_function")
    config.done()
    space: Any = SimpleNamespace(hidden=on.hidden, model_type=on.model_type, config=on.config)
    tensors = {}
    for ours in make_head(kind, space, ("",) * 2).tensors():
        key = adapterhub_layout.head_key(ours, kind, str(name))
        if key not in found:
            raise ArtifactError(f"{where}: head weight {key} is missing.")
        tensors[ours] = found.pop(key)
    head = _fitted(kind, tensors, labels or _labels(config), on, where)
    if said is not None and head.labels and len(head.labels) != said:
        raise ArtifactError(f"{config.where}: num_labels: found {said}, but its weights are for {len(head.labels)}.")
    return head, choices


def for_task(head: HeadState | None, task: Task | None, notes: list[str]) -> HeadState | None:
    """The head with the task's labels, its rows in the task's order.

    Raises:
        ArtifactError: If the task has other labels, or is of another kind.
    """
    if head is None or task is None:
        return head
    if head.kind != task.kind:
        raise ArtifactError(f"The head answers {head.kind} tasks, but {task.name} is a {task.kind} task.")
    if head.kind not in ("classify", "tag"):
        return head
    if len(head.labels) != len(task.labels):
        raise ArtifactError(f"The head has {len(head.labels)} labels, but {task.name} has {len(task.labels)}.")
    if _nameless(head.labels):
        notes.append(f"The folder does not name its labels; those of {task.name} were taken, in its order.")
        return HeadState(head.kind, task.labels, head.tensors)
    unknown = sorted(set(head.labels) - set(task.labels))
    if unknown:
        raise ArtifactError(
            f"The head has a label {unknown[0]!r}, which {task.name} has not ({', '.join(task.labels)}). "
            "Give the task's names in the head's order with --labels."
        )
    if head.labels == task.labels:
        return head
    order = [head.labels.index(label) for label in task.labels]
    out = "classifier.out_proj" if "classifier.out_proj.weight" in head.tensors else "classifier"
    moved = {f"{out}.{end}": head.tensors[f"{out}.{end}"][order] for end in ("weight", "bias")}
    return HeadState(head.kind, task.labels, {**head.tensors, **moved})


def _kind(tensors: dict[str, Tensor], said: str | None, on: Backbone, where: str) -> str:
    """The kind of a head, from its weights; where they leave a choice, from what is said."""
    bert = on.model_type == "bert"
    if "qa_outputs.weight" in tensors:
        possible = ["span"]
    elif "classifier.out_proj.weight" in tensors:
        possible = [] if bert else ["classify"]
    else:
        weight = tensors.get("classifier.weight")
        if weight is not None and weight.ndim == 2 and weight.shape[0] == 1:
            possible = ["choice", "classify", "tag"] if bert else ["choice", "tag"]
        elif "pooler.dense.weight" in tensors:
            possible = ["classify"] if bert else []
        else:
            possible = ["classify", "tag"] if bert else ["tag"]
    if (
        said is None and possible and (possible[0] == "choice" or len(possible) == 1)
    ):  # one output is hardly anything else
        return possible[0]
    if said in possible:
        return str(said)
    if said is None and possible:
        raise ArtifactError(f"{where}: its head may be for {' or '.join(possible)}. Say which with --task.")
    raise ArtifactError(
        f"{where}: its head ({', '.join(sorted(tensors))}) is not that of Hugging Face's {on.model_type} class for a "
        f"{said or 'known'} task."
    )


def _fitted(kind: str, tensors: dict[str, Tensor], labels: Sequence[str] | None, on: Backbone, where: str) -> HeadState:
    """The head, once its weights are those of its kind, with their shapes."""
    out = next((tensors[n] for n in ("classifier.out_proj.bias", "classifier.bias") if n in tensors), None)
    count = 0 if out is None or kind not in ("classify", "tag") else out.numel()
    if count and labels is not None and len(labels) != count:
        raise ArtifactError(f"{where}: its head has {count} labels, but {len(labels)} were given: {', '.join(labels)}.")
    if not count and kind in ("classify", "tag"):
        raise ArtifactError(f"{where}: its head is not whole: {', '.join(sorted(tensors))}.")
    names = tuple(labels or (f"label_{index}" for index in range(count))) if count else ()
    if len(set(names)) != len(names):
        raise ArtifactError(f"{where}: a label is there twice: {', '.join(names)}.")
    space: Any = SimpleNamespace(hidden=on.hidden, model_type=on.model_type, config=on.config)
    expected = make_head(kind, space, names).tensors()
    odd = sorted(expected.keys() ^ tensors.keys())
    if odd:
        raise ArtifactError(f"{where}: head weight {odd[0]} {'is missing' if odd[0] in expected else 'has no place'}.")
    for name, tensor in tensors.items():
        check_shape(where, name, tensor, expected[name].shape)
    return HeadState(kind, names, dict(sorted(tensors.items())))


def _labels(config: Fields) -> tuple[str, ...] | None:
    """Labels by index, as label2id has them; None where it only counts."""
    found = config.values.get("label2id")
    if not isinstance(found, dict) or not found:
        return None
    if sorted(map(str, found.values())) != sorted(map(str, range(len(found)))):
        raise ArtifactError(f"{config.where}: label2id: found {short(found)}, expected each index from 0 once.")
    names = tuple(sorted(found, key=lambda label: int(found[label])))
    return None if _nameless(names) else names


def _nameless(labels: Sequence[str]) -> bool:
    return all(label.lower() == f"label_{index}" for index, label in enumerate(labels))
