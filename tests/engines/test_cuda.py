"""On a GPU: variable-length flash attention and the whole encoder give what the CPU gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import backbone, distance, random_part, random_rows

from adapterxl.attention import packed_attention
from adapterxl.backbone import Backbone
from adapterxl.engines import get_engine
from adapterxl.engines.encoder import encode
from adapterxl.modules import Bottleneck, LoRA
from adapterxl.ragged import pack

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")]

LENGTHS = (7, 1, 512, 2, 40, 1, 129, 7, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_attention_of_ragged_rows_equals_the_cpu(dtype: torch.dtype):
    batch = pack([[5] * length for length in LENGTHS])
    generator = torch.Generator().manual_seed(0)
    qkv = [torch.randn(batch.tokens, 192, generator=generator).to(dtype) for _ in range(3)]
    weights = torch.randn(batch.tokens, 192, generator=generator)
    exact = [t.double().requires_grad_(True) for t in qkv]
    fast = [t.cuda().requires_grad_(True) for t in qkv]
    expected = packed_attention(*exact, batch, heads=4)
    found = packed_attention(*fast, batch.to("cuda"), heads=4)
    assert found.dtype == dtype
    # Rounding of one value: 2**-8 in bf16, 2**-11 in fp16; the largest of many, so a few of them.
    tolerance = 0.05 if dtype == torch.bfloat16 else 0.01
    assert distance(found.cpu(), expected) < tolerance
    (expected * weights.double()).sum().backward()
    (found * weights.cuda().to(dtype)).sum().backward()
    for one, other in zip(fast, exact, strict=True):
        assert one.grad is not None and other.grad is not None
        assert distance(one.grad.cpu(), other.grad) < 4 * tolerance


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_dropout_of_ragged_rows_is_right_in_expectation_and_its_gradient_too(dtype: torch.dtype):
    lengths, many = (6, 2, 11), 2000
    batch, wide = (pack([[5] * length for length in lengths for _ in range(n)]).to("cuda") for n in (1, many))
    qkv = [torch.randn(batch.tokens, 64, device="cuda").to(dtype).requires_grad_(True) for _ in range(3)]
    places = ((0, 2), (2, 6), (8, 11))  # rows in order of length: first token, tokens
    index = torch.tensor([start + i for start, n in places for _ in range(many) for i in range(n)]).cuda()
    out = packed_attention(*(t[index] for t in qkv), wide, heads=4, dropout=0.3)
    mean = torch.zeros(batch.tokens, 64, device="cuda").index_add(0, index, out.float()) / many
    expected = packed_attention(*qkv, batch, heads=4).float()
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.1)  # a standard error is 0.015
    assert distance(out.cpu(), expected[index].cpu()) > 0.5
    found, wanted = (torch.autograd.grad(t.sum(), qkv) for t in (mean, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=0, atol=0.2)


@pytest.mark.parametrize("which", ["tiny_xlmr", "tiny_bert"])
# fp32 on CUDA: matrix products are summed in another order than on the CPU.
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp64", 1e-10), ("fp32", 1e-4), ("bf16", 0.2)])
def test_every_layer_equals_the_cpu(which: str, dtype: str, tolerance: float, request: pytest.FixtureRequest):
    folder: Path = request.getfixturevalue(which)
    cpu, cuda = backbone(folder), Backbone(folder, dtype=dtype, device="cuda")
    assert cuda.device.type == "cuda" and cuda.fingerprint == cpu.fingerprint
    batch = pack(random_rows(LENGTHS, cpu))
    fast, exact = (encode(on, batch.to(on.device), [()], keep_all=True) for on in (cuda, cpu))
    for layer, (found, expected) in enumerate(zip(fast, exact, strict=True)):
        assert found.device.type == "cuda"
        assert distance(found.cpu(), expected) < tolerance, f"layer {layer}"


def test_rows_with_different_modules_equal_the_cpu(tiny_xlmr: Path):
    cpu, cuda = backbone(tiny_xlmr), Backbone(tiny_xlmr, dtype="fp64", device="cuda")
    plans = [
        [[], [random_part(LoRA(rank=2), cpu, 1).to(on.device)], [random_part(Bottleneck(), cpu, 2).to(on.device)]]
        for on in (cpu, cuda)
    ]
    batch = pack(random_rows((5, 9, 5, 1), cpu), groups=[0, 1, 2, 1])
    found, expected = encode(cuda, batch.to("cuda"), plans[1]), encode(cpu, batch, plans[0])
    assert isinstance(found, torch.Tensor) and isinstance(expected, torch.Tensor)
    assert distance(found.cpu(), expected) < 1e-10


@pytest.mark.parametrize("engine", ["packed", "peft", "adapters"])
def test_each_engine_trains_in_bf16(tiny_xlmr: Path, engine: str):
    on = Backbone(tiny_xlmr, dtype="bf16", device="cuda")
    part = random_part(LoRA(rank=2, sites=("query", "ffn_down")), on)
    built = get_engine(engine)(on, [], part)
    batch = pack(random_rows((5, 9, 5, 1), on)).to("cuda")
    for training in (False, True):
        built.hidden(batch, training=training).float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in built.parameters().values())
