"""Heads: Hugging Face's names, shapes, scores and losses, from the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import backbone, distance, random_rows
from torch import Tensor, nn

import adapterxl.modules.heads as heads
from adapterxl.backbone import Backbone
from adapterxl.engines.encoder import encode
from adapterxl.errors import TaskError
from adapterxl.modules import Head, make_head
from adapterxl.modules.heads import row_losses
from adapterxl.ragged import RaggedBatch, pack

CLASSES = {
    "classify": "SequenceClassification",
    "tag": "TokenClassification",
    "span": "QuestionAnswering",
    "choice": "MultipleChoice",
}
LABELS = {"classify": ("no", "maybe", "yes"), "tag": ("O", "B", "I", "X"), "span": (), "choice": ()}
KINDS = tuple(CLASSES)
LENGTHS = (9, 4, 17, 4, 30, 2)


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def on(request: pytest.FixtureRequest) -> Backbone:
    return backbone(request.getfixturevalue(request.param))


def stock(on: Backbone, kind: str) -> Any:
    """The Hugging Face class for this kind, on the same backbone, with a random head."""
    prefix = {"xlm-roberta": "XLMRoberta", "bert": "Bert"}[on.model_type]
    labels = {"num_labels": len(LABELS[kind])} if LABELS[kind] else {}
    torch.manual_seed(0)
    model_class = getattr(transformers, f"{prefix}For{CLASSES[kind]}")
    model = model_class.from_pretrained(on.folder, torch_dtype=on.dtype, **labels)
    with torch.no_grad():
        for weight in head_weights(model).values():
            weight.normal_(0, 0.3)
    return model.eval()


def head_weights(model: Any) -> dict[str, Tensor]:
    """All that is not the encoder, without the name of the base model."""
    names = {name.removeprefix(f"{model.base_model_prefix}."): p for name, p in model.named_parameters()}
    return {name: p for name, p in names.items() if not name.startswith(("embeddings.", "encoder."))}


def ours(on: Backbone, kind: str, model: Any) -> Head:
    return make_head(kind, on, LABELS[kind]).to(on.dtype).load(head_weights(model)).eval()


def hidden(on: Backbone, batch: RaggedBatch) -> Tensor:
    states = encode(on, batch, [()])
    assert isinstance(states, Tensor)
    return states


def padded(rows: list[list[int]], on: Backbone) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [on.config.pad_token_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def stock_scores(model: Any, kind: str, rows: list[list[int]], on: Backbone) -> Tensor:
    """(rows, outputs), or (tokens, outputs) with the rows in the caller's order."""
    ids, mask = padded(rows, on)
    with torch.no_grad():
        if kind == "choice":
            half = (len(rows) // 2, 2, -1)
            return model(input_ids=ids.view(half), attention_mask=mask.view(half)).logits.reshape(-1, 1)
        output = model(input_ids=ids, attention_mask=mask)
    if kind == "classify":
        return output.logits
    scores = torch.stack((output.start_logits, output.end_logits), -1) if kind == "span" else output.logits
    return torch.cat([scores[i, : len(row)] for i, row in enumerate(rows)])


def in_callers_order(scores: Tensor, rows: list[list[int]], batch: RaggedBatch) -> Tensor:
    return torch.cat([scores[start : start + len(row)] for start, row in zip(batch.starts, rows, strict=True)])


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_shapes_are_hugging_faces(on: Backbone, kind: str):
    theirs = head_weights(stock(on, kind))
    found = make_head(kind, on, LABELS[kind]).tensors()
    assert {name: tensor.shape for name, tensor in found.items()} == {name: p.shape for name, p in theirs.items()}
    assert list(found) == sorted(found)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_hugging_faces_from_the_same_weights(on: Backbone, kind: str):
    model = stock(on, kind)
    rows = random_rows(LENGTHS, on)
    batch = pack(rows)
    found = ours(on, kind, model)(hidden(on, batch), batch)
    if kind in ("tag", "span"):
        found = in_callers_order(found, rows, batch)
    assert distance(found, stock_scores(model, kind, rows, on)) < 1e-10


@pytest.mark.parametrize("kind", ["tag", "span"])
def test_selected_tokens_get_the_scores_they_have_among_all(on: Backbone, kind: str):
    head, batch = ours(on, kind, stock(on, kind)), pack(random_rows(LENGTHS, on))
    states, select = hidden(on, batch), torch.tensor([3, 0, 17, 40])
    torch.testing.assert_close(head(states, batch, select), head(states, batch)[select])


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradients_equal_hugging_faces(on: Backbone, kind: str):
    """For span on a single row: Hugging Face's softmax runs over padding as well."""
    model = stock(on, kind)
    rows = random_rows((9,) if kind == "span" else LENGTHS, on)
    ids, mask = padded(rows, on)
    batch = pack(rows)
    head = ours(on, kind, model)
    targets: Any
    if kind == "classify":
        labels = torch.tensor([0, 2, 1, 1, 0, 2])
        expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        targets = labels
    elif kind == "choice":
        labels = torch.tensor([1, 0, 1])
        half = (3, 2, -1)
        expected = model(input_ids=ids.view(half), attention_mask=mask.view(half), labels=labels).loss
        targets = (2, labels)
    elif kind == "tag":
        tags = [[(i + j) % 4 for j in range(len(row))] for i, row in enumerate(rows)]
        ignored = torch.tensor([tag + [-100] * (ids.shape[1] - len(tag)) for tag in tags])
        expected = model(input_ids=ids, attention_mask=mask, labels=ignored).loss
        targets = torch.tensor([tag for row in batch.order for tag in tags[row]])
    else:
        start, end = torch.tensor([3]), torch.tensor([7])
        expected = model(input_ids=ids, attention_mask=mask, start_positions=start, end_positions=end).loss
        targets = torch.tensor([[3, 7]])
    found = row_losses(kind, head(hidden(on, batch), batch), batch, targets)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    found.backward()
    expected.backward()
    theirs = head_weights(model)
    named = {name: head.weights[name.replace(".", "_")] for name in head.tensors()}
    for name, weight in named.items():
        # Absolute: a bias that softmax cancels has a gradient of zero; ours does not learn.
        assert (weight.grad is None) == (kind in ("span", "choice") and name == f"{head.out}.bias")
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        torch.testing.assert_close(grad, theirs[name].grad, rtol=1e-10, atol=1e-12, msg=name)


def test_the_span_loss_of_a_ragged_batch_is_the_mean_of_its_rows(on: Backbone):
    head = ours(on, "span", stock(on, "span"))
    rows = random_rows((9, 4, 17, 4), on)
    targets = torch.tensor([[1, 8], [0, 0], [16, 16], [2, 3]])
    batch = pack(rows)
    joint = row_losses("span", head(hidden(on, batch), batch), batch, targets)
    single = []
    for row, target in zip(rows, targets, strict=True):
        one = pack([row])
        single.append(row_losses("span", head(hidden(on, one), one), one, target[None]).item())
    assert joint.item() == pytest.approx(sum(single) / 4, rel=1e-10)


def test_losses_of_bf16_scores_are_computed_in_fp32():
    batch = pack([[0, 5, 2], [0, 2]])
    scores = torch.randn(2, 3, dtype=torch.bfloat16)
    loss = row_losses("classify", scores, batch, torch.tensor([0, 2]))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nn.functional.cross_entropy(scores.float(), torch.tensor([0, 2])))


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_where_and_as_often_as_in_hugging_face(on: Backbone, kind: str, monkeypatch: pytest.MonkeyPatch):
    model = stock(on, kind)
    theirs: list[tuple[float, int]] = []
    base = set(model.base_model.encoder.modules()) | set(model.base_model.embeddings.modules())
    for module in set(model.modules()) - base:
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, args, out: theirs.append((module.p, args[0].shape[-1])))
    rows = random_rows((5, 5), on)
    stock_scores(model, kind, rows, on)

    found: list[tuple[float, int]] = []

    def record(x: Tensor, p: float, training: bool) -> Tensor:
        assert training
        found.append((p, x.shape[-1]))
        return x

    monkeypatch.setattr(heads, "dropout", record)
    batch = pack(rows)
    ours(on, kind, model).train()(hidden(on, batch), batch)
    assert found == theirs


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_gives_the_same_scores_every_time_outside_training(on: Backbone, kind: str):
    head, batch = ours(on, kind, stock(on, kind)), pack(random_rows(LENGTHS, on))
    states = hidden(on, batch)
    assert torch.equal(head(states, batch), head(states, batch))
    head.train()
    assert torch.equal(head(states, batch), head(states, batch)) == (kind == "span")


