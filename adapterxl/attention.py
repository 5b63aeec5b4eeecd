"""Packed attention: every row attends to itself only, and no padding is computed.

`packed_attention` is the function; `installed` puts it into a Hugging Face encoder, so that vanilla peft
and adapters modules on that encoder run packed as well.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .ragged import RaggedBatch


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, batch: RaggedBatch, heads: int, dropout: float = 0.0
) -> Tensor:
    """Softmax attention inside each row of a ragged batch.

    On CUDA one variable-length call serves all rows, in training with dropout too. Elsewhere rows of equal length,
    which lie together, are seen as one rectangle and given to `scaled_dot_product_attention` without copies or masks.

    Args:
        query: Shape (tokens, hidden), rows as in `batch`; or (rows, hidden), with a query for each row's first token.
        key, value: Shape (tokens, hidden).
        batch: Which tokens make a row.
        heads: Attention heads; hidden is divided among them.
        dropout: Probability on the attention weights.

    Returns:
        The shape of query.
    """
    hidden = query.shape[1]
    width = hidden // heads
    first_only = len(query) != len(key)
    if _has_varlen_kernel(query, width):
        q, k, v = (t.view(len(t), heads, width) for t in (query, key, value))
        longest = max(batch.lengths)
        asking = (batch.row_numbers, 1) if first_only else (batch.offsets, longest)
        return varlen_attention(q, k, v, asking, (batch.offsets, longest), dropout).reshape(query.shape)
    sizes = [rows * length for rows, length in batch.runs]
    asked = [rows for rows, _ in batch.runs] if first_only else sizes
    pieces = []
    for (rows, _), *qkv in zip(batch.runs, query.split(asked), key.split(sizes), value.split(sizes), strict=True):
        q, k, v = (t.view(rows, -1, heads, width).transpose(1, 2) for t in qkv)
        if dropout and not q.is_cuda:
            attended = _attention_with_dropout(q, k, v, dropout)
        else:
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        pieces.append(attended.transpose(1, 2).reshape(-1, hidden))
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    asking: tuple[Tensor, int],
    asked: tuple[Tensor, int],
    dropout: float = 0.0,
) -> Tensor:
    """Attention inside each of many rows by one kernel: flash attention in half precision, else the memory-efficient.

    The operations are those that `scaled_dot_product_attention` of jagged tensors runs. The public
    `torch.nn.attention.varlen` calls the first, without dropout.

    Args:
        query, key, value: Shape (tokens, heads, width), on CUDA.
        asking: Where the rows of the query begin and the last ends, shape (rows + 1,), int32; the longest one's tokens.
        asked: The same of key and value.

    Returns:
        The shape of query.
    """
    if query.dtype in (torch.float16, torch.bfloat16):
        flash = torch.ops.aten._flash_attention_forward
        found = flash(query, key, value, asking[0], asked[0], asking[1], asked[1], dropout, False, False)
        return found[0]
    q, k, v = (t.unsqueeze(0) for t in (query, key, value))
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))  # what the backward pass needs
    efficient = torch.ops.aten._efficient_attention_forward
    found = efficient(q, k, v, None, asking[0], asked[0], asking[1], asked[1], dropout, 0, keep)
    return found[0].squeeze(0)


def _has_varlen_kernel(query: Tensor, width: int) -> bool:
    """Ampere or newer, half or single precision, heads of a multiple of 8."""
    return (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and width % 8 == 0
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _attention_with_dropout(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """Attention for training on the CPU, where PyTorch has no fused kernel with dropout.

    Its general form keeps the dropout mask in the dtype of the weights and checks every softmax for rows that
    are masked out whole; there are none here, and the mask is kept in one byte per weight.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    weights = torch.native_dropout(torch.softmax(scores, dim=-1), dropout, True)[0]
    return weights @ value


@contextmanager
def installed(encoder: Any, batch: RaggedBatch) -> Iterator[None]:
    """While open, the self-attention of `encoder` treats its input of shape (1, tokens, hidden) as `batch`.

    Only the instances are changed, and they are put back on leaving. Meant for transformers 4.57, where
    these encoders offer no hook for an attention function.
    """

    def forward(self: Any, hidden_states: Tensor, *_: object, **__: object) -> tuple[Tensor]:
        x = hidden_states.squeeze(0)
        q, k, v = self.query(x), self.key(x), self.value(x)
        p = self.dropout.p if self.training else 0.0
        return (packed_attention(q, k, v, batch, self.num_attention_heads, p).unsqueeze(0),)

    attentions = [layer.attention.self for layer in encoder.layer]
    before = [attention.__dict__.get("forward") for attention in attentions]
    try:
        for attention in attentions:
            attention.forward = types.MethodType(forward, attention)
        yield
    finally:
        for attention, old in zip(attentions, before, strict=True):
            if old is None:
                del attention.forward
            else:
                attention.forward = old
