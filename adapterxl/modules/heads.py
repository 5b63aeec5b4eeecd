"""Heads: what turns the encoder's hidden states into an answer, one per kind of task, in Hugging Face's shapes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbone import Backbone
from ..errors import BackboneError, TaskError, UsageError
from ..ragged import RaggedBatch
from .base import dropout, linear


class HeadSpace(Protocol):
    """What a head needs to know of a backbone."""

    hidden: int
    model_type: str
    config: Any


class Head(nn.Module):
    """A head on packed hidden states.

    Its weights carry the names of the Hugging Face model class for the same kind, so a PEFT folder holds them
    as `modules_to_save` and vanilla code finds them.

    Attributes:
        kind: classify, tag, span, choice or mask.
        labels: Label names; empty for span, choice and mask.
    """

    kind: str

    def __init__(self, on: HeadSpace, labels: Sequence[str], outputs: int, dense: str | None, out: str) -> None:
        super().__init__()
        self.labels = tuple(labels)
        rate = getattr(on.config, "classifier_dropout", None)
        self.dropout_p = float(on.config.hidden_dropout_prob if rate is None else rate)
        self.dense, self.out = dense, out
        self.weights = nn.ParameterDict()
        for name, width in ((dense, on.hidden), (out, outputs)):
            if name is not None:
                self.weights[_flat(name, "weight")] = nn.Parameter(torch.zeros(width, on.hidden))
                self.weights[_flat(name, "bias")] = nn.Parameter(torch.zeros(width))

    def initialise(self, std: float, generator: torch.Generator) -> Head:
        """Fresh weights, normal(0, std), and zero biases, as Hugging Face does."""
        with torch.no_grad():
            for name in sorted(self.weights):
                if name.endswith("weight"):
                    self.weights[name].normal_(0.0, std, generator=generator)
        return self

    def linear(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[_flat(name, "weight")], self.weights[_flat(name, "bias")])

    def forward(self, hidden: Tensor, batch: RaggedBatch, select: Tensor | None = None) -> Tensor:
        """Scores from hidden states (tokens, hidden).

        Returns:
            (rows, outputs) in the caller's row order for classify and choice; (tokens, outputs), or
            (selected, outputs) with `select` as token indices, for tag, span and mask.
        """
        hidden = hidden.to(next(iter(self.weights.values())).dtype)
        if self.kind in ("classify", "choice"):
            x = hidden.index_select(0, batch.first_tokens)
            if self.kind == "classify" and self.dense != "pooler.dense":
                x = dropout(x, self.dropout_p, self.training)
            if self.dense is not None:
                x = torch.tanh(self.linear(self.dense, x))
        else:
            x = hidden if select is None else hidden.index_select(0, select)
        if self.kind != "span":  # Hugging Face's span head has no dropout
            x = dropout(x, self.dropout_p, self.training)
        return self.linear(self.out, x)

    def shaped(self, on: Backbone) -> Head:
        """The head as shapes without numbers, for a backbone that is shapes too."""
        return copy.deepcopy(self).to(on.device)

    def tensors(self) -> dict[str, Tensor]:
        """Weights under Hugging Face names, such as ``classifier.out_proj.weight``."""
        named = {}
        for name in (self.dense, self.out):
            for end in ("weight", "bias"):
                if name is not None:
                    named[f"{name}.{end}"] = self.weights[_flat(name, end)].detach()
        return dict(sorted(named.items()))

    def load(self, tensors: dict[str, Tensor]) -> Head:
        """Take over weights under Hugging Face names; shapes must fit."""
        with torch.no_grad():
            for name, tensor in tensors.items():
                module, end = name.rsplit(".", 1)
                own = self.weights[_flat(module, end)]
                if own.shape != tensor.shape:
                    raise TaskError(
                        f"Head weight {name}: found shape {tuple(tensor.shape)}, expected {tuple(own.shape)}."
                    )
                own.copy_(tensor)
        return self


class ClassifyHead(Head):
    """XLM-R: dense, tanh, projection of <s>. BERT: its pooler (trained here, and kept) and a classifier."""

    kind = "classify"

    def __init__(self, on: HeadSpace, labels: Sequence[str]) -> None:
        bert = on.model_type == "bert"
        dense, out = ("pooler.dense", "classifier") if bert else ("classifier.dense", "classifier.out_proj")
        super().__init__(on, labels, len(labels), dense, out)


class TagHead(Head):
    """A classifier on each word's first sub-word."""

    kind = "tag"

    def __init__(self, on: HeadSpace, labels: Sequence[str]) -> None:
        super().__init__(on, labels, len(labels), None, "classifier")


class SpanHead(Head):
    """Start and end scores of each token."""

    kind = "span"

    def __init__(self, on: HeadSpace, labels: Sequence[str] = ()) -> None:
        super().__init__(on, (), 2, None, "qa_outputs")
        _keep_bias(self)


class ChoiceHead(Head):
    """One score per (context, choice) row: pooler and classifier."""

    kind = "choice"

    def __init__(self, on: HeadSpace, labels: Sequence[str] = ()) -> None:
        super().__init__(on, (), 1, "pooler.dense", "classifier")
        _keep_bias(self)


