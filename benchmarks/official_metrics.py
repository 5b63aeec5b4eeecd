"""Our metrics beside the official scripts on the same random predictions: how many cases, how many differ, by how much.

    python benchmarks/official_metrics.py --xtreme DIR --mlqa FILE --squad-v1 FILE --squad-v2 FILE --seqeval DIR \
        --out benchmarks/results/official_metrics.json

The scripts are not part of this project; they run as programs, so give only ones that you trust. DIR of XTREME has
evaluate.py and third_party, DIR of seqeval the package of version 0.0.12. Their content is named by its git blob id,
which `git hash-object FILE` prints. What is not given is not run, and the result says so.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import math
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import sklearn.metrics
import torch
from measures import count
from random_predictions import labels, questions, rankings, sentences
from rich.console import Console
from rich.table import Table
from transformers.data.metrics import acc_and_f1

from adapterxl.artifacts.module import versions
from adapterxl.evaluation.metrics import get_metric
from adapterxl.evaluation.metrics.mlqa import LANGUAGES
from adapterxl.evaluation.metrics.qqp import LABELS
from adapterxl.evaluation.mining import Side, by_source, freeze_threshold, mine
from adapterxl.evaluation.rankings import ranked, ranked_ids
from adapterxl.evaluation.retrieval import nearest
from adapterxl.evaluation.scores import write_whole
from adapterxl.tasks.udpos import TASK as UDPOS

TOLERANCE = 1e-9
NO_THRESHOLD: list[int] = []  # cases of mining where the official search for a threshold fails
Case = tuple[float, float]  # ours and theirs, 0 to 1


def value(name: str, *given: Any) -> float:
    return get_metric(name).compute(*given)


def answer_cases(
    draw: random.Random, prefix: str, evaluate: Callable[..., dict[str, float]], *language: str
) -> list[Case]:
    data, predictions, golds = questions(draw, fewest=1)
    theirs, ours = evaluate(data, predictions, *language), [list(predictions.values()), golds, *language]
    both = theirs["exact_match"] / 100, theirs["f1"] / 100
    whole = "mlqa" if prefix else "squad"
    return [
        (value(f"{prefix}exact_match", *ours), both[0]), (value(f"{prefix}f1", *ours), both[1]),
        (value(whole, *ours), sum(both) / 2),
    ]  # fmt: skip


def withheld_cases(draw: random.Random, script: ModuleType) -> list[Case]:
    data, predictions, golds = questions(draw, fewest=0)
    golds = [gold if draw.random() < 0.6 else () for gold in golds]
    for asked, gold in zip(data[0]["paragraphs"][0]["qas"], golds, strict=True):
        asked["answers"] = [{"text": answer} for answer in gold]
    # few values, so that many are tied
    beliefs = {key: draw.choice((0.0, 0.25, 0.5, draw.random())) for key in predictions}
    has = script.make_qid_to_has_ans(data)
    ours = [(predictions[key], beliefs[key]) for key in predictions], golds
    best = [
        script.find_best_thresh(predictions, raw, beliefs, has)[0] / 100
        for raw in script.get_raw_scores(data, predictions)
    ]
    return [
        (value("best_exact_match", *ours), best[0]),
        (value("best_f1", *ours), best[1]),
        (value("squad_v2", *ours), sum(best) / 2),
    ]


def lareqa_cases(draw: random.Random, script: ModuleType) -> list[Case]:
    ranked, golds = rankings(draw, most=25)
    theirs = np.mean(
        [script.average_precision_at_k(set(gold), row, 20) for row, gold in zip(ranked, golds, strict=True)]
    )
    return [(value("map_at_20", ranked, golds), float(theirs))]


def mewslix_cases(draw: random.Random, evaluate: Callable[..., dict[str, float]]) -> list[Case]:
    ranked, golds = rankings(draw, most=1)
    data, predictions = ({str(i): row for i, row in enumerate(side)} for side in (golds, ranked))
    return [(value("mrr_at_20", ranked, golds), evaluate(data, predictions)["map@20"] / 100)]


def pair_cases(draw: random.Random, evaluate: Callable[..., dict[str, float]]) -> list[Case]:
    mined, gold = (
        {(str(draw.randint(0, 5)), str(draw.randint(0, 5))) for _ in range(draw.randint(1, 9))} for _ in "ab"
    )
    theirs = evaluate(["\t".join(pair) for pair in gold], ["\t".join(pair) for pair in mined])["f1"] / 100
    scored = [(*pair, 1.0) for pair in sorted(mined)]
    return [(value("bucc", *by_source(scored, gold, 1.0)[1:]), theirs)]


def mining_cases(draw: random.Random, script: ModuleType) -> list[Case]:
    """Mined pairs and their scores, the threshold chosen on dev, and F1 at it; with some sentences twice in a side."""
    seed, size = draw.randrange(2**31), draw.randint(6, 40)
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 + torch.randn(size, 16, generator=generator)  # sentence vectors have a common part too
    y = x + draw.choice((0.1, 0.5, 2.0)) * torch.randn(size, 16, generator=generator)
    gold = {(f"s{i}", f"t{i}") for i in range(size) if draw.random() < 0.5} or {("s0", "t0")}
    for i in range(size):
        if (f"s{i}", f"t{i}") not in gold:
            y[i] = torch.randn(16, generator=generator)
    sides = []
    with tempfile.TemporaryDirectory() as folder:
        for name, vectors in (("s", x), ("t", y)):
            texts = [f"{name} {i} นคร 中国 القاهرة" for i in range(size)]
            for _ in range(draw.choice((0, 0, 2))):  # a repeated sentence has one vector
                a, b = draw.sample(range(size), 2)
                texts[a], vectors[a] = texts[b], vectors[b].clone()
            ids = [f"{name}{i}" for i in range(size)]
            sides.append(Side(ids, texts, vectors))
            (Path(folder) / f"{name}.txt").write_text("".join(f"{line}\n" for line in texts), encoding="utf-8")
            (Path(folder) / f"{name}.id").write_text("".join(f"{line}\n" for line in ids), encoding="utf-8")
        (Path(folder) / "gold").write_text("".join("\t".join(pair) + "\n" for pair in sorted(gold)), encoding="utf-8")
        files = {name: str(Path(folder) / name) for name in ("s.txt", "t.txt", "s.id", "t.id", "gold", "mined")}
        script.mine_bitext(x.numpy().copy(), y.numpy().copy(), files["s.txt"], files["t.txt"], files["mined"])
        four = [files[name] for name in ("s.txt", "t.txt", "s.id", "t.id")]
        found = script.read_candidate2score(files["mined"], *four)
        pairs = mine(*sides)
        if {pair[:2] for pair in pairs} != set(found):
            return [(0.0, 1.0)]
        cases = [
            (score / abs(found[pair]), math.copysign(1, found[pair]))
            for score, pair in ((each[2], each[:2]) for each in pairs)
        ]
        try:
            result = script.bucc_eval(files["mined"], files["gold"], *four, None)
        except IndexError:  # the official search for a threshold fails where all pairs are best kept
            NO_THRESHOLD.append(seed)
            return cases
    threshold = freeze_threshold(pairs, gold)
    if result["F1"]:  # its threshold is 0 where no pair is right
        cases.append((threshold, result["best-threshold"]))
    cases.append((value("bucc", *by_source(pairs, gold, threshold)[1:]), result["F1"] / 100))
    return cases


def nearest_cases(draw: random.Random, script: ModuleType) -> list[Case]:
    """Tatoeba's predictions, some index rows twice."""
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    index = torch.randn(draw.randint(2, 40), 16, generator=generator)
    queries = index + draw.choice((0.3, 2.0)) * torch.randn(index.shape, generator=generator)
    index[draw.randrange(len(index))] = index[0].clone()
    theirs = script.similarity_search(index.numpy().copy(), queries.numpy().copy(), 16, normalize=True)
    return [(float(a), float(b)) for a, b in zip(nearest(queries, index).tolist(), theirs[:, 0].tolist(), strict=True)]


