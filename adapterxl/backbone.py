"""The frozen multilingual encoder: load XLM-R or mBERT, freeze it, tell which one it is (fingerprint)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data.vocabulary import tokens_digest
from .errors import BackboneError, UsageError, did_you_mean
from .frozen import BITS, CpuEmbedding, check_available, quantize_linears
from .miniature import BACKBONE

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}
DEVICES = ("auto", "cpu", "cuda")
EMBEDDINGS = ("device", "cpu")
_WANTED = ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
           "special_tokens_map.json", "sentencepiece.bpe.model", "vocab.txt")  # fmt: skip
_TOKENIZERS = ("tokenizer.json", "sentencepiece.bpe.model", "vocab.txt")

# Keys of a base's config.json that describe its numbers. Everything else (attention implementation,
# auto_map, quantisation, custom code) is dropped: a config file must not choose what code runs.
_CONFIG_KEYS = frozenset(
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act hidden_dropout_prob "
    "attention_probs_dropout_prob max_position_embeddings type_vocab_size initializer_range layer_norm_eps "
    "pad_token_id bos_token_id eos_token_id position_embedding_type classifier_dropout "
    "tie_word_embeddings".split()
)
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
          "max_position_embeddings", "type_vocab_size")  # fmt: skip


class Backbone:
    """A frozen encoder with its tokenizer.

    Args:
        base: Hub id (``FacebookAI/xlm-roberta-base``, or ``ID@REVISION``) or a local folder with config.json,
            safetensors weights and a fast tokenizer. None: the miniature XLM-R that ships with the package.
        revision: Commit, tag or branch on the hub; ignored for folders.
        dtype: fp32, bf16 (or fp64, for checks).
        device: cpu, cuda, or auto (cuda when there is one).
        bits: 8 or 4: the encoder's matrices in int8 or NF4 (needs the extra `quant`); activations stay in `dtype`.
        embeddings: "cpu" keeps the table of token embeddings there, and sends the rows of a batch's tokens.
        checkpointing: Compute a layer's activations again in the backward pass instead of keeping them.
        compile: Compile what follows the products of a layer (dropout, residual, norm) with torch.compile; of the
            packed engine. The first steps take longer.
        load: Read the weights now. Otherwise they are read at their first use, and a plan for a given memory
            (`Settings.memory`) may still choose their precision.

    Attributes:
        model: The Hugging Face encoder.

    Raises:
        BackboneError: If it cannot be found, is not XLM-R or BERT, or lacks weights.
    """

    def __init__(
        self,
        base: str | Path | None = None,
        *,
        revision: str | None = None,
        dtype: str = "fp32",
        device: str = "auto",
        bits: int | None = None,
        embeddings: str = "device",
        checkpointing: bool = False,
        compile: bool = False,
        load: bool = True,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"No dtype '{dtype}'.{did_you_mean(dtype, DTYPES)} Choose one of: {', '.join(DTYPES)}.")
        if device not in DEVICES:
            raise UsageError(f"No device '{device}'. Choose one of: {', '.join(DEVICES)}.")
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("Device 'cuda' was asked for, but PyTorch sees no CUDA GPU. Use --device cpu.")
        if embeddings not in EMBEDDINGS:
            raise UsageError(f"No place '{embeddings}' for embeddings. Choose one of: {', '.join(EMBEDDINGS)}.")
        if bits is not None:
            if bits not in BITS:
                raise UsageError(f"bits: found {bits!r}, expected 8, 4, or none for all bits of the dtype.")
            if dtype == "fp64":
                raise UsageError("fp64 is for checks, and goes with no bits: choose dtype fp32 or bf16.")
            check_available()
        # Launchers of several processes give each its own GPU.
        gpu = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
        self.device = torch.device(gpu if device != "cpu" and torch.cuda.is_available() else "cpu")
        self.dtype_name, self.bits, self.embeddings, self.checkpointing = dtype, bits, embeddings, checkpointing
        self.compile = compile
        self.folder, self.id, self.revision = _locate(str(BACKBONE if base is None else base), revision)
        self.name = self.id or self.folder.name
        self.config, self.tokenizer = _read(self.folder)
        self.model_type: str = self.config.model_type
        self.hidden: int = self.config.hidden_size
        self.intermediate: int = self.config.intermediate_size
        self.layers: int = self.config.num_hidden_layers
        self.heads: int = self.config.num_attention_heads
        # XLM-R, as RoBERTa, counts positions from padding_idx + 1.
        self.position_offset = self.config.pad_token_id + 1 if self.model_type == "xlm-roberta" else 0
        self.max_length: int = self.config.max_position_embeddings - self.position_offset
        self.uses_token_types = self.config.type_vocab_size > 1
        if load:
            _ = self.model

    @cached_property
    def model(self) -> Any:
        # Quantised from fp32 whatever the dtype, so that the same bits are the same weights.
        model = _load(self.folder, self.config, torch.float32 if self.bits else self.dtype)
        if self.bits:
            quantize_linears(model.encoder, self.bits)
            model.to(self.dtype)
        if self.embeddings == "cpu":
            model.embeddings.word_embeddings = CpuEmbedding(model.embeddings.word_embeddings)
        return model.to(self.device).eval().requires_grad_(False)

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return "model" in self.__dict__

    def adapt(self, **options: Any) -> None:
        """Change dtype_name, bits, embeddings or checkpointing: before the weights are loaded all of them, afterwards
        what changes no number.

        Raises:
            UsageError: If the weights are loaded in another precision.
        """
        changed = {name: value for name, value in options.items() if getattr(self, name) != value}
        if self.loaded and changed.keys() & {"dtype_name", "bits"}:
            raise UsageError("The weights are loaded: their precision is chosen when a Backbone is made.")
        for name, value in changed.items():
            setattr(self, name, value)
        if self.loaded and "embeddings" in changed:
            inside = self.model.embeddings
            table = inside.word_embeddings.cpu()
            kept = CpuEmbedding(table) if self.embeddings == "cpu" else table.plain()
            inside.word_embeddings = kept.to(self.device)

    def check_mergeable(self) -> None:
        """Refuse what would write into the weights of a quantised backbone.

        Raises:
            BackboneError: If there are weights in 8 or 4 bits: folded into them, a module would be rounded away.
        """
        if self.bits:
            raise BackboneError(
                f"The backbone is in {self.bits} bits, and nothing is ever merged into such weights: a module would be "
                "lost in their rounding. Run it beside them (the default), or load the backbone without bits."
            )

    def options(self) -> dict[str, Any]:
        """What a run records of bits, embeddings, checkpointing and compile: those that are not the default."""
        found = {name: getattr(self, name) for name in ("bits", "embeddings", "checkpointing", "compile")}
        return {name: value for name, value in found.items() if value not in (None, False, "device")}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the encoder and embedding tensors as stored on disk (name, dtype, shape, bytes)."""
        return fingerprint(self.folder)

    @cached_property
    def tokens(self) -> str:
        """sha256 over what its tokenizer makes of text: see `tokens_digest`."""
        return tokens_digest(self.tokenizer)

    def stored(self, name: str) -> torch.Tensor:
        """An encoder tensor as it is stored on disk, whatever precision it runs in, by its name without prefix."""
        from safetensors import safe_open

        for file in weight_files(self.folder):
            with safe_open(file, "pt") as weights:
                for key in weights.keys():
                    if _bare(key) == name:
                        return weights.get_tensor(key)
        raise BackboneError(f"{self.folder}: no tensor {name}.")

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.dtype_name]

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision as training has it: on CUDA with bf16 weights; elsewhere nothing."""
        if self.device.type == "cuda" and self.dtype == torch.bfloat16:
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def describe(self) -> dict[str, Any]:
        """What an artifact or a result records about its base."""
        return {
            "name": self.name, "id": self.id, "revision": self.revision, "fingerprint": self.fingerprint,
            "model_type": self.model_type, "hidden_size": self.hidden, "layers": self.layers, "tokenizer": self.tokens,
        }  # fmt: skip


def _locate(base: str, revision: str | None) -> tuple[Path, str | None, str | None]:
    """Find the folder of a base: local, or a snapshot of the hub. Returns folder, hub id, commit."""
    folder = Path(base).expanduser()
    if folder.is_dir():
        return folder.resolve(), None, None
    base, _, at = base.partition("@")
    revision = revision or at or None
    parts = base.split("/")
    if base.startswith((".", "/", "~")) or len(parts) > 2 or not all(parts):
        raise BackboneError(
            f"No backbone folder '{base}'. Give a folder with config.json and model.safetensors, "
            "or a hub id such as FacebookAI/xlm-roberta-base."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(base, revision=revision, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise BackboneError(
            f"'{base}' is no folder here, and the hub did not give it either "
            f"({type(error).__name__}: {str(error).splitlines()[0]}). Check the name and the network, or give a folder."
        ) from error
    return snapshot, base, snapshot.name


def read_config(folder: Path) -> dict[str, Any]:
    """Read a base's config.json through the allow-list; refuse other architectures in one line."""
    path = folder / "config.json"
    if not path.is_file():
        raise BackboneError(f"{path}: not found. A backbone folder needs config.json, model.safetensors, a tokenizer.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BackboneError(f"{path}: not readable as JSON ({error}).") from error
    found = config.get("model_type") if isinstance(config, dict) else None
    if found not in _CLASSES:
        raise BackboneError(
            f"{path}: model_type: found {found!r}, expected one of: {', '.join(_CLASSES)}. "
            "adapterxl works on XLM-R and (m)BERT encoders."
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise BackboneError(
            f"{path}: position_embedding_type: found {config['position_embedding_type']!r}, expected 'absolute'."
        )
    _check_numbers(path, config)
    return {"model_type": found} | {key: config[key] for key in sorted(_CONFIG_KEYS & config.keys())}


def _check_numbers(path: Path, config: dict[str, Any]) -> None:
    """transformers takes any value here, and fails much later or not at all."""
    for key in _SIZES:
        if key in config and (type(config[key]) is not int or config[key] < 1):
            raise BackboneError(f"{path}: {key}: found {config[key]!r}, expected a whole number from 1.")
    pad: Any = config.get("pad_token_id", 0)
    if type(pad) is not int or pad < 0:
        raise BackboneError(f"{path}: pad_token_id: found {pad!r}, expected a whole number from 0.")
    for key in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "layer_norm_eps"):
        value: Any = config.get(key)
        if value is None and (key not in config or key == "classifier_dropout"):
            continue
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise BackboneError(f"{path}: {key}: found {value!r}, expected a number from 0 to below 1.")


_CLASSES = {
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaModel", "XLMRobertaTokenizerFast"),
    "bert": ("BertConfig", "BertModel", "BertTokenizerFast"),
}


def _read(folder: Path) -> tuple[Any, Any]:
    """Configuration and tokenizer."""
    import transformers

    values = read_config(folder)
    weight_files(folder)  # fails with the reason before transformers tries anything else
    config_class, _, tokenizer_class = (getattr(transformers, name) for name in _CLASSES[values.pop("model_type")])
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise BackboneError(f"{folder}: no tokenizer; expected one of {', '.join(_TOKENIZERS)}.")
    with _loading(folder):
        return config_class(**values, attn_implementation="sdpa"), tokenizer_class.from_pretrained(
            folder, local_files_only=True
        )


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """What transformers says of a broken folder, in one line; its warnings are left out."""
    import transformers
    from safetensors import SafetensorError

    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # the unused LM head is no news to anyone
    try:
        yield
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, ImportError, SafetensorError) as error:
        raise BackboneError(f"{folder}: cannot be loaded ({type(error).__name__}: {str(error)[:300]}).") from error
    finally:
        transformers.logging.set_verbosity(level)


