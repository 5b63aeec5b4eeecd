"""The tokenizer of the miniature backbone: unigram pieces from the closed word lists of the world's languages."""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from adapterxl.miniature.languages import LANGUAGES
from adapterxl.miniature.text import story
from adapterxl.miniature.world import World

SEED = "miniature 1"
SPLITS = ("train", "dev")  # no statement of a test split occurs in the text
WHOLE = 1_000  # words that are one piece
POSITIONS = 256
OPEN = ("NOUN", "PROPN", "ADJ", "VERB")
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!:;'\"-()/&%"


def vocabulary() -> list[tuple[str, float]]:
    """Pieces with log probabilities: frequent words whole, rarer ones as the stem they share and an ending, letters.

    A trained unigram model would differ from run to run; over closed tables this gives the same kind of pieces.
    """
    count: Counter[str] = Counter()
    for n in range(4_000):
        told, again = story(World(f"{SEED} {n}", SPLITS), 4)
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


def inside_words(tokenizer: Tokenizer) -> np.ndarray:
    """Which pieces continue a word; where there are no spaces every piece is a word of its own."""
    pieces = [tokenizer.id_to_token(n) for n in range(tokenizer.get_vocab_size())]
    return np.array([n > 3 and p[0] not in "▁<" and p[0] < "\u2e80" and p not in ".,?" for n, p in enumerate(pieces)])


def kinds(tokenizer: Tokenizer) -> np.ndarray:
    """A number for every piece that is a whole word: pieces of one number are of one language and part of speech."""
    found: dict[int, tuple[str, str, str]] = {}
    for number in range(600):
        told, again = story(World(f"{SEED} {number}", SPLITS), 4)
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