def pool_cases(draw: random.Random, script: ModuleType) -> list[Case]:
    """LAReQA from vectors to mAP@20: one pool of several languages, a question's answers in each of them."""
    generator, languages = (
        torch.Generator().manual_seed(draw.randrange(2**31)),
        ("en", "zh", "th")[: draw.randint(1, 3)],
    )
    topics = torch.randn(draw.randint(2, 15), 16, generator=generator)
    asked, offered, vectors = script.QuestionSet(), script.CandidateSet(), {}
    for language in languages:
        for number, topic in enumerate(topics):
            question = script.Question("?", str(number), language)
            candidate = script.Candidate("", "", language, f"{language}{number}", 0)
            question.encoding, answer = (topic + torch.randn(16, generator=generator) for _ in "qa")
            vectors[candidate.uid], question.encoding = answer, question.encoding.numpy()
            candidate.encoding = {"sentences_and_contexts": answer.numpy()}
            asked.add(question)
            offered.add_or_retrieve_candidate(candidate)
            offered.update_xling_id(candidate, str(number))
    for side in (vectors.values(), (torch.from_numpy(each.encoding) for each in asked.as_list())):
        for vector in side:
            vector /= vector.norm()  # in place: their copies are the same numbers
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        script.mean_avg_prec_at_k(asked, offered, k=20)
    queries = torch.stack([torch.from_numpy(each.encoding) for each in asked.as_list()])
    rankings = ranked_ids(ranked(queries, torch.stack(list(vectors.values())), 20), list(vectors))
    golds = [tuple(right.uid for right in offered.by_xling_id[each.xling_id]) for each in asked.as_list()]
    return [(value("map_at_20", rankings, golds), float(printed.getvalue().split()[-1]))]


