"""A backbone's card tells what config and weights say, and the results that it is given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from adapterxl.backbone import Backbone
from adapterxl.errors import BackboneError, UsageError
from adapterxl.hub import backbone_card, write_backbone_card


def test_a_backbone_card_tells_sizes_languages_fingerprint_and_results(tiny_xlmr: Path, xlmr: Backbone) -> None:
    text = backbone_card(
        tiny_xlmr, languages=["en", "no", "Made Up"], licence="apache-2.0", about="Random.", limits=["A toy."],
        results=[{"task": "udpos", "en": 0.51234, "n": 8}, {"task": "a|b", "en": 1.0, "n": 9}], repo="acme/tiny",
    )  # fmt: skip
    data = ModelCard(text).data.to_dict()
    assert data["language"] == ["en", "no"] and data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "fill-mask" and data["tags"] == ["adapterxl", "xlm-roberta"]
    assert text.count(f"`{xlmr.fingerprint}`") == 1 and "# tiny\n" in text and "Random." in text and "- A toy." in text
    assert "| layers | 3 |" in text and f"| vocabulary | {xlmr.config.vocab_size:,} |" in text
    inner = sum(p.numel() for p in xlmr.model.encoder.parameters())
    assert f"| weights of the layers | {inner:,} |" in text
    assert "| udpos | 0.5123 | 8 |" in text and "| a\\|b | 1 | 9 |" in text


def test_a_backbone_card_without_results_says_so(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "mini")
    path = write_backbone_card(tmp_path / "mini", languages=["en"])
    text = path.read_text(encoding="utf-8")
    assert "**Not evaluated.**" in text and str(tmp_path) not in text and "None is stated" in text
    with pytest.raises(UsageError, match="row 2 has the columns"):
        backbone_card(tiny_bert, languages=["en"], results=[{"a": 1}, {"b": 1}])
    with pytest.raises(BackboneError, match="config.json"):
        write_backbone_card(tmp_path, languages=["en"])
    (tmp_path / "mini" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(BackboneError, match="cannot be read"):
        backbone_card(tmp_path / "mini", languages=["en"])
    assert json.loads((tmp_path / "mini" / "config.json").read_text())  # left as it was
