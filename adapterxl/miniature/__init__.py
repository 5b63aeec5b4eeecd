"""The embedded default: a multilingual world written by hand, its tasks, and a tiny XLM-R trained on its text."""

from __future__ import annotations

from pathlib import Path

# A folder as any backbone: config.json, model.safetensors, tokenizer.
BACKBONE = Path(__file__).parent / "xlmr-miniature"
# Recipes of `adapterxl demo`.
DEMO = Path(__file__).parent / "demo.yaml"
DEMO_QUICK = Path(__file__).parent / "demo_quick.yaml"
