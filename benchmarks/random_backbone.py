"""A backbone folder of any size with random weights: benchmarks of speed and memory need no others, and no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import XLMRobertaConfig, XLMRobertaModel

from adapterxl.miniature import BACKBONE

# vocabulary, hidden, inner, layers, heads
SIZES = {
    "base": (250_002, 768, 3072, 12, 12),
    "large": (250_002, 1024, 4096, 24, 16),
    "tiny": (1000, 32, 64, 3, 4),
}


def write_backbone(folder: Path, size: str, dtype: torch.dtype, device: torch.device) -> Path:
    """Write an XLM-R with weights normal(0, 0.02), made on `device`, and the miniature's tokenizer, which none uses."""
    vocabulary, hidden, inner, layers, heads = SIZES[size]
    config = XLMRobertaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
    )  # fmt: skip
    with torch.device("meta"):
        model = XLMRobertaModel(config, add_pooling_layer=False)
    generator = torch.Generator(device).manual_seed(1)
    tensors = {}
    for name, parameter in model.named_parameters():
        values = torch.empty(parameter.shape, dtype=dtype, device=device)
        if "LayerNorm" in name:
            values.fill_(float(name.endswith("weight")))
        else:
            values.normal_(0.0, 0.02, generator=generator)
        tensors[name] = values.cpu()
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    for file in BACKBONE.glob("*token*"):
        shutil.copy(file, folder)
    return folder
