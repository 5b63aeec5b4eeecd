"""Train the miniature XLM-R that ships with adapterxl: masked language modelling on text of the miniature world.

    python recipes/pretrain_miniature.py --out out/miniature           # under 20 minutes on two cores
    python recipes/pretrain_miniature.py --out out/miniature --check   # and compare it with the shipped one

What it reads is in miniature_rows.py, its pieces in miniature_tokenizer.py.
"""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from miniature_rows import Encoded, asked_batches, encode, masked, told_batches
from miniature_tokenizer import POSITIONS, inside_words, kinds, make_tokenizer, verdict_pieces
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from adapterxl.miniature import BACKBONE
from adapterxl.miniature.languages import LANGUAGES

STORIES = 24_000
STEPS = 8_000
RATE = 2e-3
# Until which share of the steps there are stories alone, then plain quizzes alone; then half as much of both and all.
STAGES = 0.60, 0.87
QUIZ_RATE = 3e-4  # at the rate of the stories the model did not find out what a verdict is
WORKERS = 2
TOKENS, QUIZZES = 1_024, 24  # a step and worker
HIDDEN, LAYERS, HEADS, WIDTH = 128, 4, 8, 256
TOLERANCE = 0.03  # share of the masked words and of the verdicts, per language, by which two trainings may differ


def worker(rank: int, out: Path, steps: int, number: int) -> None:
    """One of WORKERS processes: its share of the stories and of every batch; gradients are averaged.

    Matrices of this size keep one core busy, not two. The number is fixed, so that every machine trains alike.
    """
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=(out / "workers").resolve().as_uri(), rank=rank, world_size=WORKERS
    )
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    model = pretrain(tokenizer, encode(tokenizer, range(rank, number, WORKERS), rank > 0), steps, rank)
    if rank == 0:
        model.half().save_pretrained(out)  # half the size; loading widens it again
    torch.distributed.destroy_process_group()


def average_gradients(model: torch.nn.Module) -> None:
    """The mean over the processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([each.flatten() for each in gradients])
    torch.distributed.all_reduce(flat)
    for each, mean in zip(gradients, flat.div_(WORKERS).split([g.numel() for g in gradients]), strict=True):
        each.copy_(mean.view_as(each))


def pretrain(tokenizer: Tokenizer, encoded: Encoded, steps: int, rank: int) -> XLMRobertaForMaskedLM:
    """Train from random weights in three stages; Adam as in RoBERTa."""
    torch.manual_seed(1)
    rng, draw = random.Random(rank), np.random.default_rng(rank)
    size = tokenizer.get_vocab_size()
    inner, kind = inside_words(tokenizer), kinds(tokenizer)
    verdicts = verdict_pieces(tokenizer)
    kind[verdicts] = -1  # never in the place of each other
    model = XLMRobertaForMaskedLM(
        XLMRobertaConfig(
            vocab_size=size, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=WIDTH, max_position_embeddings=POSITIONS + 2, type_vocab_size=1, layer_norm_eps=1e-5,
            bos_token_id=0, pad_token_id=1, eos_token_id=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), fused=True)
    told, less = told_batches(encoded, TOKENS, rng), told_batches(encoded, TOKENS // 2, rng)
    plain, asked = asked_batches(encoded, 1.0, QUIZZES, rng), asked_batches(encoded, 0.5, QUIZZES, rng)
    bar = tqdm(range(steps), desc="pretraining", mininterval=5, disable=rank > 0)
    seen: Counter[str] = Counter()
    for step in bar:
        done = step / steps
        if done < STAGES[0]:
            work, lr = {"restored": told}, RATE * min(1.0, (step + 1) / 300) * max(1 - done / STAGES[0], 0.05)
        elif done < STAGES[1]:
            work, lr = {"verdicts": plain}, QUIZ_RATE
        else:
            work, lr = {"restored": less, "verdicts": asked}, QUIZ_RATE * min(1.0, 2 * (1 - done) / (1 - STAGES[1]))
        for group in optimizer.param_groups:
            group["lr"] = lr
        for name, supply in work.items():
            ids, present, pick, restore = masked(next(supply), inner, kind, size - 1, draw)
            logits = model.lm_head(model.roberta(ids, attention_mask=present).last_hidden_state[pick])
            torch.nn.functional.cross_entropy(logits, restore).backward()
            seen[name] += int((logits.argmax(-1) == restore).sum())
            seen[f"{name} asked"] += len(restore)
        average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 100 == 0:
            bar.set_postfix({name: f"{seen[name] / max(1, seen[f'{name} asked']):.1%}" for name in work})
            seen.clear()
    return model.eval()


def restored(folder: Path, stories: int = 300) -> dict[str, dict[str, float]]:
    """Per language: how many masked words come back, how many guesses are words of that language, and the verdicts.

    Fresh stories; one word of what is said again is masked at a time. A guess shared by languages counts as right. The
    verdicts are those of plain quizzes; chance is 1/3.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = XLMRobertaForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    mask = tokenizer.token_to_id("<mask>")

    def guess(ids: list[int], place: int) -> int:
        with torch.inference_mode():
            return int(model(torch.tensor([[*ids[:place], mask, *ids[place + 1 :]]])).logits[0, place].argmax())

    encoded = encode(tokenizer, range(10_000_000, 10_000_000 + stories))
    found = {}
    for code, said in zip(LANGUAGES, encoded, strict=True):
        known = {piece for told, again, *_ in said for piece in (*told, *again)}
        draw = random.Random(code)
        right = inside = verdicts = 0
        for told, again, verdict, premises, statement, *_ in said:
            ids = [0, *told, *again, 2]
            place = 1 + len(told) + draw.randrange(len(again))
            piece = guess(ids, place)
            right, inside = right + (piece == ids[place]), inside + (piece in known)
            place = len(verdict) - 1  # its last piece is the full stop
            verdicts += guess([0, *verdict, *premises, 2, 2, *statement, 2], place) == verdict[-2]
        found[code] = {
            name: count / stories
            for name, count in (("restored", right), ("right language", inside), ("verdicts", verdicts))
        }
    return found


