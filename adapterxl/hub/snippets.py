"""The Python blocks of a card: how to use a folder with adapterxl, and with the vanilla library that loads it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..artifacts import Manifest
from ..tasks import all_tasks
from .markdown import plain
from .results import Result

_CLASSES = {
    "classify": "AutoModelForSequenceClassification",
    "tag": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "choice": "AutoModelForMultipleChoice",
}
_WIDTH = 100

# Head kind -> what it reads, and what is done with its answer.
_EXAMPLES: dict[str, tuple[str, str]] = {
    "classify": (
        'inputs = tokenizer("A man plays the guitar.", "There is music.", return_tensors="pt")  # or one text\n',
        "    answer = model(**inputs).logits[0].argmax().item()\nprint(labels[answer])\n",
    ),
    "tag": (
        'inputs = tokenizer("The river is longer than the road.", return_tensors="pt")\n',
        "    answers = model(**inputs).logits[0].argmax(-1).tolist()\n"
        'for token, answer in zip(tokenizer.convert_ids_to_tokens(inputs["input_ids"][0]), answers):\n'
        "    print(token, labels[answer])  # the first token of a word is the one that counts\n",
    ),
    "span": (
        'inputs = tokenizer("Who wrote the letter?", "Anna wrote the letter in spring.", return_tensors="pt")\n',
        "    output = model(**inputs)\n"
        "begin, end = output.start_logits.argmax().item(), output.end_logits.argmax().item()\n"
        'print(tokenizer.decode(inputs["input_ids"][0, begin : end + 1]))\n',
    ),
    "choice": (
        "choices = {choices}\n"
        'inputs = tokenizer(["It rained all night."] * len(choices), choices, padding=True, return_tensors="pt")\n'
        "inputs = {{name: tensor[None] for name, tensor in inputs.items()}}  # (1, choices, tokens)\n",
        "    answer = model(**inputs).logits[0].argmax().item()\nprint(choices[answer])\n",
    ),
    "": (
        'inputs = tokenizer("The river is longer than the road.", return_tensors="pt")\n',
        "    hidden = model(**inputs).last_hidden_state\nprint(hidden.shape)\n",
    ),
}
_CHOICES = ("The street is wet.", "The street is dry.", "The street is long.", "The street is old.")


def with_adapterxl(manifest: Manifest, known: str | None, result: Result | None) -> str:
    """Load the folder; where it can be scored, score it as the card's first result was scored.

    Args:
        known: Hub id of the backbone, None where it has none.
    """
    lines = _start(manifest, known)
    at = f", revision={literal(manifest.base.revision)}" if manifest.base.revision else ""
    use = ["import adapterxl as axl", "", "module = axl.load(folder)"]
    task = result.own.task if result else manifest.task
    options = result.own.options if result else {}
    if "dtype" in options:
        at += f", dtype={literal(options['dtype'])}"
    if options.get("bits") in (8, 4):
        at += f", bits={options['bits']}"
    use.append(f"backbone = axl.Backbone(base{at})")
    if not task or (manifest.head is None and result is None):
        use.append('print(f"{module.size():,} weights in {len(module.parts)} parts")')
        return "\n".join([*lines, "", *use]) + "\n"
    shipped = task in all_tasks()
    if shipped:
        lines.append("data = None  # the hub; or a folder with adapterxl-data.yaml")
    else:
        lines.append(f"task = {literal(f'{plain(task)}.yaml')}  # the task's file, beside its data")
    arguments = ["module", "on=backbone", f"task={literal(task)}" if shipped else "task=task"]
    arguments += _as_scored(result) if result else []
    arguments += ["data=data"] if shipped else []
    use += [_call("scores = axl.evaluate", arguments), "print(scores.zero_shot_mean)"]
    return "\n".join([*lines, "", *use]) + "\n"


def with_vanilla(manifest: Manifest, known: str | None) -> str | None:
    """The same with `peft` or `adapters` alone; None where neither can run the whole folder."""
    if manifest.layout == "adapterxl":
        return None
    kind = manifest.head.kind if manifest.head else ""
    at = f", revision={literal(manifest.base.revision)}" if manifest.base.revision else ""
    peft = manifest.layout == "peft"
    lines = [*_start(manifest, known), "", "import torch"]
    lines += _peft(manifest, kind, at) if peft else _adapters(manifest, kind, at)
    lines.append(f"tokenizer = AutoTokenizer.from_pretrained(base{at})")
    reads, answers = _EXAMPLES[kind]
    if kind == "choice":
        count = min(max(_whole(manifest.training.get("choices"), 2), 2), len(_CHOICES))
        reads = reads.format(choices=json.dumps(_CHOICES[:count]))
    return "\n".join(lines) + f"\n{reads}with torch.no_grad():\n{answers}"


def _peft(manifest: Manifest, kind: str, at: str) -> list[str]:
    name = _CLASSES.get(kind, "AutoModel")
    lines = ["from peft import PeftModel", f"from transformers import {name}, AutoTokenizer", ""]
    if name > "AutoTokenizer":
        lines[1] = f"from transformers import AutoTokenizer, {name}"
    arguments = [f"base{at}"]
    if manifest.head and manifest.head.labels:
        lines.append(_sequence("labels", manifest.head.labels))
        arguments += [
            "id2label=dict(enumerate(labels))",
            "label2id={label: number for number, label in enumerate(labels)}",
        ]
    elif not kind:
        arguments.append("add_pooling_layer=False")
    return [
        *lines,
        _call(f"model = {name}.from_pretrained", arguments),
        "model = PeftModel.from_pretrained(model, folder).eval()",
    ]


def _adapters(manifest: Manifest, kind: str, at: str) -> list[str]:
    lines = [
        "from adapters import AutoAdapterModel",
        "from transformers import AutoTokenizer",
        "",
        f"model = AutoAdapterModel.from_pretrained(base{at})",
    ]
    if manifest.layout == "adapterhub-setup":
        lines += [
            "setup, _ = model.load_adapter_setup(folder, use_safetensors=True)",
            "model.set_active_adapters(setup)",
        ]
    else:
        lines.append("model.set_active_adapters(model.load_adapter(folder, use_safetensors=True))")
    if not kind:
        lines.append("model.active_head = None  # a base with an LM head would answer with that")
    lines.append("model.eval()")
    if manifest.head and manifest.head.labels:
        lines.append("labels = model.get_labels()")
    return lines


def _start(manifest: Manifest, known: str | None) -> list[str]:
    base = known or plain(manifest.base.name)
    what = "the hub, or a folder," if known else "the folder of the backbone"
    return [
        f"folder = {literal(manifest.name)}  # this folder",
        f"base = {literal(base)}  # {what} with the fingerprint {manifest.base.fingerprint[:12]}",
    ]


def _as_scored(result: Result) -> list[str]:
    own, options = result.own, result.own.options
    known = all_tasks().get(own.task)
    everything = known is None or set(known.languages) <= set(own.expected_languages)
    languages = literal("all") if everything else f"[{', '.join(map(literal, own.expected_languages))}]"
    arguments = [f"languages={languages}"]
    if len(result.splits) == 1:
        arguments.append(f"split={literal(result.splits[0])}")
    if own.train_from is not None:
        arguments.append(f"train_from={literal(own.train_from)}")
    if type(options.get("limit")) is int:
        arguments.append(f"limit={options['limit']}")
    if type(options.get("layer")) is int:
        arguments.append(f"layer={options['layer']}")
    if options.get("centered") is True:
        arguments.append("center=True")
    return arguments


def literal(value: object) -> str:
    """A Python string: repr escapes what does not print, so no text can end the string or the code block."""
    text = repr(str(value))
    return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text


def _call(function: str, arguments: Sequence[str]) -> str:
    line = f"{function}({', '.join(arguments)})"
    return line if len(line) <= _WIDTH else f"{function}(\n    {f',{chr(10)}    '.join(arguments)},\n)"


def _sequence(name: str, values: Sequence[str]) -> str:
    """A list of strings, filled line by line."""
    items = [literal(value) for value in values]
    if len(line := f"{name} = [{', '.join(items)}]") <= _WIDTH:
        return line
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH - 6:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return "\n".join([f"{name} = [", *(f"    {line}" for line in lines), "]"])


def _whole(value: object, default: int) -> int:
    return value if type(value) is int else default