def class_cases(draw: random.Random, name: str, average: str) -> list[Case]:
    predictions, golds = labels(draw, ("negative", "neutral", "positive", "مختلط", "混合"))
    return [
        (
            value(name, predictions, golds),
            sklearn.metrics.f1_score(golds, predictions, average=average, zero_division=0),
        )
    ]


def qqp_cases(draw: random.Random) -> list[Case]:
    predictions, golds = labels(draw, LABELS)
    numbers = [np.array([LABELS.index(label) for label in side]) for side in (predictions, golds)]
    return [(value("qqp", predictions, golds), acc_and_f1(*numbers)["acc_and_f1"])]


def tag_cases(draw: random.Random, name: str, f1: Callable[..., float], tags: Sequence[str]) -> list[Case]:
    predictions, golds = sentences(draw, tags)
    return [(value(name, predictions, golds), float(f1(golds, predictions)))]


def accuracy_cases(draw: random.Random, evaluate: Callable[..., dict[str, float]]) -> list[Case]:
    given = labels(draw, ("entailment", "neutral", "contradiction", "", "中", "7"))
    theirs = evaluate(given[1], given[0])["accuracy"] / 100
    return [(value(name, *given), theirs) for name in ("accuracy", "retrieval_accuracy")]


def opened(path: Path, name: str) -> ModuleType:
    """A Python file as a module of this name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def blob_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


Comparison = tuple[str, str, list[Path], Callable[[random.Random], list[Case]]]
"""Metrics, what they are compared with, its files, one random case."""

NER = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def comparisons(given: argparse.Namespace) -> Iterator[Comparison]:
    """What can be run with the scripts that were given."""
    yield "macro_f1", "scikit-learn f1_score", [], lambda draw: class_cases(draw, "macro_f1", "macro")
    yield "weighted_f1", "scikit-learn f1_score", [], lambda draw: class_cases(draw, "weighted_f1", "weighted")
    yield "qqp", "transformers acc_and_f1", [], qqp_cases
    if given.xtreme:
        sys.path.insert(0, str(given.xtreme))
        whole, third = given.xtreme / "evaluate.py", given.xtreme / "third_party"
        xtreme = opened(whole, "xtreme_evaluate")
        squad, mewslix = third / "evaluate_squad.py", third / "utils_mewslix.py"
        yield "accuracy, retrieval_accuracy", "xtreme accuracy", [whole], lambda d: accuracy_cases(d, xtreme.accuracy)
        yield (
            "span_f1",
            "xtreme f1 with the seqeval installed",
            [whole],
            lambda d: tag_cases(d, "span_f1", lambda *rows: xtreme.f1(*rows)["f1"] / 100, NER),
        )
        yield (
            "squad, exact_match, f1",
            "xtreme squad_em_f1 (XQuAD, TyDi QA)",
            [whole, squad],
            lambda d: answer_cases(d, "", xtreme.squad_em_f1),
        )
        for language in LANGUAGES:
            yield (
                f"mlqa, its two parts: {language}",
                "xtreme mlqa_em_f1",
                [whole, third / "evaluate_mlqa.py"],
                (lambda d, language=language: answer_cases(d, "mlqa_", xtreme.mlqa_em_f1, language)),
            )
        yield "mrr_at_20", "xtreme mewslix_map20", [whole, mewslix], lambda d: mewslix_cases(d, xtreme.mewslix_map20)
        yield "bucc", "xtreme bucc_f1", [whole], lambda d: pair_cases(d, xtreme.bucc_f1)
        lareqa = opened(third / "utils_lareqa.py", "xtreme_lareqa")
        yield (
            "map_at_20",
            "xtreme average_precision_at_k",
            [third / "utils_lareqa.py"],
            lambda d: lareqa_cases(d, lareqa),
        )
        yield (
            "map_at_20, rankings",
            "xtreme mean_avg_prec_at_k",
            [third / "utils_lareqa.py"],
            lambda d: pool_cases(d, lareqa),
        )
        if importlib.util.find_spec("faiss"):
            path = third / "utils_retrieve.py"
            retrieve = opened(path, "xtreme_retrieve")
            yield (
                "bucc, mining and threshold",
                "xtreme mine_bitext, bucc_eval",
                [path],
                lambda d: mining_cases(d, retrieve),
            )
            yield (
                "retrieval_accuracy, nearest",
                "xtreme similarity_search",
                [path],
                lambda d: nearest_cases(d, retrieve),
            )
    if given.squad_v1:
        v1 = opened(given.squad_v1, "squad_v1")
        yield "squad, exact_match, f1", "SQuAD v1.1", [given.squad_v1], lambda d: answer_cases(d, "", v1.evaluate)
    if given.squad_v2:
        v2 = opened(given.squad_v2, "squad_v2")
        yield "squad_v2, its two parts", "SQuAD v2.0", [given.squad_v2], lambda d: withheld_cases(d, v2)
    if given.mlqa:
        mlqa = opened(given.mlqa, "mlqa_v1")
        for language in LANGUAGES:
            yield (
                f"mlqa, its two parts: {language}",
                "MLQA",
                [given.mlqa],
                (lambda d, language=language: answer_cases(d, "mlqa_", mlqa.evaluate, language)),
            )
    if given.seqeval:
        path = given.seqeval / "metrics" / "sequence_labeling.py"
        seqeval = opened(path, "seqeval_0_0_12")
        yield "udpos_f1", "seqeval 0.0.12", [path], lambda d: tag_cases(d, "udpos_f1", seqeval.f1_score, UDPOS.labels)
        yield "span_f1", "seqeval 0.0.12", [path], lambda d: tag_cases(d, "span_f1", seqeval.f1_score, NER)


def compare(one: Comparison, cases: int, seed: int) -> dict[str, Any]:
    metrics, script, files, case = one
    draw, differences = random.Random(seed), []
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for _ in range(cases):
            differences.append(max(abs(ours - theirs) for ours, theirs in case(draw)))
    largest = 1e-5 if "mining" in metrics else TOLERANCE  # faiss and a matrix product sum float32 in other orders
    return {
        "metrics": metrics, "script": script, "blobs": {path.name: blob_id(path) for path in files}, "cases": cases,
        "differing": sum(bool(each > largest) for each in differences), "largest_difference": float(max(differences)),
        "cases_without_an_official_threshold": len(NO_THRESHOLD) if "mining" in metrics else 0,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, what in (
        ("xtreme", "folder of google-research/xtreme"), ("mlqa", "mlqa_evaluation_v1.py"),
        ("squad-v1", "evaluate-v1.1.py"), ("squad-v2", "evaluate-v2.0.py"), ("seqeval", "package seqeval 0.0.12"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=Path, metavar="PATH", help=what)
    parser.add_argument("--cases", type=count, default=1000, help="random cases for each (default: 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of the result")
    given = parser.parse_args(arguments)
    scripts = ("xtreme", "mlqa", "squad_v1", "squad_v2", "seqeval")
    rows = []
    table = Table("metrics", "beside", "cases", "differing", "largest difference")
    for one in comparisons(given):
        rows.append(row := compare(one, given.cases, given.seed))
        table.add_row(
            row["metrics"], row["script"], *(f"{row[key]:g}" for key in ("cases", "differing", "largest_difference"))
        )
    Console(width=140).print(table)
    missing = [name for name in scripts if getattr(given, name) is None]
    missing += [] if importlib.util.find_spec("faiss") else ["xtreme mining: faiss is not installed"]
    if missing:
        print("Not run, as no script was given:", ", ".join(missing))
    if out := given.out:
        known = {
            name: importlib.metadata.version(name) for name in ("scikit-learn", "seqeval", "faiss-cpu") if _has(name)
        }
        found = {"versions": versions() | known, "seed": given.seed, "not_run": missing, "comparisons": rows}
        write_whole(out, [json.dumps(found, indent=1, ensure_ascii=False) + "\n"])
    return int(any(row["differing"] for row in rows))


def _has(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
