"""Packed attention gives what dense attention with a block-diagonal mask gives, and leaves no trace behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import backbone, distance, random_rows
from torch import Tensor

from adapterxl.attention import installed, packed_attention, varlen_attention
from adapterxl.ragged import RaggedBatch, pack

HEADS, HIDDEN = 4, 32


def qkv(batch: RaggedBatch, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch.tokens, HIDDEN, generator=generator, dtype=dtype).requires_grad_(True) for _ in range(3)]


def dense(query: Tensor, key: Tensor, value: Tensor, batch: RaggedBatch) -> Tensor:
    """Attention of all tokens to all tokens, with every weight between two rows masked out."""
    row = torch.repeat_interleave(torch.arange(batch.rows), torch.tensor(batch.lengths))
    q, k, v = (t.view(batch.tokens, HEADS, -1).transpose(0, 1) for t in (query, key, value))
    scores = q @ k.transpose(1, 2) / (HIDDEN // HEADS) ** 0.5
    scores = scores.masked_fill(row[:, None] != row[None, :], float("-inf"))
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(batch.tokens, HIDDEN)


def batch_of(*lengths: int) -> RaggedBatch:
    return pack([[5] * length for length in lengths])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_packed_attention_equals_dense_attention_masked_per_row(lengths: list[int]):
    batch = batch_of(*lengths)
    q, k, v = qkv(batch)
    torch.testing.assert_close(packed_attention(q, k, v, batch, HEADS), dense(q, k, v, batch), rtol=0, atol=1e-12)


def test_gradients_equal_those_of_dense_attention():
    batch = batch_of(3, 1, 7, 3, 20)
    packed_in, dense_in = qkv(batch), qkv(batch)
    weights = torch.randn(batch.tokens, HIDDEN, dtype=torch.float64)
    (packed_attention(*packed_in, batch, HEADS) * weights).sum().backward()
    (dense(*dense_in, batch) * weights).sum().backward()
    for found, expected in zip(packed_in, dense_in, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=1e-12)


def test_a_row_of_one_token_attends_to_itself():
    batch = batch_of(1, 1)
    q, k, v = qkv(batch)
    torch.testing.assert_close(packed_attention(q, k, v, batch, HEADS), v)


def test_dropout_is_right_in_expectation_and_its_gradient_too():
    batch = batch_of(2, 6, 6)
    q, k, v = qkv(batch, dtype=torch.float32)
    many = 3000
    # Copies of one batch as one larger batch: one call draws all masks.
    wide = batch_of(*(batch.lengths[i] for i in range(batch.rows) for _ in range(many)))
    starts, index = 0, []
    for length in batch.lengths:
        index += list(range(starts, starts + length)) * many
        starts += length
    torch.manual_seed(0)
    out = packed_attention(*(t[index] for t in (q, k, v)), wide, HEADS, dropout=0.3)
    mean = torch.zeros(batch.tokens, HIDDEN).index_add(0, torch.tensor(index), out) / many
    expected = packed_attention(q, k, v, batch, HEADS)
    # The standard error is at most sqrt(0.3 / 0.7 / 3000) = 0.012 of |v| ~ 1; 6 of them.
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.075)
    assert distance(out, expected[index]) > 0.5
    found = torch.autograd.grad(mean.sum(), (q, k, v))
    wanted = torch.autograd.grad(expected.sum(), (q, k, v))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.15)


def test_dropout_draws_another_mask_each_time():
    batch = batch_of(8, 8)
    q, k, v = qkv(batch)
    first, second = (packed_attention(q, k, v, batch, HEADS, dropout=0.5) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_variable_length_kernels_are_called_as_this_pytorch_has_them(dtype: torch.dtype):
    """Without a GPU: their signatures, shapes and derivatives, on tensors without values."""
    qkv = [torch.empty(50, HEADS, 8, dtype=dtype, device="meta", requires_grad=True) for _ in range(3)]
    offsets = torch.empty(4, dtype=torch.int32, device="meta")
    for dropout in (0.0, 0.1):
        assert varlen_attention(qkv[0][:3], *qkv[1:], (offsets, 1), (offsets, 20), dropout).shape == (3, HEADS, 8)
        found = varlen_attention(*qkv, (offsets, 20), (offsets, 20), dropout)
        assert (found.shape, found.dtype) == (qkv[0].shape, dtype)
        found.sum().backward()
        assert all(t.grad is not None and t.grad.shape == t.shape for t in qkv)


def test_installed_attention_runs_a_stock_encoder_on_packed_tokens(tiny_xlmr: Path):
    on = backbone(tiny_xlmr)
    batch = pack(random_rows((4, 1, 9), on))
    with installed(on.model.encoder, batch), torch.no_grad():
        packed = on.model(
            input_ids=batch.input_ids[None],
            position_ids=(batch.positions + on.position_offset)[None],
            attention_mask=torch.ones(1, batch.tokens),
        ).last_hidden_state[0]
    ids, _, mask, index = batch.padded(on.config.pad_token_id)
    with torch.no_grad():
        padded = on.model(input_ids=ids, attention_mask=mask).last_hidden_state.flatten(0, 1)[index]
    assert distance(packed, padded) < 1e-10


def test_installed_puts_every_instance_back(tiny_bert: Path):
    encoder = backbone(tiny_bert).model.encoder
    attentions = [layer.attention.self for layer in encoder.layer]
    classes = [type(attention).forward for attention in attentions]
    with installed(encoder, batch_of(2)):
        assert all("forward" in attention.__dict__ for attention in attentions)
    assert not any("forward" in attention.__dict__ for attention in attentions)
    assert [type(attention).forward for attention in attentions] == classes


def test_installed_puts_every_instance_back_after_an_error(tiny_bert: Path):
    encoder = backbone(tiny_bert).model.encoder
    with pytest.raises(RuntimeError, match="inside"), installed(encoder, batch_of(2)):
        raise RuntimeError("inside")
    assert not any("forward" in layer.attention.self.__dict__ for layer in encoder.layer)


def test_installed_inside_installed_gives_the_outer_one_back(tiny_bert: Path):
    encoder = backbone(tiny_bert).model.encoder
    with installed(encoder, batch_of(2)):
        outer = [layer.attention.self.forward for layer in encoder.layer]
        with installed(encoder, batch_of(3)):
            assert encoder.layer[0].attention.self.forward != outer[0]
        assert [layer.attention.self.forward for layer in encoder.layer] == outer