def _load(folder: Path, config: Any, dtype: torch.dtype) -> Any:
    import transformers

    with _loading(folder):
        model, info = getattr(transformers, _CLASSES[config.model_type][1]).from_pretrained(
            folder,
            config=config,
            add_pooling_layer=False,
            use_safetensors=True,
            torch_dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
            local_files_only=True,
        )
    missing = list(info["missing_keys"]) + [str(key) for key in info["mismatched_keys"]]
    if missing:
        raise BackboneError(f"{folder}: {len(missing)} weights are missing or of another shape, first: {missing[0]}.")
    # Fewer layers in the config than in the file would run without a word, and not as the fingerprint says.
    beyond = sorted(name for name in map(_bare, info["unexpected_keys"]) if _is_encoder(name))
    if beyond:
        raise BackboneError(
            f"{folder}: config.json does not describe these weights: {len(beyond)} have no place, first: {beyond[0]}."
        )
    return model


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a base, in order; refuses pickle-only folders."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        try:
            names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise BackboneError(f"{index}: not an index of safetensors files ({reason}).") from error
        files = [folder / name for name in names if Path(name).name == name]
        absent = [file.name for file in files if not file.is_file()]
        if files and not absent:
            return files
        raise BackboneError(f"{index}: names files that are not there: {', '.join(absent) or 'none at all'}.")
    hint = ""
    if any(folder.glob("*.bin")):
        hint = " Pickle weights (.bin) are never read; convert them to safetensors first."
    raise BackboneError(f"{folder}: no model.safetensors.{hint}")