class MaskHead(Head):
    """The backbone's own head for masked tokens, as its checkpoint stores it: dense, activation, LayerNorm, decoder.

    It is frozen, and no part of a module. The decoder is the table of token embeddings, unless the checkpoint's
    config.json says that they are not tied; then it is read too.

    Raises:
        BackboneError: If the checkpoint does not store it, or in other shapes.
        UsageError: If the table is kept apart from the GPU.
    """

    kind = "mask"

    def __init__(self, on: HeadSpace, labels: Sequence[str] = ()) -> None:
        assert isinstance(on, Backbone)  # modules have no such head, so none is read of a folder
        nn.Module.__init__(self)
        if on.embeddings == "cpu" and on.device.type == "cuda":
            raise UsageError(
                "Masked language modelling scores every token of the vocabulary with the table of token embeddings: "
                "leave out --embeddings cpu."
            )
        from transformers.activations import ACT2FN

        self.labels, self.weights = (), nn.ParameterDict()
        bert, width, words = on.model_type == "bert", on.hidden, on.config.vocab_size
        prefix, norm = ("cls.predictions.transform.", "LayerNorm") if bert else ("lm_head.", "layer_norm")
        own = "cls.predictions." if bert else "lm_head."
        for name, place, shape in (
            ("dense", f"{prefix}dense.weight", (width, width)),
            ("dense_bias", f"{prefix}dense.bias", (width,)),
            ("norm", f"{prefix}{norm}.weight", (width,)),
            ("norm_bias", f"{prefix}{norm}.bias", (width,)),
            ("bias", f"{own}bias", (words,)),
            *(() if on.config.tie_word_embeddings else (("decoder", f"{own}decoder.weight", (words, width)),)),
        ):
            self.register_buffer(name, _stored(on, place, shape), persistent=False)
        self._on, self._epsilon = on, on.config.layer_norm_eps
        self._activation = ACT2FN[on.config.hidden_act] if bert else F.gelu

    def forward(self, hidden: Tensor, batch: RaggedBatch, select: Tensor | None = None) -> Tensor:
        held: Any = self._buffers
        decoder = held["decoder"] if "decoder" in held else self._on.model.embeddings.word_embeddings.weight
        x = (hidden if select is None else hidden.index_select(0, select)).to(decoder.dtype)
        x = self._activation(linear(x, held["dense"], held["dense_bias"]))
        x = F.layer_norm(x, x.shape[1:], held["norm"].to(x.dtype), held["norm_bias"].to(x.dtype), self._epsilon)
        return linear(x, decoder, held["bias"])

    def shaped(self, on: Backbone) -> Head:
        return MaskHead(on).to(on.device)

    def tensors(self) -> dict[str, Tensor]:
        """None: they are the backbone's."""
        return {}

    def digest(self) -> str:
        """sha256 over what was read: no part of the backbone's fingerprint, which is that of the encoder alone."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.named_buffers()):
            found.update(f"{name} {tuple(tensor.shape)} ".encode())
            found.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return found.hexdigest()


def _stored(on: Backbone, name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of a checkpoint's head for masked tokens, in the backbone's precision."""
    try:
        found = on.stored(name)
    except BackboneError as error:
        raise BackboneError(
            f"{on.name}: the checkpoint has no head for masked tokens (no tensor {name}), which masked language "
            "modelling needs. Give a base that was saved with it, such as FacebookAI/xlm-roberta-base."
        ) from error
    if found.shape != shape:
        raise BackboneError(f"{on.name}: {name}: found shape {tuple(found.shape)}, expected {shape}.")
    return found.to(on.dtype)


def _keep_bias(head: Head) -> None:
    """Keep the bias of a head whose scores compete with each other: it adds the same to all of them, so its gradient
    is zero, and Adam would only make the rounding of it into steps."""
    head.weights[_flat(head.out, "bias")].requires_grad_(False)


_HEADS = {head.kind: head for head in (ClassifyHead, TagHead, SpanHead, ChoiceHead, MaskHead)}


def make_head(kind: str, on: HeadSpace, labels: Sequence[str]) -> Head:
    """The head for a kind of task, with zero weights."""
    if kind not in _HEADS:
        raise TaskError(f"A task of kind '{kind}' has no head: it is evaluated with the hidden states alone.")
    return _HEADS[kind](on, labels)


def row_losses(kind: str, scores: Tensor, batch: RaggedBatch, targets: Any) -> Tensor:
    """Mean cross-entropy over the batch's targets, a scalar.

    Args:
        scores: What the head gave.
        targets: classify: label ids (rows,). choice: (choices per item, label ids (items,)).
            tag, mask: tag or token ids (selected,), in the order of `select`. span: (start, end) token positions within
            their rows, (rows, 2), in the caller's row order.
    """
    scores = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
    if kind in ("classify", "tag", "mask"):
        return F.cross_entropy(scores, targets)
    if kind == "choice":
        choices, labels = targets
        return F.cross_entropy(scores.view(-1, choices), labels)
    order = torch.tensor(batch.order, device=targets.device)
    packed = targets.index_select(0, order)
    total, row = scores.new_zeros(()), 0
    sizes = [rows * length for rows, length in batch.runs]
    for (rows, length), piece in zip(batch.runs, scores.split(sizes), strict=True):
        wanted = packed[row : row + rows]
        for side in (0, 1):
            logits = piece[:, side].view(rows, length)
            total = total + F.cross_entropy(logits, wanted[:, side], reduction="sum")
        row += rows
    return total / (2 * batch.rows)


def _flat(name: str, end: str) -> str:
    return f"{name}.{end}".replace(".", "_")
