"""Tiny random backbones for tests, as folders with a tokenizer, and what tests hang on them: rows, parts, distances."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForPreTraining, PreTrainedModel, XLMRobertaConfig, XLMRobertaForMaskedLM

from adapterxl.backbone import Backbone
from adapterxl.modules import LoRAPart, Method, Part

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Pack my box with five dozen liquor jugs, she said.",
    "A man is playing a guitar on the stage in London.",
    "Nobody was in the house when the letter came.",
    "Who wrote the book that you read in 1984?",
    "The river is longer than the road to Vienna.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Der Hund schläft, und die Katze trinkt ihre Milch.",
    "Wer hat das Buch geschrieben, das du gelesen hast?",
    "El veloz murciélago hindú comía feliz cardillo y kiwi.",
    "La niña bebe agua; el gato duerme en la casa.",
    "Portez ce vieux whisky au juge blond qui fume.",
    "L'eau est froide, mais le soleil brille.",
    "Съешь же ещё этих мягких французских булок.",
    "Кто написал эту книгу?",
    "我喜欢读书。他们住在北京。",
    "القطة تنام في البيت.",
    "0 1 2 3 4 5 6 7 8 9 ( ) [ ] ' \" - : ; , . ! ?",
)
_SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


def make_tiny_xlmr(folder: Path, sizes: dict[str, int] | None = None) -> Path:
    """A random XLM-R with its LM head, as published checkpoints have it, and a Unigram tokenizer."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    starts, insides = _pieces()
    # One score for all but a tie-break: the fewest pieces win.
    scored = [(piece, -10 - 0.001 * i) for i, piece in enumerate(["▁", *(f"▁{start}" for start in starts), *insides])]
    tokenizer = Tokenizer(models.Unigram([*((token, 0.0) for token in special), *scored], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    _write_tokenizer(folder, tokenizer, names, {"tokenizer_class": "XLMRobertaTokenizer"})
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        **(sizes or _SIZE),
    )
    return _write_model(folder, XLMRobertaForMaskedLM(config))


def make_tiny_bert(folder: Path) -> Path:
    """A random BERT with pooler and pre-training heads, as mBERT is published, and a cased WordPiece tokenizer."""
    starts, insides = _pieces()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *starts, *(f"##{inside}" for inside in insides)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    extra = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": False}
    _write_tokenizer(folder, tokenizer, names, extra)
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=512, **_SIZE)
    return _write_model(folder, BertForPreTraining(config))


def _pieces() -> tuple[list[str], list[str]]:
    """Beginnings of the words of SENTENCES, and pieces of their insides; a trainer's choice differs from run to run."""
    words = sorted(set(re.findall(r"\w+|[^\w\s]", " ".join(SENTENCES))))
    characters = set("".join(words))
    starts = {word[:n] for word in words for n in (1, 2, 3)}
    insides = {word[i : i + 2] for word in words for i in range(1, len(word))}
    return sorted(starts | characters), sorted(insides | characters)


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, names: dict[str, str], extra: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {f"{name}_token": token for name, token in names.items()}
    settings = {**tokens, "model_max_length": 512, "clean_up_tokenization_spaces": False, **extra}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens), encoding="utf-8")


def _write_model(folder: Path, model: PreTrainedModel) -> Path:
    """Fill every weight at random: zero biases and unit LayerNorms would hide a forgotten one."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                weight.copy_((1.0 if name.endswith("LayerNorm.weight") else 0.0) + 0.2 * noise)
            else:
                weight.copy_(noise * (0.5 if "embeddings" in name else weight.shape[1] ** -0.5))
    model.save_pretrained(folder)
    return folder


@cache
def backbone(folder: Path, dtype: str = "fp64") -> Backbone:
    """The backbone in a folder on the CPU; one object for all tests of a process, as nothing may change it."""
    return Backbone(folder, dtype=dtype, device="cpu")


def random_rows(lengths: Sequence[int], on: Backbone, seed: int = 0) -> list[list[int]]:
    """Rows of exactly these lengths: random words, with the special tokens around them where there is room."""
    generator = torch.Generator().manual_seed(seed)
    first, last = on.tokenizer.cls_token_id, on.tokenizer.sep_token_id
    rows = []
    for length in lengths:
        words = torch.randint(5, on.config.vocab_size - 1, (length,), generator=generator).tolist()
        rows.append([first, *words[1:-1], last] if length > 1 else [first])
    return rows


def random_part(method: Method, on: Backbone, seed: int = 0, name: str = "part") -> Part:
    """A new part with noise on every weight, as a trained one has: fresh ones start as (nearly) nothing."""
    generator = torch.Generator().manual_seed(seed)
    part = method.build(name, on, generator, on.dtype)
    with torch.no_grad():
        for weight in part.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator).to(weight.dtype))
    return part


def frozen(part: Part) -> Part:
    """A part as compositions hold it: without gradients, a LoRA's scale folded in."""
    return (part.folded() if isinstance(part, LoRAPart) else part).requires_grad_(False)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the root mean square of what was expected."""
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.square().mean().sqrt())


def norm_distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference, relative to the norm of what was expected (if that is not 0): for gradients, whose
    terms cancel."""
    found, expected = found.detach().double(), expected.detach().double()
    assert found.shape == expected.shape
    return float((found - expected).norm() / (expected.norm() or 1))