def test_a_configs_classifier_dropout_wins_over_the_hidden_one(on: Backbone, monkeypatch: pytest.MonkeyPatch):
    assert make_head("tag", on, ("x", "y")).dropout_p == on.config.hidden_dropout_prob
    monkeypatch.setattr(on.config, "classifier_dropout", 0.0)
    assert make_head("tag", on, ("x", "y")).dropout_p == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_weights_are_normal_with_zero_biases_and_follow_the_seed(on: Backbone, kind: str):
    fresh = [
        make_head(kind, on, LABELS[kind]).initialise(0.02, torch.Generator().manual_seed(seed)).tensors()
        for seed in (1, 1, 2)
    ]
    for name, tensor in fresh[0].items():
        if name.endswith("bias"):
            assert (tensor == 0).all()
        else:
            assert torch.equal(tensor, fresh[1][name]) and not torch.equal(tensor, fresh[2][name])
            assert 0.01 < float(tensor.square().mean().sqrt()) < 0.04


def test_a_head_scores_bf16_states_with_its_own_weights(on: Backbone):
    head, batch = ours(on, "classify", stock(on, "classify")).float(), pack(random_rows((3, 4), on))
    assert head(hidden(on, batch).bfloat16(), batch).dtype == torch.float32


def test_weights_of_another_shape_are_refused(on: Backbone):
    with pytest.raises(TaskError, match=r"Head weight classifier.bias: found shape \(4,\), expected \(2,\)"):
        make_head("tag", on, ("x", "y")).load({"classifier.bias": torch.zeros(4)})


def test_a_kind_without_a_head_is_refused(on: Backbone):
    with pytest.raises(TaskError, match="A task of kind 'retrieve' has no head"):
        make_head("retrieve", on, ())


def test_tensors_of_a_loaded_head_are_what_was_loaded(on: Backbone, tmp_path: Path):
    weights = {name: p.detach() for name, p in head_weights(stock(on, "classify")).items()}
    found = make_head("classify", on, LABELS["classify"]).to(on.dtype).load(weights).tensors()
    assert found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)
