"""Train the miniature XLM-R that ships with adapterxl: masked language modelling on text of the miniature world.

    python recipes/pretrain_miniature.py --out out/miniature           # under 20 minutes on two cores
    python recipes/pretrain_miniature.py --out out/miniature --check   # and compare it with the shipped one

Half of the rows are stories in one language, half are a story and its translation (Conneau and Lample 2019,
https://arxiv.org/abs/1901.07291): real text aligns languages through sheer amount, this world is too small for that.
No statement of a test split occurs in the text.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tqdm import tqdm
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from adapterxl.miniature import BACKBONE
from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.text import quiz, story
from adapterxl.miniature.world import World

SEED = "miniature 1"
STORIES = 24_000
STEPS = 6_300
RATE = 2e-3
TOLERANCE = 0.03  # share of the masked words, per language, by which two trainings may differ
BATCH_TOKENS = 2_048
WHOLE = 1_000  # words that are one piece
HIDDEN, LAYERS, HEADS, WIDTH = (int(x) for x in os.environ.get("SHAPE", "128 4 8 256").split())
POSITIONS = 256
# Chance of a word to be masked: told first, said again, beside its translation.
FIRST, AGAIN, BESIDE = 0.10, 0.30, 0.30
# Until which share of the steps there are stories alone, then plain quizzes alone; then half as much of both and all.
STAGES = 0.45, 0.80
QUIZ_RATE = 3e-4  # at the rate of the stories the model did not find out what a verdict is
QUIZZES = 48  # a step
KEPT, REPLACED = 0.12, 0.30  # of the chosen words; the rest is masked
OPEN = ("NOUN", "PROPN", "ADJ", "VERB")
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!:;'\"-()/&%"


Row = tuple[list[int], list[float]]  # ids, and the chance of each to be masked
Encoded = list[list[tuple[list[int], ...]]]  # language -> number -> ids of each of PARTS
PARTS = 8  # of a story what is told and what is said again; of a plain and another quiz verdict, told, statement


def passages(number: int) -> dict[str, tuple[str, ...]]:
    """A story and two quizzes of a world of their own, in all languages; for the parts see PARTS."""
    world = World(f"{SEED} {number}", ("train", "dev"))
    first, again = story(world, world.random.randint(1, 4))
    quizzes = [next(q for _ in itertools.count() if (q := quiz(world, plain)) is not None) for plain in (True, False)]
    found = {}
    for code, language in LANGUAGES.items():
        # Tagging tasks give words one by one, also in languages without spaces: the model must have seen that.
        apart = not language.spaced and world.random.random() < 0.4
        sides = []
        for lines in (first, again):
            words = [line.words(language) for line in lines]
            if apart:
                sides.append(" ".join(word.text for sentence in words for word in sentence))
            else:
                sides.append((" " if language.spaced else "").join(language.text(sentence) for sentence in words))
        found[code] = (*sides, *quizzes[0].said(language), *quizzes[1].said(language))
    return found


def vocabulary() -> list[tuple[str, float]]:
    """Pieces with log probabilities: frequent words whole, rarer ones as the stem they share and an ending, letters.

    A trained unigram model would differ from run to run; over closed tables this gives the same kind of pieces.
    """
    count: Counter[str] = Counter()
    for n in range(4_000):
        told, again = story(World(f"{SEED} {n}", ("train", "dev")), 4)
        for language in LANGUAGES.values():
            verdicts = [language.verdict(label) for label in language.verdicts]
            for said in (*(line.words(language) for line in (*told, *again)), *verdicts[n % 7 :]):
                words = unicodedata.normalize("NFKC", " ".join(word.text for word in said))
                for word in re.findall(r"'?\w+(?:-\w+)*|[^\w\s]", words):
                    # A language without spaces is written both ways: as text, and as words of a tagging task.
                    marks = [""] if word in ".,?" or word[0] == "'" else ["▁"] if language.spaced else ["", "▁"]
                    for mark in marks:
                        count[mark + word] += 1
    ranked = sorted(count, key=lambda word: (-count[word], word))
    pieces: Counter[str] = Counter({word: count[word] for word in ranked[:WHOLE]})
    for word in ranked[WHOLE:]:
        stem = max((os.path.commonprefix([word, other]) for other in ranked if other != word), key=len)
        for piece in (stem, word[len(stem) :]):
            if len(piece.strip("▁")) > 1:
                pieces[piece] += count[word]
    letters = sorted({letter for word in count for letter in word} | set(ALPHABET) | {"▁"})
    pieces.update({letter: 1 for letter in letters})
    total = sum(pieces.values())
    return [(piece, math.log(pieces[piece] / total)) for piece in sorted(pieces, key=lambda p: (-pieces[p], p))]


def make_tokenizer(folder: Path) -> Tokenizer:
    """A unigram tokenizer of the world's text, with the special tokens of XLM-R in their places."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    tokenizer = Tokenizer(models.Unigram([*special, *vocabulary()], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    settings = {f"{name}_token": token for name, token in names.items()}
    (folder / "special_tokens_map.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    settings |= {
        "tokenizer_class": "XLMRobertaTokenizer",
        "model_max_length": POSITIONS,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return tokenizer


def encode(tokenizer: Tokenizer, stories: int, first: int = 0) -> Encoded:
    """Per language and story the ids of each part, without special tokens."""
    texts = [passages(first + n) for n in tqdm(range(stories), desc="stories", mininterval=5)]
    found = []
    for code in LANGUAGES:
        parts = [
            [e.ids for e in tokenizer.encode_batch([t[code][part] for t in texts], add_special_tokens=False)]
            for part in range(PARTS)
        ]
        found.append(list(zip(*parts, strict=True)))
    return found


def stories(encoded: Encoded, rng: random.Random) -> list[Row]:
    """A row for every story and language, alone or beside its translation; each piece with its chance to be masked.

    What is told first can only be guessed, what follows from it or stands in a translation can be known: the masks go
    where there is something to learn.
    """
    found = []
    for own, said in enumerate(encoded):
        for n, (told, again, *_) in enumerate(said):
            other = encoded[rng.choice([k for k in range(len(encoded)) if k != own])][n]
            form = rng.random()
            if form < 0.15:
                found.append(row([(told, FIRST), (again, AGAIN)]))
            elif form < 0.5:  # questions stand before their context in some tasks, statements after it in others
                found.append(row(*rng.sample([[(told, FIRST)], [(again, AGAIN)]], 2)))
            elif form < 0.8:  # a translation
                found.append(row([(told, BESIDE)], [(other[0], BESIDE)]))
            else:  # what follows, said in another language
                found.append(row([(told, FIRST)], [(other[1], AGAIN)]))
    return found


def quizzes(encoded: Encoded, plain: float, rng: random.Random) -> list[Row]:
    """A row for every quiz and language, its verdict to be found; `plain` is the share of the plain ones."""
    found = []
    for own, said in enumerate(encoded):
        for n, parts in enumerate(said):
            start = 2 if rng.random() < plain else 5
            verdict, told, stated = parts[start : start + 3]
            if start == 5 and rng.random() < 0.2:
                stated = encoded[rng.choice([k for k in range(len(encoded)) if k != own])][n][7]
            found.append(row([(verdict[:-1], 1.0), (verdict[-1:], 0.0), (told, 0.0)], [(stated, 0.0)]))
    return found


def row(*texts: list[tuple[list[int], float]]) -> Row:
    """One text or two of passages, each with its chance to be masked, as XLM-R joins them."""
    ids, rates = [0], [0.0]
    for number, text in enumerate(texts):
        if number:
            ids, rates = [*ids, 2], [*rates, 0.0]
        for passage, rate in text:
            ids, rates = [*ids, *passage], [*rates, *[rate] * len(passage)]
        ids, rates = [*ids, 2], [*rates, 0.0]
    return ids[:POSITIONS], rates[:POSITIONS]


def batches(all_rows: list[Row], tokens: int, rng: random.Random) -> list[list[Row]]:
    """Rows of like length together, `tokens` a batch, in random order."""
    rng.shuffle(all_rows)
    found: list[list[Row]] = []
    for start in range(0, len(all_rows), 8_192):
        pool = sorted(all_rows[start : start + 8_192], key=lambda row: len(row[0]))
        while pool:
            count = max(1, tokens // len(pool[min(len(pool), tokens // len(pool[0][0])) - 1][0]))
            found.append(pool[:count])
            pool = pool[count:]
    rng.shuffle(found)
    return found


def inside_words(tokenizer: Tokenizer) -> np.ndarray:
    """Which pieces continue a word; where there are no spaces every piece is a word of its own."""
    pieces = [tokenizer.id_to_token(n) for n in range(tokenizer.get_vocab_size())]
    return np.array([n > 3 and p[0] not in "▁<" and p[0] < "\u2e80" and p not in ".,?" for n, p in enumerate(pieces)])


def kinds(tokenizer: Tokenizer) -> np.ndarray:
    """A number for every piece that is a whole word: pieces of one number are of one language and part of speech."""
    found: dict[int, tuple[str, str, str]] = {}
    for number in range(600):
        told, again = story(World(f"{SEED} {number}", ("train", "dev")), 4)
        for code, language in LANGUAGES.items():
            for word in (word for line in (*told, *again) for word in line.words(language)):
                for text in (word.text, f".{word.text}"):  # with and without a space before it
                    ids = tokenizer.encode(text, add_special_tokens=False).ids[text[0] == "." and 1 :]
                    if word.tag in OPEN and len(ids) == 1:
                        found.setdefault(ids[0], (code, word.tag, word.entity))
    names = sorted(set(found.values()))
    return np.array([names.index(found[n]) if n in found else -1 for n in range(tokenizer.get_vocab_size())])


def verdict_pieces(tokenizer: Tokenizer) -> torch.Tensor:
    """The pieces that say whether something is so."""
    words = [word.split("/")[0] for language in LANGUAGES.values() for word in language.verdicts.values()]
    return torch.tensor(sorted({tokenizer.encode(word, add_special_tokens=False).ids[-1] for word in words}))


def masked(
    batch: list[Row], inner: np.ndarray, kind: np.ndarray, mask_id: int, draw: np.random.Generator
) -> tuple[torch.Tensor, ...]:
    """Padded ids with words masked, the attention mask, and the places and ids to restore.

    Whole words are masked: given half of a word, the other half is no riddle. Most of the chosen become <mask>, some
    another word of their kind, often one of the same row, some stay (Devlin et al. 2019, but for the kind): to tell a
    wrong word from a right one, the model has to compare what is said with what was told.
    """
    width = max(len(row) for row, _ in batch)
    ids = np.full((len(batch), width), 1, dtype=np.int64)
    rate = np.zeros((len(batch), width))
    for n, (row, rates) in enumerate(batch):
        ids[n, : len(row)], rate[n, : len(row)] = row, rates
    starts = ~inner[ids]
    word = np.cumsum(starts, axis=1)  # number of the word in its row
    chance = draw.random((len(batch), width + 1))
    pick = np.take_along_axis(chance, word, axis=1) < rate
    restore = ids[pick]
    shown = np.full_like(restore, mask_id)
    fate = draw.random(restore.shape)
    shown[fate < KEPT] = restore[fate < KEPT]
    rows_of = np.nonzero(pick)[0]
    for n in np.flatnonzero((fate > 1 - REPLACED) & (kind[restore] >= 0)):
        row = ids[rows_of[n]]
        pool = row[(kind[row] == kind[restore[n]]) & (row != restore[n])]
        if not len(pool) or draw.random() < 0.4:
            pool = np.flatnonzero(kind == kind[restore[n]])
        shown[n] = draw.choice(pool)
    present = ids != 1
    ids[pick] = shown
    return tuple(torch.from_numpy(x) for x in (ids, present.astype(np.int64), pick, restore))


def told_batches(encoded: Encoded, tokens: int, rng: random.Random) -> Iterator[list[Row]]:
    """Stories without end, each time with other masks and neighbours."""
    while True:
        yield from batches(stories(encoded, rng), tokens, rng)


def asked_batches(encoded: Encoded, plain: float, rng: random.Random) -> Iterator[list[Row]]:
    """Quizzes without end, of all lengths and languages in every batch; a tenth of the text at a time."""
    size = max(1, len(encoded[0]) // 10)
    for turn in itertools.count():
        start = turn % 10 * size
        found = quizzes([said[start : start + size] for said in encoded], plain, rng)
        rng.shuffle(found)
        yield from (found[n : n + QUIZZES] for n in range(0, len(found), QUIZZES))


def pretrain(tokenizer: Tokenizer, encoded: Encoded, steps: int) -> XLMRobertaForMaskedLM:
    """Train from random weights; Adam as in RoBERTa, the rate rises for 300 steps and falls to nothing."""
    torch.manual_seed(1)
    rng, draw = random.Random(1), np.random.default_rng(1)
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
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    told, less = told_batches(encoded, BATCH_TOKENS, rng), told_batches(encoded, BATCH_TOKENS // 2, rng)
    plain, asked = asked_batches(encoded, 1.0, rng), asked_batches(encoded, 0.5, rng)
    bar = tqdm(range(steps), desc="pretraining", mininterval=5)
    seen: Counter[str] = Counter()
    for step in bar:
        done = step / steps
        if done < STAGES[0]:
            work, lr = {"restored": told}, RATE * min(1.0, (step + 1) / 300) * max(1 - done / STAGES[0], 0.15)
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
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 100 == 0:
            bar.set_postfix({name: f"{seen[name] / max(1, seen[f'{name} asked']):.1%}" for name in work})
            print(step + 1, {name: f"{seen[name] / max(1, seen[f'{name} asked']):.1%}" for name in work}, flush=True)
            seen.clear()
    return model.eval()


def restored(folder: Path, stories: int = 300) -> dict[str, dict[str, float]]:
    """Per language: how many masked words come back, and how many of the guesses are words of that language.

    Fresh stories; one word of what is said again is masked at a time. A guess shared by languages counts as right.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = XLMRobertaForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    mask = tokenizer.token_to_id("<mask>")
    encoded = encode(tokenizer, stories, first=10_000_000)
    found = {}
    for code, stories_ in zip(LANGUAGES, encoded, strict=True):
        known = {piece for told, again, *_ in stories_ for piece in (*told, *again)}
        draw = random.Random(code)
        right = inside = 0
        for told, again, *_ in stories_:
            row = [0, *told, *again, 2]
            place = 1 + len(told) + draw.randrange(len(again))
            truth, row[place] = row[place], mask
            with torch.no_grad():
                guess = int(model(torch.tensor([row])).logits[0, place].argmax())
            right += guess == truth
            inside += guess in known
        found[code] = {"restored": right / stories, "right language": inside / stories}
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
    tokenizer = make_tokenizer(out)
    model = pretrain(tokenizer, encode(tokenizer, stories), steps)
    model.half().save_pretrained(out)  # half the size; loading widens it again
    print(f"{out}: {time.perf_counter() - started:.0f} s")
    made = show(out)
    if check:
        shipped = show(BACKBONE)
        if (out / "tokenizer.json").read_bytes() != (BACKBONE / "tokenizer.json").read_bytes():
            raise SystemExit(f"error: {out}: the tokenizer differs from the one that ships.")
        # Other kernels round otherwise, and training carries that on: weights differ, what they can do does not.
        apart = max(abs(made[code]["restored"] - shipped[code]["restored"]) for code in LANGUAGES)
        print(f"largest difference to the backbone that ships: {apart:.1%} of the masked words")
        if apart > TOLERANCE:
            raise SystemExit(f"error: {out}: differs by more than {TOLERANCE:.0%}.")


def show(folder: Path) -> dict[str, dict[str, float]]:
    found = restored(folder)
    print(f"{folder}: masked words restored, and guesses in the right language")
    for code, share in found.items():
        print(f"  {code}  {share['restored']:.1%}  {share['right language']:.1%}")
    return found


if __name__ == "__main__":
    typer.run(main)