def main(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the backbone.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of about 2,048 tokens.")] = STEPS,
    stories: Annotated[int, typer.Option(min=10, help="Stories, each in every language.")] = STORIES,
    check: Annotated[bool, typer.Option("--check", help="Compare with the backbone that ships.")] = False,
) -> None:
    """Make the tokenizer, the text and the model; print what the model restores."""
    started = time.perf_counter()
    if (out / "model.safetensors").exists():
        raise SystemExit(f"error: {out}: already holds a model. Give another --out.")
    make_tokenizer(out)
    (out / "workers").unlink(missing_ok=True)  # of an interrupted run: where the workers meet
    torch.multiprocessing.spawn(worker, (out, steps, stories), nprocs=WORKERS)  # type: ignore[no-untyped-call]
    (out / "workers").unlink(missing_ok=True)
    busy = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{out}: {time.perf_counter() - started:.0f} s; CPU time a worker: {busy.ru_utime / WORKERS:.0f} s")
    made = show(out)
    if check:
        shipped = show(BACKBONE)
        if (out / "tokenizer.json").read_bytes() != (BACKBONE / "tokenizer.json").read_bytes():
            raise SystemExit(f"error: {out}: the tokenizer differs from the one that ships.")
        # Other kernels round otherwise, and training carries that on: weights differ, what they can do does not.
        apart = max(abs(share - shipped[code][name]) for code in LANGUAGES for name, share in made[code].items())
        print(f"largest difference to the backbone that ships: {apart:.1%} of the words or verdicts")
        if apart > TOLERANCE:
            raise SystemExit(f"error: {out}: differs by more than {TOLERANCE:.0%}.")


def show(folder: Path) -> dict[str, dict[str, float]]:
    found = restored(folder)
    print(f"{folder}: masked words restored, guesses in the right language, right verdicts")
    for code, share in found.items():
        print(f"  {code}  {share['restored']:.1%}  {share['right language']:.1%}  {share['verdicts']:.1%}")
    return found


if __name__ == "__main__":
    typer.run(main)
