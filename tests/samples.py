"""Small random modules and a small data folder of every kind of task, for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapterxl.artifacts import HeadState, TaskModule
from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine
from adapterxl.engines.packed import finished
from adapterxl.modules import Bottleneck, LoRA, Part, make_head
from adapterxl.ragged import pack

LABELS = ("x", "y", "z")
_WORDS = "the quick brown fox jumps over lazy dog man guitar stage house letter river road book agua gato leche".split()
_TAGS = ("DET", "ADJ", "NOUN", "VERB", "ADP")
_NER = ("O", "B-PER", "I-PER", "B-LOC", "O")


def make_part(method: LoRA | Bottleneck, name: str, on: Backbone, seed: int, after: Sequence[Part] = ()) -> Part:
    """A part that does something at all its sites, as training would leave it."""
    generator = torch.Generator().manual_seed(seed)
    part = method.build(name, on, generator, on.dtype)
    with torch.no_grad():
        for weight in part.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype))
    part = finished(part)
    part.task, part.trained_on = name, tuple(earlier.digest() for earlier in after)
    return part


def make_module(
    on: Backbone, name: str, parts: Sequence[Part], kind: str = "tag", *, labels: Sequence[str] = LABELS, seed: int = 5
) -> TaskModule:
    """A module over parts, with a random head of a kind ("" for none)."""
    head = None
    if kind:
        generator = torch.Generator().manual_seed(seed)
        built = make_head(kind, on, labels).to(on.dtype).initialise(0.5, generator)
        with torch.no_grad():
            for weight in built.parameters():
                if weight.ndim == 1:
                    weight.normal_(0, 0.1, generator=generator)
        head = HeadState(kind, built.labels, built.tensors())
    training = {"choices": 2} if kind == "choice" else {}
    return TaskModule(name, name if kind else "", kind, tuple(parts), head, on.describe(), training=training)


def rows(on: Backbone, lengths: Sequence[int] = (3, 9, 5, 20)) -> list[list[int]]:
    """Rows of random tokens, the first of each the one that starts a text."""
    generator = torch.Generator().manual_seed(11)
    return [
        [on.tokenizer.cls_token_id, *torch.randint(10, on.config.vocab_size, (n - 1,), generator=generator).tolist()]
        for n in lengths
    ]


@torch.no_grad()
def scores(on: Backbone, module: TaskModule, tokens: Sequence[Sequence[int]], engine: str = "packed") -> torch.Tensor:
    """A module's head scores, or hidden states without one: (rows, outputs), or (tokens, outputs) in row order."""
    batch = pack(tokens)
    hidden = get_engine(engine)(on, module.parts, None).hidden(batch)
    found = hidden if module.head is None else module.head.build(on).to(on.dtype).eval()(hidden, batch)
    if module.kind in ("classify", "choice"):
        return found
    index = [start + i for start, row in zip(batch.starts, tokens, strict=True) for i in range(len(row))]
    return found[torch.tensor(index)]


def write_data(folder: Path) -> Path:
    """Write an index and its files: a few made-up rows of eight tasks."""
    generator = np.random.default_rng(3)

    def words(low: int = 2, high: int = 9) -> list[int]:
        return generator.integers(len(_WORDS), size=int(generator.integers(low, high))).tolist()

    def text(low: int = 3, high: int = 9) -> str:
        return " ".join(_WORDS[i] for i in words(low, high))

    tasks: dict[str, Any] = {}

    def put(task: str, split: str, language: str, name: str, content: str) -> None:
        path = folder / task / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        tasks[task].setdefault(split, {}).setdefault(language, []).append(f"{task}/{name}")

    tasks["udpos"] = {"reader": "conllu", "column": "upos"}
    for split, language, count in (
        ("train", "en", 60),
        ("dev", "en", 20),
        ("test", "en", 6),
        ("test", "de", 6),
        ("test", "zh", 6),
    ):
        blocks = [
            "".join(f"{n}\t{_WORDS[i]}\t_\t{_TAGS[i % 5]}" + "\t_" * 6 + "\n" for n, i in enumerate(words(), 1))
            for _ in range(count)
        ]
        put("udpos", split, language, f"{split}-{language}.conllu", "\n".join(blocks))
    tasks["panx"] = {"reader": "iob"}
    for split, language, count in (("train", "en", 60), ("dev", "en", 6), ("dev", "de", 6)):
        blocks = ["".join(f"{_WORDS[i]}\t{_NER[i % 5]}\n" for i in words()) for _ in range(count)]
        put("panx", split, language, f"{split}-{language}.tsv", "\n".join(blocks))
    pair = {"columns": {"text": "premise", "text_pair": "hypothesis", "label": "label"}}
    tasks["mnli"], tasks["xnli"] = {"reader": "csv", **pair}, {"reader": "csv", **pair}
    for task, split, language, count in (
        ("mnli", "train", "en", 60),
        ("xnli", "test", "en", 8),
        ("xnli", "test", "fr", 8),
    ):
        path = folder / f"{task}-{language}.tmp"
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["premise", "hypothesis", "label"])
            for n in range(count):
                writer.writerow([text(), text(), ("entailment", "neutral", "contradiction")[n % 3]])
        put(task, split, language, f"{split}-{language}.csv", path.read_text(encoding="utf-8"))
        path.unlink()
    for task, split, language, count in (
        ("tydiqa", "train", "en", 30),
        ("tydiqa", "dev", "sw", 5),
        ("xquad", "test", "en", 5),
        ("xquad", "test", "zh", 5),
    ):
        tasks.setdefault(task, {"reader": "squad", **({"train_from": "squad"} if task == "xquad" else {})})
        paragraphs = []
        for n in range(count):
            context = "我喜欢读书。他们住在北京。" if language == "zh" else text(8, 30)
            begin = 10 if language == "zh" else context.index(" ") + 1
            answer = "北京" if language == "zh" else context[begin:].split(" ")[0]
            asked = {"id": f"{language}-{n}", "question": text(), "answers": [{"text": answer, "answer_start": begin}]}
            paragraphs.append({"context": context, "qas": [asked]})
        content = {"version": "1", "data": [{"title": "t", "paragraphs": paragraphs}]}
        put(task, split, language, f"{split}-{language}.json", json.dumps(content, ensure_ascii=False))
    columns = {"context": "premise", "question": "question", "choices": ["choice1", "choice2"], "label": "label"}
    tasks["copa"] = {"reader": "jsonl", "columns": columns}
    for split, count in (("train", 40), ("dev", 8)):
        lines = [
            {"premise": text(), "question": "cause", "choice1": text(), "choice2": text(), "label": n % 2}
            for n in range(count)
        ]
        put("copa", split, "en", f"{split}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    tasks["tatoeba"] = {"reader": "bitext"}
    for language in ("de", "fr"):
        sides = ([f"{text()} {n}" for n in range(8)] for _ in range(2))
        for end, side in zip((language, "en"), sides, strict=True):
            put("tatoeba", "test", language, f"{language}.{end}.txt", "\n".join(side) + "\n")
    index = json.dumps({"format": 1, "tasks": tasks}, indent=1)  # JSON is YAML
    (folder / "adapterxl-data.yaml").write_text(index, encoding="utf-8")
    return folder
