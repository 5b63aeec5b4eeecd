"""The head for masked tokens: Hugging Face's logits at the masked places, gradients of all, and few bytes kept."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from tiny import SENTENCES, backbone, distance, norm_distance, random_part
from torch import Tensor

from adapterxl import LoRA
from adapterxl.backbone import Backbone
from adapterxl.data.collate import Batch, collate
from adapterxl.data.examples import TextExample
from adapterxl.data.prepare import prepare
from adapterxl.engines.packed import PackedEngine
from adapterxl.errors import BackboneError
from adapterxl.modules import Part, make_head
from adapterxl.modules.heads import row_losses


@pytest.fixture(params=["tiny_xlmr", "tiny_bert", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param != "untied":
        return Path(request.getfixturevalue(request.param))
    found = copytree(request.getfixturevalue("tiny_xlmr"), tmp_path / "untied")
    tensors = load_file(found / "model.safetensors")
    table = tensors["roberta.embeddings.word_embeddings.weight"]
    tensors["lm_head.decoder.weight"] = torch.randn(table.shape, generator=torch.Generator().manual_seed(1))
    save_file(tensors, found / "model.safetensors", {"format": "pt"})
    edit_config(found, tie_word_embeddings=False)
    return found


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def masked(on: Backbone) -> Batch:
    examples = [TextExample(str(i), "en", text) for i, text in enumerate(SENTENCES)]
    return collate("mask", prepare("mask", examples, on.tokenizer, 64).items, on.device)


def gradients(loss: Tensor, part: Part) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(part.parameters())))


def test_logits_at_the_masked_places_are_those_of_hugging_face(folder: Path) -> None:
    on = backbone(folder, dtype="fp32")
    batch = masked(on)
    kind = {"xlm-roberta": "XLMRoberta", "bert": "Bert"}[on.model_type]
    stock = getattr(transformers, f"{kind}ForMaskedLM").from_pretrained(folder).eval()
    with torch.no_grad():
        found = make_head("mask", on, ()).eval()(
            PackedEngine(on, (), None).hidden(batch.ragged), batch.ragged, batch.select
        )
        expected = [
            stock(torch.tensor(item.rows), torch.ones(1, item.tokens, dtype=torch.long)).logits[0, item.positions]
            for item in batch.items
        ]
    assert distance(found, torch.cat(expected)) < 1e-5
    assert found.shape == (len(batch.targets), on.config.vocab_size)


def test_loss_and_gradients_are_those_of_all_logits(folder: Path) -> None:
    on = backbone(folder)
    assert on.dtype == torch.float64
    part = random_part(LoRA(rank=2), on, 3)
    batch, head, engine = masked(on), make_head("mask", on, ()), PackedEngine(on, (), part)
    hidden = engine.hidden(batch.ragged)
    few = row_losses("mask", head(hidden, batch.ragged, batch.select), batch.ragged, batch.targets)
    labels = torch.full((len(hidden),), -100).scatter(0, batch.select, batch.targets)
    whole = F.cross_entropy(head(hidden, batch.ragged), labels)
    assert distance(few, whole) < 1e-12
    pairs = zip(
        *(torch.autograd.grad(loss, list(engine.parameters().values()), retain_graph=True) for loss in (few, whole)),
        strict=True,
    )
    distances = [norm_distance(ours, expected) for ours, expected in pairs]
    assert distances and max(distances) < 1e-12
    assert not any(p.requires_grad for p in (*head.parameters(), *head.buffers()))


def test_what_is_kept_for_the_backward_pass_counts_the_masked_places_only(tiny_xlmr: Path) -> None:
    on = backbone(tiny_xlmr, dtype="fp32")
    batch, head = masked(on), make_head("mask", on, ())
    hidden = PackedEngine(on, (), None).hidden(batch.ragged).requires_grad_()
    known = {t.data_ptr() for t in (*on.model.parameters(), *head.buffers())}

    def kept(select: Tensor | None, targets: Tensor) -> int:
        held: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in known and tensor.is_floating_point():
                held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            row_losses("mask", head(hidden, batch.ragged, select), batch.ragged, targets)
        return sum(held.values())

    asked, tokens = len(batch.targets), len(hidden)
    ours, whole = kept(batch.select, batch.targets), kept(None, torch.zeros(tokens, dtype=torch.long))
    assert ours / whole == pytest.approx(asked / tokens, rel=0.05) and asked / tokens < 0.2
    logits = 4 * asked * on.config.vocab_size
    assert logits <= ours < logits + 4 * asked * 6 * on.hidden  # the log-probabilities, and rows of width `hidden`


@pytest.mark.parametrize("name", ["tiny_xlmr", "tiny_bert"])
def test_a_checkpoint_without_the_head_is_refused_by_name(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bare = copytree(request.getfixturevalue(name), tmp_path / "bare")
    tensors = load_file(bare / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if not name.startswith(("lm_head.", "cls."))}
    save_file(kept, bare / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"bare: the checkpoint has no head for masked tokens \(no tensor .*dense"):
        make_head("mask", backbone(bare), ())


def test_a_decoder_that_is_said_not_to_be_tied_must_be_stored(tiny_xlmr: Path, tmp_path: Path) -> None:
    found = copytree(tiny_xlmr, tmp_path / "half")
    edit_config(found, tie_word_embeddings=False)
    with pytest.raises(BackboneError, match=r"no tensor lm_head\.decoder\.weight"):
        make_head("mask", backbone(found), ())


def test_a_head_of_other_shapes_is_refused(tiny_xlmr: Path, tmp_path: Path) -> None:
    found = copytree(tiny_xlmr, tmp_path / "odd")
    tensors = load_file(found / "model.safetensors")
    save_file(tensors | {"lm_head.bias": torch.zeros(3)}, found / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"lm_head\.bias: found shape \(3,\), expected \(\d+,\)"):
        make_head("mask", backbone(found), ())
