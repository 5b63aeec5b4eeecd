"""A data folder with one task of every kind of retrieval, for tests."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = "the quick brown fox jumps over lazy dog man guitar stage house letter river road book agua gato leche".split()


def write_search_data(folder: Path) -> Path:
    """Write an index: lareqa and xquad in en, de, zh with the same questions, bucc in de, mewslix in de and en."""
    draw = random.Random(4)

    def text(low: int = 3, high: int = 8) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(low, high)))

    def put(name: str, content: str) -> list[str]:
        (folder / name).write_text(content, encoding="utf-8")
        return [name]

    tasks: dict[str, Any] = {"lareqa": {"reader": "squad", "extra": ["sentence_breaks"], "test": {}}}
    tasks["xquad"] = {"reader": "squad", "test": {}}
    for language in ("de", "en", "zh"):
        paragraphs = []
        for n in range(5):
            sentences = [f"{text()}." for _ in range(3)]
            starts = [sum(len(each) + 1 for each in sentences[:place]) for place in range(3)]
            breaks = [[start, start + len(each)] for start, each in zip(starts, sentences, strict=True)]
            qas = [
                {"id": f"q{n}{k}", "question": f"{text()}?",
                 "answers": [{"text": sentences[k].split(" ")[0], "answer_start": starts[k]}]}
                for k in (0, 2)
            ]  # fmt: skip
            paragraphs.append({"context": " ".join(sentences), "qas": qas, "sentence_breaks": breaks})
        content = json.dumps({"data": [{"paragraphs": paragraphs}]})
        tasks["lareqa"]["test"][language] = tasks["xquad"]["test"][language] = put(f"{language}.json", content)
    tasks["bucc"] = {"reader": "bucc"}
    for split, count in (("dev", 14), ("test", 20)):
        sides = {
            side: "".join(f"{side}-{n}\t{WORDS[n % 19]} {text(1, 4)} {n}\n" for n in range(count))
            for side in ("de", "en")
        }
        gold = "".join(f"de-{n}\ten-{n}\n" for n in range(0, count, 3))
        files = [put(f"bucc-{split}.{end}", lines)[0] for end, lines in (*sides.items(), ("gold", gold))]
        tasks["bucc"][split] = {"de": files}
    lines = []
    for n in range(12):
        context = f"{text()}. {text()}. {text()}."
        ends = [place + 1 for place, sign in enumerate(context) if sign == "."]
        starts = [0, *(end + 1 for end in ends[:-1])]
        spans = [{"start": start, "end": end} for start, end in zip(starts, ends, strict=True)]
        start = spans[1]["start"]
        mention = {"start": start, "end": context.index(" ", start), "text": ""}
        lines.append(
            {"context": {"language": ("de", "en")[n % 2], "text": context, "sentence_spans": spans},
             "mentions": [{"example_id": f"m{n}", "entity_id": f"Q{n}", "mention_span": mention}]}
        )  # fmt: skip
    entities = [
        {
            "entity_id": f"Q{n}",
            "title": "t",
            "description": text(5, 12),
            "description_language": ("en", "fr", "th")[n % 3],
        }
        for n in range(30)
    ]
    mentions = put("mentions.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    pool = put("entities.jsonl", "".join(json.dumps(line) + "\n" for line in entities))
    tasks["mewslix"] = {"reader": "mewslix", "test": {"de": mentions, "en": mentions}, "pool": {"all": pool}}
    (folder / "adapterxl-data.yaml").write_text(json.dumps({"format": 1, "tasks": tasks}), encoding="utf-8")
    return folder
