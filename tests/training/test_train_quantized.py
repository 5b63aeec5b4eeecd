"""Training on a backbone in few bits: who may, what is recorded, and that merges are exact on those same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import rows
from tiny import distance

from adapterxl import DoRA, LoRA, TaskModule, compose, evaluate, load, merge
from adapterxl.backbone import Backbone
from adapterxl.engines.encoder import encode
from adapterxl.engines.packed import PackedEngine
from adapterxl.errors import TrainingError
from adapterxl.frozen import QuantizedLinear, dense_weight
from adapterxl.modules import SITES, LoRAPart
from adapterxl.ragged import pack

Fit = Callable[..., TaskModule]
NOTE = "Trained on a backbone in 4 bits (NF4): on other weights it gives other numbers."


@pytest.fixture(scope="module")
def four(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu", bits=4)


def logits(on: Backbone, module: TaskModule, hidden: torch.Tensor, batch: Any) -> torch.Tensor:
    assert module.head is not None
    return module.head.build(on).eval()(hidden, batch)


@torch.no_grad()
@pytest.mark.parametrize("method", [LoRA(rank=3), DoRA(rank=2)], ids=["lora", "dora"])
def test_a_merge_of_a_sequence_equals_that_sequence_on_the_same_four_bits(
    method: Any, fit: Fit, four: Backbone, tmp_path: Path
) -> None:
    with torch.enable_grad():
        a = fit("mnli", on=four, method=method, name="a", out=tmp_path / "a")
        b = fit("udpos", on=four, method=LoRA(rank=2), start=merge(a), name="b", out=tmp_path / "b")
    merged = compose(merge(load(tmp_path / "a"), load(tmp_path / "b")), head="b").save(tmp_path / "ab", on=four)
    merged = load(tmp_path / "ab")
    batch = pack(rows(four))
    one = PackedEngine(four, merged.parts, None)
    assert len(one.frozen) == 1  # a single LoRA, its ranks side by side
    found = logits(four, merged, one.hidden(batch), batch)
    # The sequence as it was trained: two parts, one after another, on the quantised Linears.
    sequence = encode(four, batch, [list(b.parts)])
    assert isinstance(sequence, torch.Tensor) and len(b.parts) == 2
    expected = logits(four, b, sequence, batch)
    assert distance(found, expected) < 1e-5
    # And the formula, on dense weights in float64: W_q, then a into it, then b.
    exact = Backbone(four.folder, dtype="fp64", device="cpu")
    for layer in range(four.layers):
        for path in SITES.values():
            linear = exact.model.encoder.layer[layer].get_submodule(path)
            quantised = four.model.encoder.layer[layer].get_submodule(path)
            assert isinstance(quantised, QuantizedLinear)
            linear.weight.copy_(dense_weight(quantised))
    for part in b.parts:
        assert isinstance(part, LoRAPart)
        for layer, site in part.keys:
            linear = exact.model.encoder.layer[layer].get_submodule(SITES[site])
            pair, scale = part.factors(layer, site), part.row_scale(layer, site)
            assert pair is not None
            linear.weight += pair[1].double() @ pair[0].double()
            if scale is not None:
                linear.weight *= scale.double()[:, None]
    dense = encode(exact, batch, [()])
    assert isinstance(dense, torch.Tensor)
    assert distance(found, logits(exact, b, dense.float(), batch)) < 1e-4
    plain = encode(Backbone(four.folder, device="cpu"), batch, [list(b.parts)])
    assert isinstance(plain, torch.Tensor) and distance(plain, sequence) > 0.1  # on other weights it does not hold


def test_what_was_trained_in_four_bits_says_so_and_so_does_what_is_made_of_it(
    fit: Fit, four: Backbone, data: Path, tmp_path: Path
) -> None:
    a = fit("mnli", on=four, name="a", out=tmp_path / "a")
    b = fit("udpos", on=four, start=merge(a), name="b", out=tmp_path / "b")
    full = fit("udpos", name="full")
    for module in (a, b, load(tmp_path / "b"), compose(merge(a, b)), compose(merge(merge(a), full))):
        assert module.training["bits"] == 4 and module.notes.count(NOTE) == 1
    assert "bits" not in full.training and NOTE not in full.notes
    assert load(tmp_path / "b").base == full.base  # the base is its files
    scores = evaluate(b, on=four, task="udpos", languages="en,de", data=data, limit=3, progress=False)
    assert scores.options["bits"] == 4 and scores.base.fingerprint == four.fingerprint


def test_a_run_in_other_bits_is_another_request(fit: Fit, four: Backbone, on: Backbone, tmp_path: Path) -> None:
    fit(on=four, out=tmp_path / "m")
    with pytest.raises(Exception, match="holds a module of other data, settings or base"):
        fit(on=on, out=tmp_path / "m", resume=True)


@pytest.mark.parametrize("bits", [8, 4])
def test_peft_and_packed_train_alike_on_quantised_weights(bits: int, still: Path, fit: Fit, tmp_path: Path) -> None:
    on = Backbone(still, bits=bits, device="cpu")
    found = [fit(on=on, method=LoRA(rank=2), engine=engine).parts[0].tensors() for engine in ("packed", "peft")]
    for name, tensor in found[0].items():
        assert float((tensor - found[1][name]).norm()) <= 1e-3 * float(tensor.norm()), name


def test_an_engine_that_would_train_fewer_weights_than_there_are_is_stopped(
    fit: Fit, four: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As adapters does with a model that was quantised after its modules were put in: only the head would learn.
    monkeypatch.setattr(PackedEngine, "parameters", lambda self: {})
    with pytest.raises(TrainingError, match="The packed engine would train 0 weights, expected 2,"):
        fit(on=four)


def test_checkpointing_and_embeddings_on_the_cpu_give_the_same_module(
    fit: Fit, tiny_xlmr: Path, tmp_path: Path
) -> None:
    lean = Backbone(tiny_xlmr, device="cpu", embeddings="cpu", checkpointing=True)
    module = fit(on=lean, out=tmp_path / "m")
    assert module.digest() == fit().digest()
    assert module.training["checkpointing"] is True and module.training["embeddings"] == "cpu"
    assert fit(on=Backbone(tiny_xlmr, device="cpu"), out=tmp_path / "m", resume=True).digest() == module.digest()


def test_bf16_trains_fp32_weights_as_fp32_does_to_rounding(fit: Fit, still: Path) -> None:
    modules = [fit(on=Backbone(still, dtype=dtype, device="cpu")) for dtype in ("bf16", "fp32")]
    found, expected = ({**m.parts[0].tensors(), **m.head.tensors} for m in modules if m.head)
    assert {t.dtype for t in found.values()} == {torch.float32}
    total = sum(float((found[n] - expected[n]).square().sum()) for n in found) ** 0.5
    assert 0 < total < 0.2 * sum(float(t.square().sum()) for t in expected.values()) ** 0.5