def fingerprint(folder: Path) -> str:
    """Fingerprint of a base, as `Backbone.fingerprint`; independent of sharding and of the model's prefix."""
    entries: list[tuple[str, str, list[int], Path, int, int]] = []
    for file in weight_files(folder):
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            try:
                header = json.loads(stream.read(min(size, file.stat().st_size)))
                found = [(_bare(name), entry) for name, entry in header.items()]
            except (ValueError, AttributeError) as error:
                raise BackboneError(f"{file}: not a safetensors file, or cut inside its header ({error}).") from error
        for bare, entry in found:
            if _is_encoder(bare):
                begin, end = entry["data_offsets"]
                entries.append((bare, entry["dtype"], entry["shape"], file, 8 + size + begin, end - begin))
    digest = hashlib.sha256()
    for name, dtype, shape, file, start, count in sorted(entries, key=lambda entry: entry[0]):
        digest.update(f"{name}\0{dtype}\0{shape}\0".encode())
        with file.open("rb") as stream:
            stream.seek(start)
            while count:
                block = stream.read(min(count, 1 << 22))
                if not block:
                    raise BackboneError(f"{file}: ends inside tensor {name}; the file is cut.")
                digest.update(block)
                count -= len(block)
    return digest.hexdigest()


def _bare(name: str) -> str:
    """A tensor's name without the model's prefix, and with the LayerNorm names of today (old files: gamma, beta)."""
    bare = name.removeprefix("roberta.").removeprefix("bert.")
    return bare.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _is_encoder(bare: str) -> bool:
    """Whether a tensor belongs to what we run. position_ids is a buffer that only old checkpoints store."""
    return bare.startswith(("embeddings.", "encoder.")) and bare != "embeddings.position_ids"


def share_structure(model: nn.Module) -> Any:
    """Copy the module objects of a model but not its tensors, so that a library may rebuild the copy in place."""
    import copy

    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, dict(tensors))
